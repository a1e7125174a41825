"""Outcomes that a test chooses for tasks and requests."""

from dataclasses import dataclass

from compute.schemas.enums import ErrorCategory

__all__ = ["Completes", "Fails", "Hangs", "Outcome", "Refusal"]


@dataclass(frozen=True, slots=True)
class Completes:
    """The task is completed.

    Attributes:
        seconds: From its submit to its end.
        steps: How often its progress is told meanwhile.
        text: What it says, for LLM_INTERACTION.
    """

    seconds: float = 0.05
    steps: int = 4
    text: str = "The coat is red."

    def __post_init__(self) -> None:
        _check(self.seconds, self.steps)


@dataclass(frozen=True, slots=True)
class Fails:
    """The task fails.

    Attributes:
        category: The `error_category`, one of the API.
    """

    message: str
    category: str = "INTERNAL"
    seconds: float = 0.05
    steps: int = 2

    def __post_init__(self) -> None:
        if self.category not in set(ErrorCategory):
            raise ValueError(f"`category` must be one of {', '.join(ErrorCategory)}")
        _check(self.seconds, self.steps)


@dataclass(frozen=True, slots=True)
class Hangs:
    """The task begins, and goes on until it is cancelled."""

    progress: float = 25.0


Outcome = Completes | Fails | Hangs


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to a request, whatever it asks for, instead of doing it.

    Attributes:
        retry_after: Seconds for the header `Retry-After`.
        cut: Answer nothing, and break the connection.
        carried_out: Do what was asked first: only the answer is lost.
    """

    status: int = 503
    code: str = "OVERLOADED"
    detail: str = "Too much is being done at the moment."
    retry_after: int | None = None
    cut: bool = False
    carried_out: bool = False


def _check(seconds: float, steps: int) -> None:
    if not (0 <= seconds < float("inf") and steps >= 0):
        raise ValueError("`seconds` and `steps` must not be negative, and `seconds` must be finite")
