"""Why the stack cannot run."""

from enum import IntEnum

__all__ = ["ExitCode", "StackError"]


class ExitCode(IntEnum):
    """What the commands return to the shell."""

    OK = 0
    FAILED = 1
    NOT_RUNNING = 3
    NOT_READY = 4


class StackError(Exception):
    """Something the operator can mend; the message is one line that says what."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
