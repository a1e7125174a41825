"""Errors and exit codes of the stack's commands."""

from enum import IntEnum

__all__ = ["ExitCode", "StackError"]


class ExitCode(IntEnum):
    """Exit codes of the commands; 2 is a wrong usage, 130 an interruption. docs/cli.md has them for users."""

    OK = 0
    FAILED = 1
    NOT_RUNNING = 3
    NOT_READY = 4
    NOT_FOUND = 5
    NOT_ALLOWED = 6
    NOT_IN_TIME = 7


class StackError(Exception):
    """An error that the operator can fix; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
