"""A task's progress as server-sent events."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from compute.api.dialect import Dialect, TaskRef, quickstart_id
from compute.api.links import RequestLinks
from compute.api.resources import Resources
from compute.api.tasks.presenter import present, quickstart_status
from compute.api.tasks.watch import WatchedState
from compute.db.keys import get_row
from compute.db.tables import Task, TaskText
from compute.errors import NotFound
from compute.schemas.enums import TaskStatus
from compute.tasks.states import TERMINAL

__all__ = ["task_events"]


async def task_events(resources: Resources, ref: TaskRef, links: RequestLinks) -> AsyncGenerator[str]:
    """The lines to send, ending with the task's end (or its deletion).

    Text comes in events of its own, `text`, each with the `offset` at which it goes on: 0 begins anew, after a retry.
    """
    last: TaskStatus | None = None
    told: dict[str, Any] | None = None
    heard = _Heard()
    async with aclosing(resources.watcher.changes(ref.id)) as changes:
        async for state in changes:
            if state is None:
                if not await _exists(resources, ref):
                    return
                # A comment now and then keeps proxies from closing a quiet connection.
                yield ": waiting\n\n"
                continue
            status = TaskStatus(state.status)
            if heard.lacks(state):
                yield await _text(resources, ref, heard)
            if status in TERMINAL:
                yield await _end(resources, ref, links, status)
                return
            brief = _brief(ref, status, state.percent)
            if status is not last or brief != told:
                yield _event("progress" if status is last else "status", brief)
            last, told = status, brief


@dataclass(slots=True)
class _Heard:
    """How much of the text of an attempt has been sent, in characters."""

    characters: int = 0
    fence: int = 0

    def lacks(self, state: WatchedState) -> bool:
        """Whether there is more."""
        return bool(state.said) and (state.said_by, state.said) != (self.fence, self.characters)


async def _text(resources: Resources, ref: TaskRef, heard: _Heard) -> str:
    """What was said since, or all of it if another attempt says it."""
    async with resources.database.transaction() as session:
        row = await session.get(TaskText, ref.id)
    if row is None:
        return ""
    if row.fence != heard.fence:
        heard.characters, heard.fence = 0, row.fence
    offset, heard.characters = heard.characters, len(row.text)
    shown = str(ref.id) if ref.dialect is Dialect.CANONICAL else quickstart_id(ref.id)
    return _event("text", {"id": shown, "offset": offset, "text": row.text[offset:]})


def _brief(ref: TaskRef, status: TaskStatus, percent: float) -> dict[str, Any]:
    if ref.dialect is Dialect.CANONICAL:
        return {"id": str(ref.id), "status": status, "progress": round(percent, 2)}
    return {"id": quickstart_id(ref.id), "status": quickstart_status(status), "progress": round(percent / 100, 4)}


async def _exists(resources: Resources, ref: TaskRef) -> bool:
    try:
        async with resources.database.transaction() as session:
            await get_row(session, Task, ref.id)
    except NotFound:
        return False
    return True


async def _end(resources: Resources, ref: TaskRef, links: RequestLinks, status: TaskStatus) -> str:
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, ref.id)
    return _event(status.lower(), (await present(task, ref.dialect, links)).model_dump(mode="json"))


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
