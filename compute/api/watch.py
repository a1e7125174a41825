"""Follow tasks as they run. One query a tick serves every client that watches through this process.

A hint that tasks have ended brings the next tick forward, so that nobody waits for the clock to hear of an end.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from compute.db.session import DATABASE_AWAY, Database
from compute.db.tables import Task
from compute.events import hints

__all__ = ["TaskWatcher"]

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.2
# However many tasks end, and whoever hints at it.
_SHORTEST_TICK_SECONDS = 0.02

_KEEP_ALIVE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class State:
    """What a watcher is told: `fence` tells one attempt from the next."""

    status: str
    percent: float
    fence: int


class _Mailbox:
    """Holds the latest state that its reader has not seen."""

    def __init__(self) -> None:
        self._seen: State | None = None
        self._next: State | None = None
        self._full = asyncio.Event()

    def offer(self, state: State) -> None:
        if state != self._seen:
            self._next = state
            self._full.set()

    async def take(self, timeout: float) -> State | None:
        """The next state, or None when there is none for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._full.wait()
        except TimeoutError:
            return None
        self._full.clear()
        self._seen = self._next
        return self._seen


class TaskWatcher:
    """Tells watchers when a task's status, progress or attempt changed. `run` must be running."""

    def __init__(self, database: Database, *, tick_seconds: float = _TICK_SECONDS) -> None:
        self._database = database
        self._tick_seconds = tick_seconds
        self._watchers: dict[UUID, set[_Mailbox]] = defaultdict(set)
        self._watched = asyncio.Event()
        self._hinted = asyncio.Event()

    async def changes(self, task_id: UUID) -> AsyncGenerator[State | None]:
        """The state as it is now and then at every change; None when nothing changed for a while.

        A slow reader skips states, never the latest one.
        """
        mailbox = _Mailbox()
        self._watchers[task_id].add(mailbox)
        self._watched.set()
        try:
            while True:
                yield await mailbox.take(_KEEP_ALIVE_SECONDS)
        finally:
            self._watchers[task_id].discard(mailbox)
            if not self._watchers[task_id]:
                del self._watchers[task_id]

    async def run(self) -> None:
        # Nobody is listened to before somebody watches.
        await self._watched.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(
                hints.listen(
                    self._database, [hints.ENDED, hints.CANCELLED], lambda _channel, _payload: self._hinted.set()
                )
            )
            group.create_task(self._tick_on())

    async def _tick_on(self) -> None:
        while True:
            if not self._watchers:
                self._watched.clear()
                await self._watched.wait()
            self._hinted.clear()
            try:
                await self._tick()
            except DATABASE_AWAY as error:
                _log.warning("watching paused, the database is out of reach: %s", error)
            await asyncio.sleep(_SHORTEST_TICK_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_seconds):
                    await self._hinted.wait()

    async def _tick(self) -> None:
        async with self._database.transaction() as session:
            rows = await session.execute(
                select(Task.id, Task.status, Task.progress, Task.fence).where(Task.id.in_(list(self._watchers)))
            )
            states = {task_id: State(status, percent, fence) for task_id, status, percent, fence in rows}
        for task_id, state in states.items():
            for mailbox in self._watchers.get(task_id, ()):
                mailbox.offer(state)
