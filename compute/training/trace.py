"""The trace of a training job, which is sent whichever way the process ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from uuid import UUID

from compute.telemetry.tracing import STOP_SECONDS, UNTRACED, Span, span, stop_tracing

__all__ = ["exit_process", "traced"]


class _Job:
    """The span of this process's training, and for how long the trace may be sent."""

    span: Span = UNTRACED
    stop_seconds: float = STOP_SECONDS


@contextmanager
def traced(training_id: UUID, parent: str | None, *, stop_seconds: float = STOP_SECONDS) -> Iterator[None]:
    """A span of the whole training, below `parent`; it is sent at the end of the block, for so long at most."""
    _Job.stop_seconds = stop_seconds
    try:
        with span("train", parent=parent, compute__training__id=str(training_id)) as _Job.span:
            yield
    finally:
        stop_tracing(seconds=_Job.stop_seconds)


def exit_process(status: int, why: str) -> NoReturn:
    """End this process from any thread, and with it everything that Ray runs for it; the trace says why."""
    _Job.span.fail(why)
    _Job.span.end()
    stop_tracing(seconds=_Job.stop_seconds)
    os._exit(status)
