from uuid import UUID

import pytest

from compute.dispatch.retry import NEVER_RETRIED, Failure, RetryPolicy, classify
from compute.errors import InvalidInput, NotFound, OutOfMemory, StorageFailed, TaskFailed
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import ClaimedTask, Fail, Lease, Release

POLICY = RetryPolicy(max_retries=3, backoff_seconds=2, longest_seconds=5, free_losses=4, chance=lambda: 1.0)


@pytest.mark.parametrize("category", list(ErrorCategory))
def test_only_failures_that_may_pass_are_retried(category: ErrorCategory) -> None:
    delay = POLICY.delay(Failure(category, "x"), 0)
    assert (delay is None) == (category in NEVER_RETRIED)
    assert {ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY} <= NEVER_RETRIED


def test_the_delay_doubles_up_to_a_limit_and_then_there_is_no_more() -> None:
    failure = Failure(ErrorCategory.PROVIDER_ERROR, "x")
    assert [POLICY.delay(failure, retries) for retries in range(5)] == [2, 4, 5, None, None]


LOST = Failure(ErrorCategory.INTERNAL, "gone")


def attempt(fence: int, *, retries: int = 0, most: int | None = None) -> ClaimedTask:
    return ClaimedTask(Lease(UUID(int=1), fence), "GENERATION", retries, "{}", most)


def test_a_wait_is_spread_over_its_second_half() -> None:
    chances = iter([0.0, 0.5, 1.0])
    policy = RetryPolicy(max_retries=3, backoff_seconds=8, chance=lambda: next(chances))
    assert [policy.delay(LOST, 0) for _ in range(3)] == [4, 6, 8]


def test_two_policies_wait_for_different_times() -> None:
    delays = {RetryPolicy(max_retries=1, backoff_seconds=8).delay(LOST, 0) for _ in range(20)}
    assert len(delays) == 20
    assert all(delay is not None and 4 <= delay <= 8 for delay in delays)


def test_what_had_begun_is_charged_and_what_had_not_is_handed_back() -> None:
    lease = Lease(UUID(int=1), 1)
    assert POLICY.failed(attempt(1), LOST) == Release(lease, 2, (LOST.category, LOST.message))
    assert POLICY.lost(attempt(1), LOST) == Release(lease, 1)
    assert POLICY.failed(attempt(1, most=0), LOST) == Fail(lease, LOST.category, LOST.message)
    assert POLICY.lost(attempt(1, most=0), LOST) == Release(lease, 1)


def test_losses_come_back_later_each_time_and_are_charged_from_some_number_on() -> None:
    ends = [POLICY.lost(attempt(fence), LOST) for fence in (1, 2, 3, 4, 5)]
    assert [end.delay_seconds for end in ends if isinstance(end, Release)] == [1, 2, 4, 5, 2]
    assert [isinstance(end, Release) and end.error is None for end in ends] == [True] * 4 + [False]
    # Every retry had a claim of its own, which does not count.
    assert POLICY.lost(attempt(5, retries=1), LOST) == Release(Lease(UUID(int=1), 5), 5)
    assert isinstance(POLICY.lost(attempt(8, retries=3), LOST), Fail)


def test_whoever_never_had_a_worker_is_never_charged() -> None:
    assert POLICY.handed_back(attempt(10_000)) == Release(Lease(UUID(int=1), 10_000), 5)


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
