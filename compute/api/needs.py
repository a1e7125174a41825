"""Finds stored files that are still needed, by tasks that wait or run and by workflows that have not ended. They stay.

What has not ended is looked through, up to a number of rows of each kind. Where there are more, nobody knows: then
files stay as well. Files of a tenant stay for what the tenant and keys without one have sent, since no other tenant can
name them: the work of others is then left out, and what waits of theirs keeps nobody from removing what is its own.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import ColumnElement, Select, String, any_, cast, func, literal, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.confinement import all_tenants, tenant_of
from compute.db.lists.walks import follow_indices
from compute.db.tables import Task, Training, Workflow, WorkflowStep
from compute.db.tables.tasks import LEASED, READY
from compute.errors import Conflict, Overloaded
from compute.requests.request import DEFAULT_TENANT
from compute.schemas.enums import WorkflowStatus
from compute.tasks.registry import kind_of
from compute.training.states import OPEN_TRAININGS

__all__ = ["require_unneeded", "require_unneeded_tasks"]

_OPEN_WORKFLOWS = [WorkflowStatus.PENDING, WorkflowStatus.RUNNING, WorkflowStatus.PAUSED]
_UNENDED = "workflows.status IN ('PENDING', 'RUNNING', 'PAUSED')"
"""As it stands in the index."""
_MOST = 5_000
"""So many rows of each kind are looked through."""
_NEEDED = "Files of it are needed by {}. Wait until that has ended, or cancel it first."
_FOLDER = r'["/]([^"/]+/[0-9a-f]{8}-[0-9a-f-]{27}/)'

Names = Callable[[ColumnElement[Any]], ColumnElement[bool]]
"""Whether a column of JSON names one of the files."""


class _Unended(NamedTuple):
    """Work that has not ended: ids, statuses and columns of JSON. `concerned` is true of what can name files of the
    caller's tenant."""

    noun: str
    rows: Select[Any]
    concerned: ColumnElement[bool]


async def require_unneeded(session: AsyncSession, path: str) -> None:
    """Raises:
    Conflict: a task or training that has not ended names the file or a link to it, or a workflow does, or has a
        result with it.
    Overloaded: more has not ended than can be looked through.
    """
    words = [json.dumps(path, ensure_ascii=False), f"/{quote(path)}?"]
    await _require_unnamed(
        session, lambda column: or_(*(func.strpos(cast(column, String), word) > 0 for word in words))
    )


async def require_unneeded_tasks(session: AsyncSession, tasks: Iterable[Task]) -> None:
    """The same for all files that these tasks have made.

    Raises:
        Conflict: one of them is still needed, or belongs to a workflow that has not ended.
        Overloaded: more has not ended than can be looked through.
    """
    found = list(tasks)
    own = {UUID(task.workflow_id) for task in found if task.workflow_id is not None and task.step_id is not None}
    opened = select(Workflow).where(Workflow.id.in_(own), Workflow.status.in_(_OPEN_WORKFLOWS)).limit(1)
    if own and (workflow := await session.scalar(opened)) is not None:
        raise _needed(f"workflow {workflow.id}, which is {workflow.status}")
    if found:
        folders = [f"{kind_of(task.task_type).folder}/{task.id}/" for task in found]
        await _require_unnamed(session, lambda column: _names_folder(column, folders))


async def _require_unnamed(session: AsyncSession, names: Names) -> None:
    """Whatever the caller may see, files that others need stay; who they are is told to a caller who is free."""
    tenant = tenant_of(session)
    try:
        with all_tenants(session):
            await _look(session, names, tenant)
    except Conflict as needed:
        if tenant is None:
            raise
        raise Conflict(_NEEDED.format("something that has not ended")) from needed


async def _look(session: AsyncSession, names: Names, tenant: str | None) -> None:
    await follow_indices(session)
    for work in _unended(tenant):
        if (found := await _first(session, work, names, tenant)) is not None:
            status = f", which is {found.status}" if work.noun == "workflow" else ""
            raise _needed(f"{work.noun} {found.id}{status}")


def _unended(tenant: str | None) -> Iterator[_Unended]:
    # A key without a tenant may send a task in the name of any. What it sends in the name of another one is found only
    # as long as few wait: whose file it is may remove it.
    labels = [tenant, DEFAULT_TENANT]
    tasks = select(Task.id, Task.status, Task.spec)
    for rows in (
        tasks.where(text(READY)).order_by(Task.queue, Task.priority, Task.tenant, Task.created_at, Task.id),
        tasks.where(text(LEASED)).order_by(Task.queue, Task.tenant),
    ):
        yield _Unended("task", rows, Task.tenant.in_(labels))
    for status in OPEN_TRAININGS:
        training = select(Training.id, Training.status, Training.spec).where(Training.status == status)
        yield _Unended("training", training.order_by(Training.created_at), Training.tenant.in_(labels))
    opened = select(Workflow.id, Workflow.status).where(text(_UNENDED)).order_by(Workflow.id)
    of_steps = opened.join(WorkflowStep, WorkflowStep.workflow_id == Workflow.id)
    for rows in (
        opened.add_columns(Workflow.input, Workflow.config, Workflow.taken),
        of_steps.add_columns(WorkflowStep.definition, WorkflowStep.result),
    ):
        yield _Unended("workflow", rows, or_(Workflow.bound_to.is_(None), Workflow.bound_to == tenant))


async def _first(session: AsyncSession, work: _Unended, names: Names, tenant: str | None) -> Any:
    """The first row that names a file; None if none does.

    Raises:
        Overloaded: there are too many.
    """
    found = await _scan(session, work.rows, names)
    if tenant is not None and found is not None and not found.named:
        found = await _scan(session, work.rows.where(work.concerned), names)
    if found is not None and not found.named:
        raise Overloaded(
            f"More than {_MOST:,} tasks, trainings, workflows or steps have not ended, so it cannot be told whether "
            "one of them needs files of it. Try again when fewer wait."
        )
    return found


async def _scan(session: AsyncSession, rows: Select[Any], names: Names) -> Any:
    """The first row that names a file, or else the one behind the last that may be looked at; None without either."""
    looked_at = rows.limit(_MOST + 1).subquery("looked_at")
    named = or_(*(names(column) for column in list(looked_at.c)[2:]))
    number = func.row_number().over().label("number")
    told = select(looked_at.c.id, looked_at.c.status, named.label("named"), number).subquery("told")
    return (await session.execute(select(told).where(or_(told.c.named, told.c.number > _MOST)).limit(1))).first()


def _names_folder(column: ColumnElement[Any], folders: Sequence[str]) -> ColumnElement[bool]:
    found = func.regexp_matches(cast(column, String), _FOLDER, "g").column_valued("found")
    part = func.array_to_string(found, "")
    return select(part).where(part == any_(literal(list(folders), ARRAY(TEXT)))).exists()


def _needed(by: str) -> Conflict:
    return Conflict(_NEEDED.format(by))
