"""One attempt at one task: consume the worker's stream, then hand its end to the writer.

That the attempt goes on is for the worker to say: its lease is renewed when there was news of it, and an attempt of
which nothing is heard gives up. Only what had begun, because the worker said so, is charged to its task.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from compute.dispatch.pool import Pool
from compute.dispatch.retry import End, Failure, RetryPolicy, classify
from compute.dispatch.telemetry import AttemptTelemetry
from compute.dispatch.writer import LeaseWriter
from compute.errors import TaskFailed, WorkerLost
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import Beat, ClaimedTask, Complete, Release, Say, Start, Write
from compute.telemetry.tracing import span
from compute.worker.protocol import Artifact, Done, Progress, Said, Started

__all__ = ["Run", "RunLimits"]

_log = logging.getLogger(__name__)


class RunLimits(NamedTuple):
    """Time limits of a run, in seconds."""

    task: float
    """Once it has begun."""
    queued: float
    """Before that."""


class Run:
    """The attempt that `claimed` allows; it begins at once. `when_idle` is called when its worker is free again."""

    def __init__(
        self,
        claimed: ClaimedTask,
        pool: Pool,
        writer: LeaseWriter,
        policy: RetryPolicy,
        limits: RunLimits,
        when_idle: Callable[[], None],
    ) -> None:
        self.lease = claimed.lease
        self._claimed = claimed
        self._percent = 0.0
        self._reported = 0.0
        self._text: list[str] = []
        self._parts_written = 0
        self._pool = pool
        self._writer = writer
        self._policy = policy
        self._limits = limits
        self._when_idle = when_idle
        self._news = _News()
        self._working = True
        self._ending = False
        self._begun = False
        self._abandoned = False
        self._turn_until = asyncio.get_running_loop().time() + limits.queued
        self._gave_up: WorkerLost | _NoTurnError | None = None
        self._start_error: BaseException | None = None
        self._telemetry = AttemptTelemetry(claimed, pool.queue)
        with self._telemetry.context():
            self._work = asyncio.create_task(self._execute())
            self._work.add_done_callback(self._finished)

    def abandon(self) -> None:
        """The lease is gone (cancelled, or taken over): stop the worker, write nothing."""
        if self._working:
            self._abandoned = True
            self._work.cancel()

    def hand_back(self) -> None:
        """This dispatcher is leaving: stop the worker and put the task back for another."""
        if self._working:
            self._work.cancel()

    def pulse(self, renew_seconds: float) -> None:
        """Write progress if there is any; `renew_seconds` after the lease was renewed, renew it if there was news.

        While its end has to wait, the lease is renewed without news: nothing else can happen to the attempt.
        """
        self._write_text()
        if self._news.on_its_way or not (self._working or self._ending):
            return
        now = asyncio.get_running_loop().time()
        if self._ending:
            self._news.came()
        progress = self._working and self._percent > self._reported
        if progress or self._news.renews(now - renew_seconds):
            self._news.written(now)
            self._reported = self._percent
            self._writer.put(Beat(self.lease, self._percent)).add_done_callback(self._beat_written)

    def listen(self, patience: int) -> None:
        """Called again and again: give up after `patience` times without news in between, and when a turn does not come
        in time. Waiting in the pool's reserve is not running, and has a limit of its own."""
        if not self._working or self._gave_up is not None:
            return
        if self._news.missed() >= patience:
            self._gave_up = WorkerLost(
                "Nothing was heard of its replica for too long: its process hangs, or its node is gone."
                if self._news.of_worker
                else "No replica has taken it."
            )
            self._work.cancel()
        elif not self._begun and asyncio.get_running_loop().time() > self._turn_until:
            self._gave_up = _NoTurnError()
            self._work.cancel()

    async def wait(self) -> None:
        """Until the end is written."""
        await asyncio.wait([self._work])

    def when_finished(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the end is written."""
        self._work.add_done_callback(lambda _: callback())

    async def _execute(self) -> None:
        end = await self._work_through()
        self._stop_working()
        if end is None:
            self._telemetry.fenced("work")
            return
        try:
            await self._write(end)
        except Exception as error:
            # The database refused this very result or message: the attempt has failed.
            await self._write(self._failure(error))

    def _finished(self, work: asyncio.Task[None]) -> None:
        if self._working:
            # Stopped before its first step: nobody has written anything yet.
            self._stop_working()
            if not self._abandoned:
                self._telemetry.handed_back()
                self._writer.put(Release(self.lease))
        self._telemetry.ended()
        if not work.cancelled() and (error := work.exception()) is not None:
            _log.error("task %s: its end could not be written; the reaper decides", self.lease.task_id, exc_info=error)

    def _stop_working(self) -> None:
        self._working = False
        self._when_idle()

    async def _work_through(self) -> Write | None:
        """Run the job; what to write about its end, or None when that is no longer ours to say."""
        try:
            result = await self._consume()
            self._telemetry.completed(result["metadata"])
            return Complete(self.lease, result)
        except asyncio.CancelledError:
            if self._abandoned:
                return None
            if (error := self._start_error or self._gave_up) is not None:
                return self._failure(error)
            self._telemetry.handed_back()
            return Release(self.lease)
        except Exception as error:
            return self._failure(error)

    async def _consume(self) -> dict[str, Any]:
        """The result.

        Raises:
            TimeoutError: it has run for too long.
        """
        artifacts: list[dict[str, Any]] = []
        metadata: dict[str, Any] | None = None
        job = replace(self._claimed.job(), traceparent=self._telemetry.traceparent)
        async with asyncio.timeout(None) as limit, aclosing(self._pool.run(job)) as events:
            async for event in events:
                self._news.came()
                match event:
                    case Started():
                        limit.reschedule(asyncio.get_running_loop().time() + self._limits.task)
                        self._started(event)
                    case Progress():
                        self._percent = min(event.fraction, 1.0) * 100
                    case Said(text):
                        self._text.append(text)
                    case Artifact():
                        artifacts.append(asdict(event))
                    case Done():
                        metadata = event.metadata
        # Who listens hears all of it before the end.
        self._write_text()
        if metadata is None:
            raise TaskFailed("The worker's stream ended before the task was done.")
        return {"artifacts": artifacts, "metadata": metadata}

    def _write_text(self) -> None:
        """Write the text so far, if there is more of it than was written."""
        if self._working and len(self._text) > self._parts_written:
            self._parts_written = len(self._text)
            self._writer.put(Say(self.lease, "".join(self._text)))

    def _started(self, event: Started) -> None:
        """Report the start and go on: the end is written after it, or not at all when it finds the lease lost."""
        self._begun = True
        self._telemetry.started(event.executor)
        start = Start(self.lease, executor=event.executor, executor_type=self._pool.executor_type)
        self._writer.put(start).add_done_callback(self._start_written)

    def _start_written(self, held: asyncio.Future[bool]) -> None:
        if (error := held.exception()) is not None:
            self._start_error = error
            self.hand_back()
        elif not held.result():
            self.abandon()

    def _beat_written(self, held: asyncio.Future[bool]) -> None:
        self._news.on_its_way = False
        if (error := held.exception()) is not None:
            _log.error("task %s: its lease could not be renewed: %s", self.lease.task_id, error)
        elif not held.result():
            self.abandon()

    def _failure(self, error: BaseException) -> Write:
        failure = classify(error)
        lost = isinstance(error, WorkerLost)
        begun = self._begun and not (lost and self._pool.resumes)
        if isinstance(error, _NoTurnError):
            end: End = self._policy.handed_back(self._claimed)
            failure = Failure(failure.category, f"it had no turn within {self._limits.queued:g} s")
        elif begun or not (lost or failure.category is ErrorCategory.STORAGE_ERROR):
            end = self._policy.failed(self._claimed, failure)
        elif self._news.of_worker:
            end = self._policy.lost(self._claimed, failure)
        else:
            # Nobody had it, so that it can be nobody's end.
            end = self._policy.handed_back(self._claimed)
        self._telemetry.failed(failure, end)
        return end

    async def _write(self, end: Write) -> None:
        # Once it is put it gets written, whatever becomes of this attempt.
        self._ending = True
        try:
            with span("settle", compute__write=type(end).__name__):
                held = await self._writer.put(end)
        finally:
            self._ending = False
        if not held:
            self._telemetry.fenced("end")


class _NoTurnError(Exception):
    """No replica has begun within the time that a claim may wait."""


class _News:
    """The times at which the worker was heard of and at which the lease was told, in seconds of the event loop."""

    def __init__(self) -> None:
        self.of_worker = False
        self.on_its_way = False
        self._since_written = False
        self._since_missed = True
        self._missed = 0
        self._written_at = asyncio.get_running_loop().time()

    def came(self) -> None:
        self.of_worker = self._since_written = self._since_missed = True

    def missed(self) -> int:
        """The number of calls in a row that found no news."""
        self._missed = 0 if self._since_missed else self._missed + 1
        self._since_missed = False
        return self._missed

    def renews(self, before: float) -> bool:
        """Whether the lease was renewed `before` and there was news since."""
        return self._since_written and self._written_at <= before

    def written(self, now: float) -> None:
        """It is on its way to the row, and nothing else should be until it has arrived."""
        self.on_its_way = True
        self._since_written = False
        self._written_at = now
