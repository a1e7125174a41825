"""Telemetry of a job on its worker: a span below that of the attempt, and log lines with the task's id."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from compute.errors import Interrupted
from compute.telemetry.ids import bound
from compute.telemetry.tracing import span
from compute.worker.protocol import Job

__all__ = ["observed"]

_log = logging.getLogger(__name__)


@contextmanager
def observed(job: Job, provider: str) -> Iterator[None]:
    """Around all that a worker does for a job. What is recorded inside, stages and calls of vendors, is below it."""
    began = time.perf_counter()
    with (
        bound(task_id=job.task_id),
        span(
            f"work {job.task_type}",
            parent=job.traceparent,
            kind="server",
            compute__task__id=str(job.task_id),
            compute__task__type=job.task_type,
            compute__provider=provider,
        ),
    ):
        _log.info("job begins: %s, fence %d, provider %s", job.task_type, job.fence, provider)
        try:
            yield
        except (GeneratorExit, Interrupted):
            _log.info("job stopped after %.3f s", time.perf_counter() - began)
            raise
        except Exception as error:
            _log.info("job failed after %.3f s: %s", time.perf_counter() - began, type(error).__name__)
            raise
        _log.info("job done in %.3f s", time.perf_counter() - began)
