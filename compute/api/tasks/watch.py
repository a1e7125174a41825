"""Follow tasks as they run. One query a tick serves every client that watches through this process.

A hint that tasks have ended brings the next tick forward, so that nobody waits for the clock to hear of an end.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from compute.db.session import Database
from compute.events import notify
from compute.events.ticker import Ticker
from compute.schemas.enums import EventType

__all__ = ["Heard", "TaskMove", "TaskWatcher", "WatchedState"]

_TICK_SECONDS = 0.2
_REST_SECONDS = 0.02
_KEEP_ALIVE_SECONDS = 15.0
_LOGGED = f"event.task_id = wanted.id AND event.type IN ('{EventType.TASK_CREATED}', '{EventType.TASK_STATUS}')"

# One statement is one snapshot: the moves lead exactly to the status, and the progress belongs to it. Events are logged
# under the lock of their task's row, so the ids of one task grow in the order in which they can be seen.
_LOOK = text(f"""
SELECT task.id, task.status, task.progress, task.fence, COALESCE(said.fence, 0),
       CASE WHEN said.fence = wanted.fence THEN wanted.heard ELSE 0 END,
       CASE WHEN said.fence = wanted.fence THEN substr(said.text, wanted.heard + 1) ELSE COALESCE(said.text, '') END,
       COALESCE(wanted.after, (SELECT max(event.id) FROM task_events AS event WHERE {_LOGGED}), 0),
       moves.ids, moves.statuses
  FROM unnest(CAST(:ids AS uuid[]), CAST(:after AS bigint[]), CAST(:fences AS bigint[]), CAST(:heard AS int[]))
       AS wanted(id, after, fence, heard)
  JOIN tasks AS task ON task.id = wanted.id
  LEFT JOIN task_texts AS said ON said.task_id = wanted.id
 CROSS JOIN LATERAL (
       SELECT array_agg(event.id ORDER BY event.id) AS ids, array_agg(event.status ORDER BY event.id) AS statuses
         FROM task_events AS event WHERE {_LOGGED} AND event.id > wanted.after
     ) AS moves
""")  # noqa: S608 - made of constants


class TaskMove(NamedTuple):
    """A change of a task's status, as its event log has it."""

    id: int
    status: str


class Heard(NamedTuple):
    """How much of the text of an attempt a reader has, in characters."""

    fence: int = 0
    characters: int = 0


@dataclass(frozen=True, slots=True)
class WatchedState:
    """The state of a task that a watcher is told; `fence` tells one attempt from the next.

    Attributes:
        last: The id of the last move that led to it.
        moves: The moves since the watcher's last state, in order; none at first for who begins with the present.
        said: The text since then, if there is any, of the attempt `said_by`; `offset` characters are before it.
    """

    status: str
    percent: float
    fence: int
    last: int
    moves: tuple[TaskMove, ...] = ()
    said_by: int = 0
    offset: int = 0
    said: str = ""

    @property
    def is_news(self) -> bool:
        """Whether it tells of something that its row says no more."""
        return bool(self.moves or self.said)


class _Mailbox:
    """Holds the latest state that its reader has not seen, and all moves and text that it has not seen.

    Attributes:
        after: The last move that was put in; None before the first state of a reader that begins with the present.
        heard: The text that was put in.
    """

    def __init__(self, after: int | None, heard: Heard) -> None:
        self.after = after
        self.heard = heard
        self._seen: WatchedState | None = None
        self._next: WatchedState | None = None
        self._full = asyncio.Event()

    def offer(self, state: WatchedState) -> None:
        """Put in a state whose moves and text may begin before those that this reader lacks."""
        waiting = self._next
        new = () if self.after is None else tuple(move for move in state.moves if move.id > (self.after or 0))
        moves = (*(() if waiting is None else waiting.moves), *new)
        self.after = state.last
        state = replace(state, moves=moves, **self._text(state, waiting))
        if state.is_news or self._seen is None or state != _told(self._seen):
            self._next = state
            self._full.set()

    def _text(self, state: WatchedState, waiting: WatchedState | None) -> dict[str, Any]:
        """The text that this reader lacks, with what waits for it already."""
        begun = self.heard.characters if self.heard.fence == state.said_by else 0
        said, offset = state.said[begun - state.offset :], begun
        self.heard = Heard(state.said_by, begun + len(said))
        if waiting is not None and waiting.said and waiting.said_by == state.said_by:
            said, offset = waiting.said + said, waiting.offset
        return {"said": said, "offset": offset if said else 0, "said_by": state.said_by}

    async def take(self, timeout: float) -> WatchedState | None:
        """The next state, or None when there is none for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._full.wait()
        except TimeoutError:
            return None
        self._full.clear()
        self._seen, self._next = self._next, None
        return self._seen


def _told(state: WatchedState) -> WatchedState:
    """A state without what is told once."""
    return replace(state, moves=(), said="", offset=0)


class TaskWatcher:
    """Tells watchers when a task's status, progress or attempt changed. `run` must be running."""

    def __init__(
        self,
        database: Database,
        *,
        tick_seconds: float = _TICK_SECONDS,
        keep_alive_seconds: float = _KEEP_ALIVE_SECONDS,
    ) -> None:
        self._database = database
        self._keep_alive_seconds = keep_alive_seconds
        self._watchers: dict[UUID, set[_Mailbox]] = defaultdict(set)
        self._ticker = Ticker(
            notify.waking(database, [notify.ENDED, notify.CANCELLED]),
            tick_seconds,
            rest=_REST_SECONDS,
            tick=self._tick,
            wanted=lambda: bool(self._watchers),
        )

    async def changes(
        self,
        task_id: UUID,
        after: int | None = None,
        heard: Heard = Heard(),  # noqa: B008 - it is immutable
    ) -> AsyncGenerator[WatchedState | None]:
        """The state as it is now and then at every change; None when nothing changed for a while.

        A slow reader skips states, never the latest one, and never a move or text.

        Args:
            after: The first state has the moves behind this one; None begins with the present.
            heard: The first state has the text behind this.
        """
        mailbox = _Mailbox(after, heard)
        self._watchers[task_id].add(mailbox)
        self._ticker.wake()
        try:
            while True:
                yield await mailbox.take(self._keep_alive_seconds)
        finally:
            self._watchers[task_id].discard(mailbox)
            if not self._watchers[task_id]:
                del self._watchers[task_id]

    async def run(self) -> None:
        """Look for changes until cancelled."""
        await self._ticker.run()

    async def _tick(self) -> None:
        # Who comes while the query runs may have seen more, elsewhere, than it finds.
        asking = {task_id: tuple(mailboxes) for task_id, mailboxes in self._watchers.items()}
        given = {
            "ids": list(asking),
            "after": [_earliest(mailboxes) for mailboxes in asking.values()],
            "fences": [_least_heard(mailboxes).fence for mailboxes in asking.values()],
            "heard": [_least_heard(mailboxes).characters for mailboxes in asking.values()],
        }
        async with self._database.transaction() as session:
            rows = (await session.execute(_LOOK, given)).all()
        for task_id, status, percent, fence, said_by, offset, said, last, ids, statuses in rows:
            moves = tuple(map(TaskMove, ids or (), statuses or ()))
            latest = moves[-1].id if moves else last
            state = WatchedState(status, percent, fence, latest, moves, said_by, offset, said)
            for mailbox in asking[task_id]:
                mailbox.offer(state)


def _earliest(mailboxes: tuple[_Mailbox, ...]) -> int | None:
    """The move behind which somebody lacks some; None if all begin with the present."""
    return min((one.after for one in mailboxes if one.after is not None), default=None)


def _least_heard(mailboxes: tuple[_Mailbox, ...]) -> Heard:
    """The text behind which somebody lacks some; nothing of it, if they have that of different attempts."""
    fences = {one.heard.fence for one in mailboxes}
    return Heard(fences.pop(), min(one.heard.characters for one in mailboxes)) if len(fences) == 1 else Heard()
