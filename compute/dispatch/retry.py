"""The one place that decides whether a run is tried again, when, and whether that is charged."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Protocol

from compute.errors import CallUncertain, ComputeError, InvalidInput, ProviderFailed, TaskFailed
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import Fail, FallBack, Lease, Release

__all__ = ["NEVER_RETRIED", "Attempt", "End", "Failure", "RetryPolicy", "Verdict", "classify"]

_LONGEST_MESSAGE = 1000
_MOST_DOUBLINGS = 32
_LONG_PAUSE_SECONDS = 60.0
NEVER_RETRIED = frozenset({ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY, ErrorCategory.CANCELLED})


class Verdict(Enum):
    """What may follow a failure, as far as the failure itself says."""

    RETRY = auto()
    """Another run, charged as a retry."""
    WAIT = auto()
    """Another run that is not charged, unless that happens often."""
    ELSEWHERE = auto()
    """No run at this provider; one at the fallback provider, if there is one."""
    NEWS = auto()
    """Another look at what is known of a paid call, never charged: the run itself stops looking when it is time."""
    END = auto()


_NEVER_HERE = frozenset({Verdict.ELSEWHERE, Verdict.END})


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a run: a category, and words for the operator.

    Attributes:
        seconds: The least time until the next run.
    """

    category: ErrorCategory
    message: str
    verdict: Verdict = Verdict.RETRY
    seconds: float = 0.0


End = Fail | FallBack | Release
"""What is written of a failed run."""


class Attempt(Protocol):
    """An attempt to decide about: a claim, and what its task's row says of retries."""

    @property
    def lease(self) -> Lease: ...

    @property
    def retry_count(self) -> int: ...

    @property
    def max_retries(self) -> int | None:
        """Of this task; None for the policy's own."""
        ...

    @property
    def has_fallback(self) -> bool:
        """Whether another provider may still be asked."""
        ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` runs after the first; the n-th waits `backoff_seconds` · 2ⁿ⁻¹, at most `longest_seconds`.

    Waits are spread over their second half, so that what failed together is not tried together again.

    Attributes:
        free_losses: After so many hand-backs, of whatever kind, the loss of a run that a worker had, and had not
            begun, is charged: a task may kill every worker that only prepares for it.
        chance: A number in [0, 1), to spread waits with.
    """

    max_retries: int
    backoff_seconds: float
    longest_seconds: float = 300.0
    free_losses: int = 10
    chance: Callable[[], float] = field(default=random.random, compare=False)

    def failed(self, attempt: Attempt, failure: Failure) -> End:
        """The run failed: the next one, charged as a retry, or the end.

        The tries of a task are one budget. Where a fallback provider is named, it gets the last of them, and what the
        first provider leaves.
        """
        if failure.verdict is Verdict.NEWS:
            return Release(attempt.lease, delay_seconds=max(self._wait(_times(attempt) - 1), failure.seconds))
        if failure.verdict is Verdict.WAIT and attempt.has_fallback and failure.seconds > _LONG_PAUSE_SECONDS:
            # Nobody waits so long where another provider may be asked.
            return FallBack(attempt.lease, failure.category, failure.message)
        if failure.verdict is Verdict.WAIT and _times(attempt) < self.free_losses:
            return Release(attempt.lease, delay_seconds=max(self._wait(_times(attempt) - 1), failure.seconds))
        delay = self.delay(failure, attempt.retry_count, attempt.max_retries, kept_back=attempt.has_fallback)
        if delay is not None:
            delay = max(delay, failure.seconds)
            return Release(attempt.lease, delay_seconds=delay, error=(failure.category, failure.message))
        if attempt.has_fallback and failure.category not in NEVER_RETRIED and failure.verdict is not Verdict.END:
            return FallBack(attempt.lease, failure.category, failure.message)
        return Fail(attempt.lease, failure.category, failure.message)

    def lost(self, attempt: Attempt, failure: Failure) -> End:
        """A worker was lost that had not begun the run it had: handed back for nothing, unless that happens often."""
        return self.failed(attempt, failure) if _times(attempt) >= self.free_losses else self.handed_back(attempt)

    def handed_back(self, attempt: Attempt) -> Release:
        """As if the attempt had never happened, after a wait that grows with how often that was."""
        return Release(attempt.lease, delay_seconds=self._wait(_times(attempt) - 1))

    def delay(
        self, failure: Failure, retries_so_far: int, max_retries: int | None = None, *, kept_back: bool = False
    ) -> float | None:
        """Seconds to wait before the next run at the same provider, or None when there will be none. `max_retries` is
        the task's own; with `kept_back` the last is not to be used."""
        limit = (self.max_retries if max_retries is None else max_retries) - kept_back
        if failure.category in NEVER_RETRIED or failure.verdict in _NEVER_HERE or retries_so_far >= limit:
            return None
        return self._wait(retries_so_far)

    def _wait(self, doublings: int) -> float:
        longest = min(self.backoff_seconds * 2.0 ** min(doublings, _MOST_DOUBLINGS), self.longest_seconds)
        return longest * (1 + self.chance()) / 2


def _times(attempt: Attempt) -> int:
    """The number of hand-backs: every claim moves the fence, and every other end of one is a retry."""
    return max(attempt.lease.fence - 1 - attempt.retry_count, 0)


def classify(error: BaseException) -> Failure:
    """Category and message of whatever ended a run; the message is short and can be stored.

    The quick-start samples look for the words "Invalid input" and "CUDA out of memory" in the message.
    """
    failure = _classify(error)
    return replace(failure, message=failure.message.replace("\x00", "")[:_LONGEST_MESSAGE])


def _classify(error: BaseException) -> Failure:
    if isinstance(error, InvalidInput):
        return Failure(ErrorCategory.INVALID_INPUT, f"Invalid input: {error.field}: {error.detail}")
    if isinstance(error, ProviderFailed):
        return Failure(error.category, error.detail, _verdict(error), error.seconds)
    if isinstance(error, TaskFailed):
        return Failure(error.category, error.detail)
    if isinstance(error, TimeoutError):
        return Failure(ErrorCategory.PROVIDER_TIMEOUT, "The run took longer than task_timeout_seconds allows.")
    if isinstance(error, ComputeError):
        return Failure(ErrorCategory.INTERNAL, error.detail)
    return Failure(ErrorCategory.INTERNAL, f"{type(error).__name__}: {_first_line(error)}")


def _verdict(error: ProviderFailed) -> Verdict:
    if isinstance(error, CallUncertain):
        # It may have been paid: another provider is not asked, either.
        return Verdict.END if error.charged else Verdict.NEWS
    if error.hopeless:
        return Verdict.ELSEWHERE
    return Verdict.RETRY if error.charged else Verdict.WAIT


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
