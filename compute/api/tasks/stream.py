"""A task's progress as server-sent events."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from compute.api.dialect import Dialect, TaskRef, quickstart_id
from compute.api.links import RequestLinks
from compute.api.resources import Resources
from compute.api.tasks.presenter import present, quickstart_status
from compute.db.keys import get_row
from compute.db.tables import Task
from compute.errors import NotFound
from compute.schemas.enums import TaskStatus
from compute.tasks.states import TERMINAL

__all__ = ["task_events"]


async def task_events(resources: Resources, ref: TaskRef, links: RequestLinks) -> AsyncGenerator[str]:
    """The lines to send, ending with the task's end (or its deletion)."""
    last: TaskStatus | None = None
    async with aclosing(resources.watcher.changes(ref.id)) as changes:
        async for state in changes:
            if state is None:
                if not await _exists(resources, ref):
                    return
                # A comment now and then keeps proxies from closing a quiet connection.
                yield ": waiting\n\n"
                continue
            status = TaskStatus(state.status)
            if status in TERMINAL:
                yield await _end(resources, ref, links, status)
                return
            yield _event("progress" if status is last else "status", _brief(ref, status, state.percent))
            last = status


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
