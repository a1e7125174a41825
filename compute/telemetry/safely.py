"""Telling of work that must go on whatever becomes of the telling."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

__all__ = ["safely"]

P = ParamSpec("P")

_log = logging.getLogger(__name__)


def safely(tell: Callable[P, None]) -> Callable[P, None]:
    """A function or method that tells of work and never raises: an error of its own is logged.

    Example:
        @safely
        def completed(self, metadata): ...
    """

    @wraps(tell)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            tell(*args, **kwargs)
        except Exception:
            _log.exception("%s failed; the work of which it tells goes on", tell.__qualname__)

    return told
