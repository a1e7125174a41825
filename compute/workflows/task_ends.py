"""Waits for tasks to end. One query a tick serves every step of a runner; hints bring the next tick forward."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, literal, select

from compute.db.session import DATABASE_AWAY, Database
from compute.db.tables import Task
from compute.events import hints
from compute.schemas.enums import TaskStatus
from compute.tasks.states import TERMINAL

__all__ = ["TaskEnds"]

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.5
# However many tasks end, and whoever hints at it.
_SHORTEST_TICK_SECONDS = 0.02


class TaskEnds:
    """Tells when tasks have ended. `run` must be running."""

    def __init__(self, database: Database, *, tick_seconds: float = _TICK_SECONDS) -> None:
        self._database = database
        self._tick_seconds = tick_seconds
        self._waiting: dict[UUID, asyncio.Future[Task | None]] = {}
        self._wanted = asyncio.Event()
        self._hinted = asyncio.Event()

    async def of(self, task_ids: Sequence[UUID]) -> list[Task | None]:
        """The rows of these tasks once all of them have ended; None for one that was removed."""
        loop = asyncio.get_running_loop()
        ends = [self._waiting.setdefault(task_id, loop.create_future()) for task_id in task_ids]
        self._wanted.set()
        self._hinted.set()
        # Shielded: another step may wait for the same task, and cancelling this one is not its business.
        return [await asyncio.shield(end) for end in ends]

    async def run(self) -> None:
        """Look for ends until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                hints.listen(
                    self._database, [hints.ENDED, hints.CANCELLED], lambda _channel, _payload: self._hinted.set()
                )
            )
            group.create_task(self._tick_on())

    async def _tick_on(self) -> None:
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
            self._hinted.clear()
            try:
                await self._tick()
            except DATABASE_AWAY as error:
                _log.warning("waiting for tasks goes on later, the database is out of reach: %s", error)
            await asyncio.sleep(_SHORTEST_TICK_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_seconds):
                    await self._hinted.wait()

    async def _tick(self) -> None:
        asked = list(self._waiting)
        async with self._database.transaction() as session:
            found = await session.execute(select(Task.id, Task.status).where(_among(asked)))
            statuses: dict[UUID, str] = dict(found.all())
            ended = [task_id for task_id, status in statuses.items() if TaskStatus(status) in TERMINAL]
            rows = await session.scalars(select(Task).where(_among(ended))) if ended else ()
            tasks: dict[UUID, Task | None] = {task.id: task for task in rows}
        tasks |= dict.fromkeys(task_id for task_id in asked if task_id not in statuses)
        for task_id, task in tasks.items():
            self._waiting.pop(task_id).set_result(task)


def _among(task_ids: list[UUID]) -> ColumnElement[bool]:
    """One array, where IN would be a parameter for each of thousands."""
    return Task.id == any_(literal(task_ids, ARRAY(Uuid)))
