"""Checkpoints of many steps, written together: a group commit like the Dispatcher's.

Those of one workflow are written in their order. While somebody keeps its row locked they wait, and no other
workflow's do. Whether a write took effect may stay unknown when its connection breaks; then it is made again.
"""

from collections.abc import Sequence

from compute.db.group_commit import GroupCommit
from compute.db.tables import Task
from compute.workflows.rows.journal import Checkpoint, JournalStore, JournalVerdict, Refused, Written
from compute.workflows.rows.statements import Begin, End, Finish, Hold

__all__ = ["Journal", "Lost", "Paused"]

_MOST_AT_ONCE = 500


class Lost(Exception):
    """The workflow is somebody else's by now; nothing was written."""


class Paused(Exception):
    """Nothing new begins in a workflow that is paused; nothing was written."""


class Journal:
    """The one who writes for all steps of a runner. `run` must be running."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._writes: GroupCommit[Checkpoint, JournalVerdict] = GroupCommit(
            store.write,
            lambda checkpoint: checkpoint.workflow_id,
            given_up=Refused.LOST,
            most=_MOST_AT_ONCE,
            kind=lambda checkpoint: type(checkpoint.write).__name__,
        )

    async def begin(self, write: Begin, tasks: Sequence[Task]) -> list[str]:
        """Store a step's new tasks and make it RUNNING, together. Returns the ids of the tasks that it has now, which
        are another runner's if that one was faster.

        Raises:
            Paused, Lost: it must not begin.
        """
        return (await self._put(Checkpoint(write, tasks))).task_ids

    async def end(self, write: End) -> None:
        """Write a step's end.

        Raises:
            Lost: it is no longer ours to say.
        """
        await self._put(Checkpoint(write))

    async def hold(self, write: Hold) -> None:
        """Note that a step waits for approval."""
        await self._put(Checkpoint(write))

    async def finish(self, write: Finish) -> None:
        """Write a workflow's end, or that it has nothing to do for now; without effect if it is somebody else's."""
        await self._put(Checkpoint(write))

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            await self._writes.run()
        finally:
            await self._store.close()

    async def _put(self, checkpoint: Checkpoint) -> Written:
        verdict = await self._writes.put(checkpoint)
        if verdict is Refused.PAUSED:
            raise Paused
        if isinstance(verdict, Refused):
            raise Lost
        return verdict
