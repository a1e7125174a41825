"""The one place that decides whether a failed run is tried again."""

from dataclasses import dataclass

from compute.errors import ComputeError, InvalidInput, TaskFailed
from compute.schemas.enums import ErrorCategory

__all__ = ["NEVER_RETRIED", "Failure", "RetryPolicy", "classify"]

_LONGEST_MESSAGE = 1000
NEVER_RETRIED = frozenset({ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY, ErrorCategory.CANCELLED})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed, in a category and in words for the operator."""

    category: ErrorCategory
    message: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` runs after the first; the n-th waits `backoff_seconds` · 2ⁿ⁻¹, at most `longest_seconds`."""

    max_retries: int
    backoff_seconds: float
    longest_seconds: float = 300.0

    def delay(self, failure: Failure, retries_so_far: int, max_retries: int | None = None) -> float | None:
        """Seconds to wait before the next run, or None when there will be none; `max_retries` is the task's own."""
        limit = self.max_retries if max_retries is None else max_retries
        if failure.category in NEVER_RETRIED or retries_so_far >= limit:
            return None
        return min(self.backoff_seconds * 2.0**retries_so_far, self.longest_seconds)


def classify(error: BaseException) -> Failure:
    """Category and message of whatever ended a run; the message is short and can be stored.

    The quick-start samples look for the words "Invalid input" and "CUDA out of memory" in the message.
    """
    failure = _classify(error)
    return Failure(failure.category, failure.message.replace("\x00", "")[:_LONGEST_MESSAGE])


def _classify(error: BaseException) -> Failure:
    if isinstance(error, InvalidInput):
        return Failure(ErrorCategory.INVALID_INPUT, f"Invalid input: {error.field}: {error.detail}")
    if isinstance(error, TaskFailed):
        return Failure(error.category, error.detail)
    if isinstance(error, TimeoutError):
        return Failure(ErrorCategory.PROVIDER_TIMEOUT, "The run took longer than task_timeout_seconds allows.")
    if isinstance(error, ComputeError):
        return Failure(ErrorCategory.INTERNAL, error.detail)
    return Failure(ErrorCategory.INTERNAL, f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
