"""Verdicts on failures of providers: another try, a wait, the fallback, or the end."""

from uuid import UUID

import pytest

from compute.dispatch.retry import End, RetryPolicy, classify
from compute.errors import CallUncertain, ProviderFailed
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import ClaimedTask, Fail, FallBack, Lease, Release

POLICY = RetryPolicy(max_retries=3, backoff_seconds=2, longest_seconds=5, free_losses=4, chance=lambda: 1.0)
WITH_FALLBACK = '{"fallback": {"queue": "inference", "provider_type": "LOCAL", "spec": {}}}'


def after(
    error: Exception, *, retries: int = 0, fence: int = 1, fallback: bool = False, most: int | None = None
) -> End:
    spec = WITH_FALLBACK if fallback else "{}"
    attempt = ClaimedTask(Lease(UUID(int=1), fence), "GENERATION", retries, spec, most)
    return POLICY.failed(attempt, classify(error))


def delay_of(end: End) -> tuple[float, bool]:
    """Seconds until the next run, and whether it is charged."""
    assert isinstance(end, Release)
    return end.delay_seconds, end.error is not None


def test_a_fallback_has_the_last_of_the_tries() -> None:
    failed = ProviderFailed("500")
    assert [type(after(failed, retries=retries, fallback=True)) for retries in range(3)] == [Release, Release, FallBack]
    assert [type(after(failed, retries=retries)) for retries in range(4)] == [Release, Release, Release, Fail]


@pytest.mark.parametrize("most", [0, 1])
def test_a_fallback_is_asked_even_without_a_try_left(most: int) -> None:
    assert isinstance(after(ProviderFailed("500"), fallback=True, most=most), FallBack)
    # The fallback itself has failed.
    assert isinstance(after(ProviderFailed("500"), retries=1, most=most), Fail)


def test_what_is_hopeless_here_leaves_its_tries_to_the_fallback() -> None:
    hopeless = ProviderFailed("no money", hopeless=True)
    assert isinstance(after(hopeless, fallback=True), FallBack)
    assert isinstance(after(hopeless), Fail)


@pytest.mark.parametrize("category", [ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY])
def test_what_every_provider_would_refuse_ends_at_once(category: ErrorCategory) -> None:
    assert isinstance(after(ProviderFailed("no", category=category), fallback=True), Fail)


def test_the_time_that_a_vendor_asks_for_is_given() -> None:
    assert delay_of(after(ProviderFailed("busy", seconds=40))) == (40, True)
    assert delay_of(after(ProviderFailed("busy", seconds=1))) == (2, True)


def test_a_crowded_vendor_costs_a_try_only_when_that_happens_often() -> None:
    crowded = ProviderFailed("429", seconds=7, charged=False)
    assert delay_of(after(crowded)) == (7, False)
    assert delay_of(after(crowded, fence=5)) == (7, True)


def test_a_call_of_unknown_outcome_is_waited_for_however_often_and_ends_the_task() -> None:
    waiting = CallUncertain("lost", seconds=5, charged=False)
    for fence in (1, 50):
        assert delay_of(after(waiting, fence=fence, fallback=True))[1] is False
    assert isinstance(after(CallUncertain("lost"), fallback=True), Fail)
