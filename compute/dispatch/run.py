"""One attempt at one task: consume the worker's stream, then hand its end to the writer."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from compute.dispatch.pool import Pool
from compute.dispatch.retry import RetryPolicy, classify
from compute.dispatch.writer import LeaseWriter
from compute.errors import TaskFailed
from compute.tasks.leases import Claimed, Complete, Fail, Release, Start, Write
from compute.tasks.protocol import Artifact, Done, Progress, Started

__all__ = ["Run"]

_log = logging.getLogger(__name__)


class Run:
    """The attempt that `claimed` allows; it begins at once. `when_idle` is called when its worker is free again."""

    def __init__(
        self,
        claimed: Claimed,
        pool: Pool,
        writer: LeaseWriter,
        policy: RetryPolicy,
        timeout_seconds: float,
        when_idle: Callable[[], None],
    ) -> None:
        self.lease = claimed.lease
        self._claimed = claimed
        self._percent = 0.0
        self._reported = 0.0
        self._pool = pool
        self._writer = writer
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._when_idle = when_idle
        self._working = True
        self._abandoned = False
        self._start_error: BaseException | None = None
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

    @property
    def has_news(self) -> bool:
        """Whether there is progress that no heartbeat has written yet."""
        return self._percent > self._reported

    def report(self) -> float:
        """The progress in percent, now counted as written."""
        self._reported = self._percent
        return self._percent

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
            _log.info("task %s: lease %d was lost, its work is dropped", *self.lease)
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
                self._writer.put(Release(self.lease))
        if not work.cancelled() and (error := work.exception()) is not None:
            _log.error("task %s: its end could not be written; the reaper decides", self.lease.task_id, exc_info=error)

    def _stop_working(self) -> None:
        self._working = False
        self._when_idle()

    async def _work_through(self) -> Write | None:
        """Run the job; what to write about its end, or None when that is no longer ours to say."""
        try:
            return Complete(self.lease, await self._consume())
        except asyncio.CancelledError:
            if self._abandoned:
                return None
            if self._start_error is not None:
                return self._failure(self._start_error)
            return Release(self.lease)
        except Exception as error:
            return self._failure(error)

    async def _consume(self) -> dict[str, Any]:
        artifacts: list[dict[str, Any]] = []
        metadata: dict[str, Any] | None = None
        # Waiting in the pool's reserve is not running: the clock starts when a replica does.
        async with asyncio.timeout(None) as limit, aclosing(self._pool.run(self._claimed.job())) as events:
            async for event in events:
                match event:
                    case Started():
                        limit.reschedule(asyncio.get_running_loop().time() + self._timeout_seconds)
                        self._started(event)
                    case Progress():
                        self._percent = min(event.fraction, 1.0) * 100
                    case Artifact():
                        artifacts.append(asdict(event))
                    case Done():
                        metadata = event.metadata
        if metadata is None:
            raise TaskFailed("The worker's stream ended before the task was done.")
        return {"artifacts": artifacts, "metadata": metadata}

    def _started(self, event: Started) -> None:
        """Report the start and go on: the end is written after it, or not at all when it finds the lease lost."""
        start = Start(self.lease, executor=event.executor, executor_type=self._pool.executor_type)
        self._writer.put(start).add_done_callback(self._start_written)

    def _start_written(self, held: asyncio.Future[bool]) -> None:
        if (error := held.exception()) is not None:
            self._start_error = error
            self.hand_back()
        elif not held.result():
            self.abandon()

    def _failure(self, error: BaseException) -> Write:
        failure = classify(error)
        delay = self._policy.delay(failure, self._claimed.retry_count, self._claimed.max_retries)
        if delay is None:
            _log.error("task %s failed: %s: %s", self.lease.task_id, failure.category, failure.message)
            return Fail(self.lease, failure.category, failure.message)
        _log.warning("task %s: %s; next run in %.1f s", self.lease.task_id, failure.message, delay)
        return Release(self.lease, delay_seconds=delay, error=(failure.category, failure.message))

    async def _write(self, end: Write) -> None:
        # Once it is put it gets written, whatever becomes of this attempt.
        if not await self._writer.put(end):
            _log.info("task %s: lease %d was lost, its end is dropped", *self.lease)
