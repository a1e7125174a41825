"""Waits for tasks to end. One query a tick serves every step of a runner."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, literal, select

from compute.db.session import Database
from compute.db.tables import Task
from compute.events import notify
from compute.events.ticker import Ticker
from compute.schemas.enums import TaskStatus
from compute.tasks.states import TERMINAL

__all__ = ["EndStore", "PostgresEndStore", "TaskEnds"]

_TICK_SECONDS = 0.5
_REST_SECONDS = 0.002


class EndStore(Protocol):
    """Tells which tasks have ended."""

    async def ended(self, task_ids: Sequence[UUID]) -> Mapping[UUID, Task | None]:
        """The rows of those of the tasks that have ended; None for one that was removed.

        Raises:
            DatabaseAway: nobody knows now.
        """
        ...

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever a task may have ended, until cancelled. Some calls may be missing."""
        ...


class PostgresEndStore:
    """Implements `EndStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended(self, task_ids: Sequence[UUID]) -> dict[UUID, Task | None]:
        async with self._database.transaction() as session:
            found = await session.execute(select(Task.id, Task.status).where(_among(task_ids)))
            statuses: dict[UUID, str] = dict(found.all())
            ended = [task_id for task_id, status in statuses.items() if TaskStatus(status) in TERMINAL]
            rows = await session.scalars(select(Task).where(_among(ended))) if ended else ()
            tasks: dict[UUID, Task | None] = {task.id: task for task in rows}
        return tasks | dict.fromkeys(task_id for task_id in task_ids if task_id not in statuses)

    async def listen(self, wake: Callable[[], None]) -> None:
        await notify.waking(self._database, [notify.ENDED, notify.CANCELLED])(wake)


class TaskEnds:
    """Tells when tasks have ended. `run` must be running."""

    def __init__(self, store: EndStore, *, tick_seconds: float = _TICK_SECONDS) -> None:
        self._store = store
        self._waiting: dict[UUID, asyncio.Future[Task | None]] = {}
        self._ticker = Ticker(
            store.listen,
            tick_seconds,
            rest=_REST_SECONDS,
            tick=self._tick,
            wanted=lambda: bool(self._waiting),
        )

    async def of(self, task_ids: Sequence[UUID]) -> list[Task | None]:
        """The rows of these tasks once all of them have ended; None for one that was removed."""
        loop = asyncio.get_running_loop()
        ends = [self._waiting.setdefault(task_id, loop.create_future()) for task_id in task_ids]
        self._ticker.wake(now=True)
        # Shielded: another step may wait for the same task, and cancelling this one is not its business.
        return [await asyncio.shield(end) for end in ends]

    async def run(self) -> None:
        """Look for ends until cancelled."""
        await self._ticker.run()

    async def _tick(self) -> None:
        for task_id, task in (await self._store.ended(list(self._waiting))).items():
            self._waiting.pop(task_id).set_result(task)


def _among(task_ids: Sequence[UUID]) -> ColumnElement[bool]:
    """One array, where IN would be a parameter for each of thousands."""
    return Task.id == any_(literal(list(task_ids), ARRAY(Uuid)))
