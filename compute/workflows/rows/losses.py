"""Finds steps that have lost their results: their tasks were cleaned up or deleted, or their files are gone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.keys import one_of
from compute.db.tables import Task, WorkflowStep
from compute.storage.base import ObjectStore
from compute.storage.together import for_each
from compute.tasks.results import artifacts_of

__all__ = ["missing", "paths_of_tasks", "without_files", "without_tasks"]


async def without_tasks(session: AsyncSession, steps: Sequence[WorkflowStep]) -> set[str]:
    """The steps with results of which a task was cleaned up or deleted."""
    wanted = {step.step_id: {UUID(task_id) for task_id in step.task_ids} for step in steps if step.result is not None}
    there = await session.scalars(
        select(Task.id).where(one_of(Task.id, set[UUID]().union(*wanted.values())), Task.deleted_at.is_(None))
    )
    found = set(there)
    return {step_id for step_id, task_ids in wanted.items() if not task_ids <= found}


async def without_files(objects: ObjectStore, steps: Sequence[WorkflowStep]) -> set[str]:
    """The steps of whose results a file is gone.

    Raises:
        StorageFailed: the store could not be asked.
    """
    made = {step.step_id: _paths_of(step.result) for step in steps if step.result}
    gone = await missing(objects, (path for paths in made.values() for path in paths))
    return {step_id for step_id, paths in made.items() if not gone.isdisjoint(paths)}


async def missing(objects: ObjectStore, paths: Iterable[str]) -> set[str]:
    """The files that do not exist.

    Raises:
        StorageFailed: the store could not be asked.
    """
    asked = list(set(paths))
    found = await for_each(asked, objects.stat)
    return {path for path, stat in zip(asked, found, strict=True) if stat is None}


def paths_of_tasks(tasks: Iterable[Task]) -> list[str]:
    """The files that tasks have made."""
    return [artifact["path"] for task in tasks for artifact in artifacts_of(task)]


def _paths_of(result: Mapping[str, Any]) -> list[str]:
    outputs = result.get("outputs")
    return (
        [one["path"] for one in outputs if isinstance(one, dict) and "path" in one] if isinstance(outputs, list) else []
    )
