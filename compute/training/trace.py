"""The trace of a training job, which is sent whichever way the process ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from uuid import UUID

from compute.telemetry.tracing import UNTRACED, Span, span, stop_tracing

__all__ = ["exit_process", "traced"]


class _Job:
    """The span of this process's training."""

    span: Span = UNTRACED


@contextmanager
def traced(training_id: UUID, parent: str | None) -> Iterator[None]:
    """A span of the whole training, below `parent`; it is sent at the end of the block."""
    try:
        with span("train", parent=parent, compute__training__id=str(training_id)) as _Job.span:
            yield
    finally:
        stop_tracing()


def exit_process(status: int, why: str) -> NoReturn:
    """End this process from any thread, and with it everything that Ray runs for it; the trace says why."""
    _Job.span.fail(why)
    _Job.span.end()
    stop_tracing()
    os._exit(status)
