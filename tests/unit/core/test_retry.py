import pytest

from compute.dispatch.retry import NEVER_RETRIED, Failure, RetryPolicy, classify
from compute.errors import InvalidInput, NotFound, OutOfMemory, StorageFailed, TaskFailed
from compute.schemas.enums import ErrorCategory

POLICY = RetryPolicy(max_retries=3, backoff_seconds=2, longest_seconds=5)


@pytest.mark.parametrize("category", list(ErrorCategory))
def test_only_failures_that_may_pass_are_retried(category: ErrorCategory) -> None:
    delay = POLICY.delay(Failure(category, "x"), 0)
    assert (delay is None) == (category in NEVER_RETRIED)
    assert {ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY} <= NEVER_RETRIED


def test_the_delay_doubles_up_to_a_limit_and_then_there_is_no_more() -> None:
    failure = Failure(ErrorCategory.PROVIDER_ERROR, "x")
    assert [POLICY.delay(failure, retries) for retries in range(5)] == [2, 4, 5, None, None]


@pytest.mark.parametrize(
    ("error", "category", "words"),
    [
        (InvalidInput("too wide", field="width"), ErrorCategory.INVALID_INPUT, "Invalid input: width: too wide"),
        (OutOfMemory("CUDA out of memory: 2 GiB"), ErrorCategory.OUT_OF_MEMORY, "CUDA out of memory"),
        (StorageFailed("bucket away"), ErrorCategory.STORAGE_ERROR, "bucket away"),
        (TaskFailed("slow", category=ErrorCategory.PROVIDER_TIMEOUT), ErrorCategory.PROVIDER_TIMEOUT, "slow"),
        (TimeoutError(), ErrorCategory.PROVIDER_TIMEOUT, "longer"),
        (NotFound("gone"), ErrorCategory.INTERNAL, "gone"),
        (ZeroDivisionError("division\nby zero"), ErrorCategory.INTERNAL, "ZeroDivisionError: division"),
        (ValueError(), ErrorCategory.INTERNAL, "ValueError: no message"),
    ],
)
def test_every_error_has_a_category_and_one_line(error: Exception, category: ErrorCategory, words: str) -> None:
    failure = classify(error)
    assert failure.category is category
    assert words in failure.message
    assert "\n" not in failure.message
