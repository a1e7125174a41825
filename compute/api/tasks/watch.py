"""Follow tasks as they run. One query a tick serves every client that watches through this process.

A hint that tasks have ended brings the next tick forward, so that nobody waits for the clock to hear of an end.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select

from compute.db.keys import one_of
from compute.db.session import Database
from compute.db.tables import Task, TaskText
from compute.events import notify
from compute.events.ticker import Ticker

__all__ = ["TaskWatcher"]

_TICK_SECONDS = 0.2
_REST_SECONDS = 0.02
_KEEP_ALIVE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class WatchedState:
    """The state of a task that a watcher is told; `fence` tells one attempt from the next.

    Attributes:
        said: The number of characters that the attempt `said_by` has said so far.
    """

    status: str
    percent: float
    fence: int
    said: int = 0
    said_by: int = 0


class _Mailbox:
    """Holds the latest state that its reader has not seen."""

    def __init__(self) -> None:
        self._seen: WatchedState | None = None
        self._next: WatchedState | None = None
        self._full = asyncio.Event()

    def offer(self, state: WatchedState) -> None:
        if state != self._seen:
            self._next = state
            self._full.set()

    async def take(self, timeout: float) -> WatchedState | None:
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
        self._watchers: dict[UUID, set[_Mailbox]] = defaultdict(set)
        self._ticker = Ticker(
            notify.waking(database, [notify.ENDED, notify.CANCELLED]),
            tick_seconds,
            rest=_REST_SECONDS,
            tick=self._tick,
            wanted=lambda: bool(self._watchers),
        )

    async def changes(self, task_id: UUID) -> AsyncGenerator[WatchedState | None]:
        """The state as it is now and then at every change; None when nothing changed for a while.

        A slow reader skips states, never the latest one.
        """
        mailbox = _Mailbox()
        self._watchers[task_id].add(mailbox)
        self._ticker.wake()
        try:
            while True:
                yield await mailbox.take(_KEEP_ALIVE_SECONDS)
        finally:
            self._watchers[task_id].discard(mailbox)
            if not self._watchers[task_id]:
                del self._watchers[task_id]

    async def run(self) -> None:
        """Look for changes until cancelled."""
        await self._ticker.run()

    async def _tick(self) -> None:
        async with self._database.transaction() as session:
            rows = await session.execute(
                select(
                    Task.id,
                    Task.status,
                    Task.progress,
                    Task.fence,
                    func.coalesce(func.length(TaskText.text), 0),
                    func.coalesce(TaskText.fence, 0),
                )
                .outerjoin(TaskText, TaskText.task_id == Task.id)
                .where(one_of(Task.id, self._watchers))
            )
            states = {task_id: WatchedState(*state) for task_id, *state in rows}
        for task_id, state in states.items():
            for mailbox in self._watchers.get(task_id, ()):
                mailbox.offer(state)
