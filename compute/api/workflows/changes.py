"""What a client may do to workflows: create, start, update, pause, resume, approve, cancel, clean up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.dialect import Dialect
from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.needs import require_unneeded_tasks
from compute.api.resources import Resources
from compute.api.workflows.bodies import read, with_image
from compute.api.workflows.faults import faults_of_input
from compute.api.workflows.presenter import look, render
from compute.db.as_sent import definition_of, values_of
from compute.db.keys import one_of
from compute.db.tables import Task, Workflow, WorkflowStep
from compute.errors import Conflict, InvalidFields, InvalidInput, StorageFailed
from compute.events import notify
from compute.requests.faults import faults_at
from compute.requests.validate import validate
from compute.schemas.enums import WorkflowStatus
from compute.schemas.workflows import (
    CreateWorkflow,
    WorkflowCleanupDetail,
    WorkflowCleanupError,
    WorkflowUpdate,
)
from compute.tasks.registry import kind_of
from compute.workflows.definition.check import check_workflow, inputs_read, unread_inputs
from compute.workflows.inputs import ingest
from compute.workflows.plan import CONFIG, INPUT
from compute.workflows.rows import store
from compute.workflows.rows.losses import without_files, without_tasks
from compute.workflows.states import OPEN_WORKFLOWS

__all__ = [
    "approve_step",
    "cancel_workflow",
    "clean_up_workflow",
    "create_workflow",
    "pause_workflow",
    "resume_workflow",
    "start_workflow",
    "update_workflow",
]

_LISTED = 1000

Shown = Callable[[AsyncSession, Workflow], Awaitable[BaseModel]]
"""Makes the answer with a workflow."""


async def create_workflow(
    body: dict[str, Any], *, start: bool | None, idempotent: IdempotentRequest, resources: Resources
) -> Answer:
    """Store a workflow, and with `start` set it going.

    Raises:
        ReplayError: its key was answered before.
        InvalidFields, TooLarge: it cannot run, or its inputs cannot be had; nothing was stored.
        StorageFailed: its inputs could not be kept.
    """
    # Up to a quarter of a second for 500 steps: other requests have their turns meanwhile.
    found = await asyncio.to_thread(read, body)
    if found.reading is None:
        raise InvalidFields(found.faults)
    definition, dialect = found.reading.definition, found.dialect
    # The quick start's samples start theirs themselves.
    start = dialect is Dialect.CANONICAL if start is None else start
    also_read: set[str] = set()
    if dialect is Dialect.QUICKSTART:
        with_it = with_image(definition)
        definition, also_read = (with_it, set()) if start else (definition, inputs_read(with_it))
    given = (definition.input or {}) if start else None
    with found.in_its_words():
        checked = await asyncio.to_thread(
            check_workflow,
            definition,
            resources.serving,
            given,
            reading=found.reading,
            found=found.faults,
            also_read=also_read,
        )
        await _check_webhooks(definition, resources)
        values = {INPUT: given or {}, CONFIG: definition.config}
        taken = await ingest(checked, values, resources, resources.serving) if start else None
    async with idempotent.once(resources.database) as session:
        workflow = await store.create(session, definition, checked, taken=taken)
        (seen,) = await look(session, [workflow])
        answer = Answer(201, await render(seen, dialect))
        await idempotent.remember(session, answer)
    resources.notifier.notify(notify.WORKFLOW)
    return answer


async def start_workflow(
    workflow_id: UUID, dialect: Dialect, given: dict[str, Any], *, idempotent: IdempotentRequest, resources: Resources
) -> Answer:
    """Set a PENDING workflow going with this input, which adds to that of its definition.

    Raises:
        ReplayError: its key was answered before.
        NotFound: there is no such workflow.
        Conflict: it was started before.
        InvalidFields, TooLarge: with this input it cannot run; it is as before.
        StorageFailed: its inputs could not be kept.
    """
    async with resources.database.transaction() as session:
        workflow = await store.get(session, workflow_id)
        steps = await store.steps_of(session, [workflow_id])
    if workflow.status != WorkflowStatus.PENDING:
        raise Conflict(f"Workflow {workflow_id} is {workflow.status}; it can be started only while it is PENDING.")
    definition = _definition(workflow, steps, given)
    if dialect is Dialect.QUICKSTART:
        definition = with_image(definition)
    read_of_it = inputs_read(definition)
    if unread := unread_inputs(given, read_of_it):
        raise InvalidFields(unread)
    values = {INPUT: definition.input or {}, CONFIG: definition.config}
    with faults_of_input(definition):
        checked = await asyncio.to_thread(
            check_workflow, definition, resources.serving, definition.input, also_read=workflow.input
        )
        taken = await ingest(checked, values, resources, resources.serving)
    async with idempotent.once(resources.database) as session:
        workflow = await store.start(session, workflow_id, definition, checked, taken)
        (seen,) = await look(session, [workflow], estimate=True)
        answer = Answer(200, await render(seen, dialect))
        await idempotent.remember(session, answer)
    resources.notifier.notify(notify.WORKFLOW)
    return answer


async def update_workflow(resources: Resources, workflow_id: UUID, update: WorkflowUpdate) -> Workflow:
    """Change what `update` names; null takes a description or a webhook away.

    Raises:
        NotFound: there is no such workflow.
        InvalidInput: the webhook's address cannot be used, or the name is null.
    """
    changes = update.model_dump(exclude_unset=True)
    if "name" in changes and changes["name"] is None:
        raise InvalidInput("A workflow has a name.", field="name")
    if changes.get("webhook_url") is not None:
        await resources.client.check_url(changes["webhook_url"], "webhook_url")
    async with resources.database.transaction() as session:
        workflow = await store.locked(session, workflow_id)
        for name, value in changes.items():
            setattr(workflow, name, value)
        workflow.updated_at = datetime.now(UTC)
    return workflow


async def pause_workflow(resources: Resources, workflow_id: UUID) -> Workflow:
    """See `store.pause`."""
    async with resources.database.transaction() as session:
        return await store.pause(session, workflow_id)


async def resume_workflow(
    resources: Resources, workflow_id: UUID, from_step: str | None, idempotent: IdempotentRequest, shown: Shown
) -> Answer:
    """See `store.resume`; steps whose files are gone are run again where others need them. `shown` is the answer.

    Raises:
        ReplayError: its key was answered before.
    """
    async with resources.database.transaction() as session:
        await store.get(session, workflow_id)
        steps = await store.steps_of(session, [workflow_id])
        lost = await without_tasks(session, steps)
    lost |= await without_files(resources.objects, steps)
    async with idempotent.once(resources.database) as session:
        workflow, cancelled = await store.resume(session, workflow_id, from_step, lost=lost)
        answer = await _remembered(idempotent, session, await shown(session, workflow))
    _stop(resources, cancelled)
    resources.notifier.notify(notify.WORKFLOW)
    return answer


async def cancel_workflow(resources: Resources, workflow_id: UUID) -> Workflow:
    """See `store.cancel`; the workers of its tasks stop at their next steps."""
    async with resources.database.transaction() as session:
        workflow, cancelled = await store.cancel(session, workflow_id)
    _stop(resources, cancelled)
    return workflow


async def approve_step(resources: Resources, workflow_id: UUID, step_id: str) -> Workflow:
    """See `store.approve`."""
    async with resources.database.transaction() as session:
        workflow = await store.approve(session, workflow_id, step_id)
    resources.notifier.notify(notify.WORKFLOW)
    return workflow


async def clean_up_workflow(
    resources: Resources,
    workflow_id: UUID,
    idempotent: IdempotentRequest,
    shown: Callable[[AsyncSession, Workflow, WorkflowCleanupDetail], Awaitable[BaseModel]],
    *,
    tasks: bool,
) -> Answer:
    """Mark a workflow as deleted; with `tasks` remove the files of its tasks and mark those as well. What cannot be
    removed is reported; doing it again tries again. `shown` is the answer.

    Raises:
        ReplayError: its key was answered before.
        NotFound: there is no such workflow.
        Conflict: it runs, or is paused, or another one that has not ended needs its files.
    """
    async with resources.database.transaction() as session:
        workflow = await store.locked(session, workflow_id)
        if WorkflowStatus(workflow.status) in OPEN_WORKFLOWS:
            raise Conflict(f"Workflow {workflow_id} is {workflow.status}; cancel it first.")
        own = select(Task).where(Task.workflow_id == str(workflow_id), Task.step_id.is_not(None))
        rows = list(await session.scalars(own.order_by(Task.created_at))) if tasks else []
        # It is PENDING, or has ended: not one of those that need them.
        made = [task for task in rows if task.deleted_at is None]
        await require_unneeded_tasks(session, made if workflow.status != WorkflowStatus.PENDING else [])
        workflow.deleted_at = workflow.deleted_at or datetime.now(UTC)
    deleted: list[str] = []
    errors: list[WorkflowCleanupError] = []
    cleaned: list[UUID] = []
    for task in rows:
        try:
            deleted += await _remove_files(resources, task)
            cleaned.append(task.id)
        except StorageFailed as error:
            errors.append(
                WorkflowCleanupError(
                    task_id=task.id, step_id=task.step_id or "", task_type=task.task_type, error=error.detail
                )
            )
    detail = WorkflowCleanupDetail(
        tasks_processed=len(rows), tasks_cleaned=len(cleaned), deleted_paths=deleted, errors=errors
    )
    async with idempotent.once(resources.database) as session:
        marked = select(Task).where(one_of(Task.id, cleaned), Task.deleted_at.is_(None))
        for task in await session.scalars(marked.order_by(Task.id).with_for_update()):
            task.deleted_at = datetime.now(UTC)
        return await _remembered(idempotent, session, await shown(session, workflow, detail))


async def _remembered(idempotent: IdempotentRequest, session: AsyncSession, shown: BaseModel) -> Answer:
    answer = Answer(200, shown.model_dump_json())
    await idempotent.remember(session, answer)
    return answer


def _definition(workflow: Workflow, steps: Sequence[WorkflowStep], given: dict[str, Any]) -> CreateWorkflow:
    """A stored workflow as it was defined, with more input."""
    names = CreateWorkflow.model_fields.keys() - {"steps", "input"}
    stored = {name: getattr(workflow, name) for name in names} | values_of(workflow)
    return validate(
        CreateWorkflow,
        stored | {"steps": [definition_of(step) for step in steps], "input": values_of(workflow)["input"] | given},
    )


async def _check_webhooks(definition: CreateWorkflow, resources: Resources) -> None:
    if definition.webhook_url is not None:
        await resources.client.check_url(definition.webhook_url, "webhook_url")
    for place, step in enumerate(definition.steps):
        url = step.config.get("webhook_url")
        if isinstance(url, str):
            with faults_at("steps", place, "config"):
                await resources.client.check_url(url, "webhook_url")


async def _remove_files(resources: Resources, task: Task) -> list[str]:
    prefix = f"{kind_of(task.task_type).folder}/{task.id}/"
    paths = [stored.path for stored in await resources.objects.list(prefix, _LISTED)]
    await resources.objects.delete_prefix(prefix)
    return paths


def _stop(resources: Resources, cancelled: Sequence[UUID]) -> None:
    for task_id in cancelled:
        resources.notifier.notify(notify.CANCELLED, str(task_id))
