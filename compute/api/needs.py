"""Who still needs stored files: what waits or runs, and workflows that have not ended. Their files stay."""

import json
from collections.abc import Iterable
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import ColumnElement, String, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from compute.db.tables import Task, Training, Workflow, WorkflowStep
from compute.errors import Conflict
from compute.schemas.enums import TaskStatus, WorkflowStatus
from compute.tasks.registry import kind_of
from compute.tasks.states import TERMINAL
from compute.training.states import OPEN_TRAININGS

__all__ = ["require_unneeded", "require_unneeded_tasks"]

_OPEN_TASKS = [status for status in TaskStatus if status not in TERMINAL]
_OPEN_WORKFLOWS = [WorkflowStatus.PENDING, WorkflowStatus.RUNNING, WorkflowStatus.PAUSED]


async def require_unneeded(session: AsyncSession, path: str) -> None:
    """Raises:
    Conflict: a task or training that has not ended names the file or a link to it, or a workflow does, or has a
        result with it.
    """
    await _require_unnamed(session, [json.dumps(path, ensure_ascii=False), f"/{quote(path)}?"])


async def require_unneeded_tasks(session: AsyncSession, tasks: Iterable[Task]) -> None:
    """The same for all files that these tasks have made.

    Raises:
        Conflict: one of them is still needed, or belongs to a workflow that has not ended.
    """
    found = list(tasks)
    own = {UUID(task.workflow_id) for task in found if task.workflow_id is not None and task.step_id is not None}
    opened = select(Workflow).where(Workflow.id.in_(own), Workflow.status.in_(_OPEN_WORKFLOWS)).limit(1)
    if own and (workflow := await session.scalar(opened)) is not None:
        raise _needed(f"workflow {workflow.id}, which is {workflow.status}")
    if found:
        folders = [f"{kind_of(task.task_type).folder}/{task.id}/" for task in found]
        await _require_unnamed(session, [f"{before}{folder}" for folder in folders for before in ('"', "/")])


async def _require_unnamed(session: AsyncSession, words: list[str]) -> None:
    task = select(Task.id).where(Task.status.in_(_OPEN_TASKS), _names(Task.spec, words))
    if (found := await session.scalar(task.limit(1))) is not None:
        raise _needed(f"task {found}")
    training = select(Training.id).where(Training.status.in_(OPEN_TRAININGS), _names(Training.spec, words))
    if (found := await session.scalar(training.limit(1))) is not None:
        raise _needed(f"training {found}")
    columns = (Workflow.input, Workflow.config, Workflow.taken)
    opened = select(Workflow.id, Workflow.status).where(Workflow.status.in_(_OPEN_WORKFLOWS))
    named = or_(*(_names(column, words) for column in columns))
    in_steps = or_(_names(WorkflowStep.definition, words), _names(WorkflowStep.result, words))
    for workflow in (
        opened.where(named),
        opened.join(WorkflowStep, WorkflowStep.workflow_id == Workflow.id).where(in_steps),
    ):
        if (row := (await session.execute(workflow.limit(1))).first()) is not None:
            raise _needed(f"workflow {row.id}, which is {row.status}")


def _names(column: InstrumentedAttribute[object], words: list[str]) -> ColumnElement[bool]:
    """Whether one of the words is in the text of a JSON column."""
    word = func.unnest(cast(literal(words, ARRAY(TEXT)), ARRAY(TEXT))).column_valued("word")
    return select(word).where(func.strpos(cast(column, String), word) > 0).exists()


def _needed(by: str) -> Conflict:
    return Conflict(f"Files of it are needed by {by}. Wait until that has ended, or cancel it first.")
