"""Requests that must not be cut off: their answers decide whether something was paid."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

from compute.capacity import to_its_end

__all__ = ["UnderWay"]

T = TypeVar("T")


class UnderWay:
    """The requests of one process, by the task that they are for."""

    def __init__(self) -> None:
        self._of_tasks: defaultdict[UUID | None, set[asyncio.Task[Any]]] = defaultdict(set)
        self._others: set[asyncio.Task[None]] = set()

    async def to_its_end(self, work: Coroutine[Any, Any, T], *, task_id: UUID | None = None) -> T:
        """Do `work`, also if nobody waits for it any more: a run that is handed back must not lose an answer. What is
        for `task_id` is cut off when that is cancelled.

        Raises:
            CancelledError: it was waited for by a run that was stopped, or its task was cancelled.
        """
        working = asyncio.create_task(work)
        self._of_tasks[task_id].add(working)
        try:
            return await to_its_end(working)
        finally:
            self._of_tasks[task_id].discard(working)
            if not self._of_tasks[task_id]:
                del self._of_tasks[task_id]

    def stop(self, task_id: UUID) -> None:
        """Cut off the requests of a task that was cancelled: nobody wants their answers."""
        for working in self._of_tasks.get(task_id, set()):
            working.cancel()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something small that nobody waits for."""
        doing = asyncio.create_task(work)
        self._others.add(doing)
        doing.add_done_callback(self._others.discard)

    async def wait(self, seconds: float) -> None:
        """Until nothing is under way, for so long at most."""
        left = {*self._others, *(one for some in self._of_tasks.values() for one in some)}
        if left:
            await asyncio.wait(left, timeout=seconds)
