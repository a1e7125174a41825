"""What becomes of tasks and requests, for tests to say."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Fails:
    """The task fails.

    Attributes:
        category: The `error_category`.
    """

    message: str
    category: str = "INTERNAL"
    seconds: float = 0.05
    steps: int = 2


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
