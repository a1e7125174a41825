"""A task's progress as server-sent events, which go on where a lost connection has left them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from compute.api.dialect import Dialect, TaskRef, quickstart_id
from compute.api.links import RequestLinks
from compute.api.resources import Resources
from compute.api.tasks.position import Position
from compute.api.tasks.presenter import present, quickstart_status
from compute.api.tasks.watch import Heard, WatchedState
from compute.db.tables import Task
from compute.errors import Unavailable
from compute.schemas.enums import TaskStatus
from compute.tasks.states import TERMINAL

__all__ = ["task_events"]

_COMMENT = ": waiting\n\n"
"""Sent now and then, so that no proxy closes a quiet connection."""
_AGAIN_SECONDS = 1.0


async def task_events(
    resources: Resources, ref: TaskRef, links: RequestLinks, position: Position | None = None
) -> AsyncGenerator[str]:
    """The lines to send, ending with the task's end (or its deletion).

    Every move of the task's status since `position` is an event, in order; without one, the first event is the status
    as it is. Progress is the latest, and never less than was sent. Text comes in events of its own, `text`, each with
    the `offset` at which it goes on: 0 begins anew, after a retry.
    """
    stream = _Stream(resources, ref, links, position or Position())
    is_new = position is None
    begin = None if position is None else position.move
    heard = Heard(stream.sent.fence, stream.sent.characters)
    async with aclosing(resources.watcher.changes(ref.id, begin, heard)) as changes:
        async for state in changes:
            if state is None:
                if await stream.is_gone():
                    return
                yield _COMMENT
                continue
            for line in stream.moves(state, is_new=is_new):
                yield line
            is_new = False
            if state.said:
                yield stream.text(state)
            if TaskStatus(state.status) in TERMINAL:
                async for line in stream.end(state):
                    yield line
                return
            if progress := stream.progress(state):
                yield progress


@dataclass(slots=True)
class _Stream:
    """What is sent to one client, and how far it is."""

    resources: Resources
    ref: TaskRef
    links: RequestLinks
    sent: Position

    def moves(self, state: WatchedState, *, is_new: bool) -> list[str]:
        """One event for each move that the client lacks but the end, or for the status as it is."""
        if is_new:
            self.sent.move = state.last
            return [] if TaskStatus(state.status) in TERMINAL else [self._brief("status", state.status, state.percent)]
        lines = []
        for number, move in enumerate(state.moves, 1):
            if TaskStatus(move.status) in TERMINAL:
                break
            self.sent.move = move.id
            # Whatever else it was when it passed through, a task had done nothing yet.
            percent = state.percent if number == len(state.moves) else 0.0
            lines.append(self._brief("status", move.status, percent))
        return lines

    def progress(self, state: WatchedState) -> str | None:
        """The progress, if it is more than was sent."""
        if round(state.percent * 100) <= self.sent.hundredths:
            return None
        return self._brief("progress", state.status, state.percent)

    def text(self, state: WatchedState) -> str:
        """What was said since, or all of it if another attempt says it."""
        self.sent.fence, self.sent.characters = state.said_by, state.offset + len(state.said)
        return self._event("text", {"id": self._id, "offset": state.offset, "text": state.said})

    async def end(self, state: WatchedState) -> AsyncGenerator[str]:
        """The last event, with the whole task; nothing if it was removed meanwhile. The database is waited for."""
        while True:
            try:
                task = await self._row()
            except Unavailable:
                yield _COMMENT
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                break
        if task is not None:
            yield await self._last(state, task)

    async def _last(self, state: WatchedState, task: Task) -> str:
        self.sent.move, self.sent.hundredths = state.last, round(task.progress * 100)
        body = (await present(task, self.ref.dialect, self.links)).model_dump(mode="json")
        return self._event(TaskStatus(task.status).lower(), body)

    async def is_gone(self) -> bool:
        """Whether the task was removed. While nobody can know it was not."""
        try:
            return await self._row() is None
        except Unavailable:
            return False

    async def _row(self) -> Task | None:
        async with self.resources.database.transaction() as session:
            return await session.get(Task, self.ref.id)

    @property
    def _id(self) -> str:
        return str(self.ref.id) if self.ref.dialect is Dialect.CANONICAL else quickstart_id(self.ref.id)

    def _brief(self, name: str, word: str, percent: float) -> str:
        status = TaskStatus(word)
        self.sent.hundredths = round(percent * 100)
        if self.ref.dialect is Dialect.CANONICAL:
            return self._event(name, {"id": self._id, "status": status, "progress": round(percent, 2)})
        progress = round(percent / 100, 4)
        return self._event(name, {"id": self._id, "status": quickstart_status(status), "progress": progress})

    def _event(self, name: str, data: dict[str, Any]) -> str:
        return f"id: {self.sent}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
