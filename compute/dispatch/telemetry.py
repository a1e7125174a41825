"""Telemetry of an attempt at a task: its span, its log lines, its figures."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from compute.dispatch.retry import End, Failure
from compute.tasks.leases import ClaimedTask, Fail, FallBack
from compute.telemetry.ids import bound
from compute.telemetry.instruments import (
    DIFFUSION_STEPS,
    FENCED_WRITES,
    TASK_ERRORS,
    TASK_RUNS,
    TASK_STAGES,
    TASK_WAITS,
)
from compute.telemetry.safely import safely
from compute.telemetry.tracing import begin, inside

__all__ = ["AttemptTelemetry"]

_log = logging.getLogger("compute.dispatch.run")


class AttemptTelemetry:
    """Of one attempt, which begins with it. `ended` is called once, after everything else. What tells of the attempt
    never raises: it would become the attempt's own failure."""

    def __init__(self, claimed: ClaimedTask, queue: str) -> None:
        self._claimed = claimed
        self._began = time.perf_counter()
        self._outcome = "lost"
        TASK_WAITS.observe(max(claimed.waited_seconds, 0.0), queue)
        self._span = begin(
            f"attempt {claimed.task_type}",
            parent=claimed.traceparent,
            kind="consumer",
            compute__task__id=str(claimed.lease.task_id),
            compute__task__type=claimed.task_type,
            compute__task__retry_count=claimed.retry_count,
            compute__task__fence=claimed.lease.fence,
            compute__task__waited_seconds=round(claimed.waited_seconds, 3),
            compute__queue=queue,
        )
        with self.context():
            _log.info("task claimed from %s, retry %d, fence %d", queue, claimed.retry_count, claimed.lease.fence)

    @property
    def traceparent(self) -> str | None:
        """What the worker continues."""
        return self._span.traceparent

    @contextmanager
    def context(self) -> Iterator[None]:
        """Within it, and in asyncio tasks created there, log lines carry the task's id."""
        with bound(task_id=self._claimed.lease.task_id), inside(self._span):
            yield

    @safely
    def started(self, executor: str) -> None:
        """A worker has begun."""
        self._span.event("started", compute__executor=executor)
        _log.info("task begun by %s", executor)

    @safely
    def completed(self, metadata: Mapping[str, Any]) -> None:
        """The worker has done it."""
        self._outcome = "completed"
        task_type, timings = self._claimed.task_type, metadata.get("timings")
        if not isinstance(timings, Mapping):
            return
        for stage, ms in timings.items():
            if isinstance(ms, int | float) and ms > 0:
                TASK_STAGES.observe(ms / 1000, task_type, str(stage).removesuffix("_ms"))
        steps, drawn = metadata.get("denoising_steps"), timings.get("draw_ms")
        if steps and drawn:
            DIFFUSION_STEPS.observe(drawn / 1000 / steps, task_type)

    @safely
    def failed(self, failure: Failure, end: End) -> None:
        """It has failed, or is handed back."""
        task_id = self._claimed.lease.task_id
        if isinstance(end, Fail | FallBack) or end.error is not None:
            TASK_ERRORS.inc(failure.category.value, "true" if isinstance(end, Fail) else "false")
            self._span.fail(f"{failure.category}: {failure.message}")
        if isinstance(end, Fail):
            self._outcome = "failed"
            _log.error("task %s failed: %s: %s", task_id, failure.category, failure.message)
        elif isinstance(end, FallBack):
            self._outcome = "fallback"
            self._span.event("fallback")
            _log.warning("task %s goes to its fallback provider: %s", task_id, failure.message)
        elif end.error is not None:
            self._outcome = "retried"
            self._span.event("retry", delay_seconds=round(end.delay_seconds, 3))
            _log.warning("task %s: %s; next run in %.1f s", task_id, failure.message, end.delay_seconds)
        else:
            self.handed_back(end.delay_seconds)
            _log.warning("task %s is handed back: %s; again in %.1f s", task_id, failure.message, end.delay_seconds)

    @safely
    def handed_back(self, delay_seconds: float = 0.0) -> None:
        """The task is put back, and nothing is charged."""
        self._outcome = "handed_back"
        self._span.event("handed back", delay_seconds=round(delay_seconds, 3))

    @safely
    def fenced(self, write: str) -> None:
        """A write came too late, because the lease was lost."""
        self._outcome = "lost"
        self._span.event("lease lost", write=write)
        FENCED_WRITES.inc(write)
        _log.info("task %s: lease %d was lost, its %s is dropped", *self._claimed.lease, write)

    @safely
    def ended(self) -> None:
        """Nothing more happens to this attempt."""
        seconds = time.perf_counter() - self._began
        TASK_RUNS.observe(seconds, self._claimed.task_type, self._outcome)
        self._span.set(compute__outcome=self._outcome)
        self._span.end()
        with self.context():
            _log.info("attempt ended after %.3f s: %s", seconds, self._outcome)
