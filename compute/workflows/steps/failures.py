"""Puts the failure of a step that had no tasks yet into a category and into words for the operator."""

import logging

from compute.errors import ComputeError, InvalidFields, InvalidInput, NotFound, TaskFailed, TooLarge
from compute.schemas.enums import ErrorCategory

__all__ = ["StepFailed", "failure_of"]

_log = logging.getLogger(__name__)
_LONGEST_MESSAGE = 1000


class StepFailed(Exception):
    """The step ends with this."""

    def __init__(self, category: ErrorCategory, message: str) -> None:
        super().__init__(message)
        self.category = category
        self.message = message.replace("\x00", "")[:_LONGEST_MESSAGE]


def failure_of(error: Exception) -> StepFailed:
    """The failure that `error` means for the step. An unexpected one is logged with its traceback."""
    if isinstance(error, StepFailed):
        return error
    if isinstance(error, InvalidInput | TooLarge):
        return StepFailed(ErrorCategory.INVALID_INPUT, f"Invalid input: {error.field}: {error.detail}")
    if isinstance(error, InvalidFields | NotFound):
        return StepFailed(ErrorCategory.INVALID_INPUT, f"Invalid input: {error.detail}")
    if isinstance(error, TaskFailed):
        return StepFailed(error.category, error.detail)
    _log.error("a step failed in a way that nobody foresaw", exc_info=error)
    detail = error.detail if isinstance(error, ComputeError) else f"{type(error).__name__}: {error}"
    return StepFailed(ErrorCategory.INTERNAL, detail)
