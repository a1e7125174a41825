"""One attempt at one task: consume the worker's stream, then write how it ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.session import DATABASE_AWAY, Database
from compute.db.tables import Task
from compute.dispatch.pool import Pool
from compute.dispatch.retry import RetryPolicy, classify
from compute.errors import TaskFailed
from compute.tasks import store
from compute.tasks.protocol import Artifact, Done, Job, Progress, Started

__all__ = ["Run"]

_log = logging.getLogger(__name__)
_WRITE_PATIENCE_SECONDS = 120.0


class _LeaseLostError(Exception):
    """Someone else decides about this task now; nothing we know matters any more."""


class Run:
    """The attempt that `task` was claimed for; it begins at once."""

    def __init__(self, task: Task, pool: Pool, database: Database, policy: RetryPolicy, timeout_seconds: float) -> None:
        self.lease = store.Lease(task.id, task.fence)
        self._percent = 0.0
        self._reported = 0.0
        self._job = Job(task.id, task.task_type, task.fence, task.spec)
        self._retries_so_far = task.retry_count
        self._pool = pool
        self._database = database
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._abandoned = False
        self._work = asyncio.create_task(self._execute(), name=f"task-{task.id}")

    def abandon(self) -> None:
        """The lease is gone (cancelled, or taken over): stop the worker, write nothing."""
        self._abandoned = True
        self._work.cancel()

    def hand_back(self) -> None:
        """This dispatcher is leaving: stop the worker and put the task back for another."""
        self._work.cancel()

    @property
    def has_news(self) -> bool:
        """Whether there is progress that no heartbeat has written yet."""
        return self._percent > self._reported

    def report(self) -> float:
        """The progress in percent, now counted as written."""
        self._reported = self._percent
        return self._percent

    @property
    def finished(self) -> bool:
        return self._work.done()

    async def wait(self) -> None:
        """Until the end is written."""
        await asyncio.wait([self._work])

    def when_finished(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the end is written."""
        self._work.add_done_callback(lambda _: callback())

    async def _execute(self) -> None:
        try:
            result = await self._consume()
        except asyncio.CancelledError:
            if not self._abandoned:
                # The write must survive the cancellation that caused it.
                await asyncio.shield(self._write(lambda session: store.release(session, self.lease)))
        except _LeaseLostError:
            _log.info("task %s: lease %d was lost, its work is dropped", self._job.task_id, self._job.fence)
        except Exception as error:
            await asyncio.shield(self._failed(error))
        else:
            await asyncio.shield(self._write(lambda session: store.settle(session, self.lease, result)))

    async def _consume(self) -> dict[str, Any]:
        artifacts: list[dict[str, Any]] = []
        metadata: dict[str, Any] | None = None
        # Waiting in the pool's reserve is not running: the clock starts when a replica does.
        async with asyncio.timeout(None) as limit, aclosing(self._pool.run(self._job)) as events:
            async for event in events:
                match event:
                    case Started():
                        limit.reschedule(asyncio.get_running_loop().time() + self._timeout_seconds)
                        await self._started(event)
                    case Progress():
                        self._percent = min(event.fraction, 1.0) * 100
                    case Artifact():
                        artifacts.append(asdict(event))
                    case Done():
                        metadata = event.metadata
        if metadata is None:
            raise TaskFailed("The worker's stream ended before the task was done.")
        return {"artifacts": artifacts, "metadata": metadata}

    async def _started(self, event: Started) -> None:
        held = await self._write(
            lambda session: store.start(
                session, self.lease, executor=event.executor, executor_type=self._pool.executor_type
            )
        )
        if not held:
            raise _LeaseLostError

    async def _failed(self, error: Exception) -> None:
        failure = classify(error)
        delay = self._policy.delay(failure, self._retries_so_far)
        if delay is None:
            _log.error("task %s failed: %s: %s", self._job.task_id, failure.category, failure.message)
            await self._write(lambda session: store.fail(session, self.lease, failure.category, failure.message))
            return
        _log.warning("task %s: %s; next run in %.1f s", self._job.task_id, failure.message, delay)
        await self._write(
            lambda session: store.release(
                session, self.lease, delay_seconds=delay, error=(failure.category, failure.message)
            )
        )

    async def _write(self, change: Callable[[AsyncSession], Awaitable[bool]]) -> bool:
        """Apply `change` in a transaction, waiting out a database that is away; False when the lease is lost.

        The fence makes a repeated or late write harmless, so patience costs nothing.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _WRITE_PATIENCE_SECONDS
        while True:
            try:
                async with self._database.transaction() as session:
                    return await change(session)
            except DATABASE_AWAY as error:
                if loop.time() > give_up:
                    _log.exception("task %s: its end could not be written; the reaper decides", self._job.task_id)
                    return False
                _log.warning("task %s: database out of reach, trying again: %s", self._job.task_id, error)
                await asyncio.sleep(0.5)
