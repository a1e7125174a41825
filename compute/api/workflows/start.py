"""Starts a workflow that waits to be started."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from compute.api.dialect import Dialect
from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.resources import Resources
from compute.api.workflows.bodies import with_image
from compute.api.workflows.faults import faults_of_input
from compute.api.workflows.presenter import look, render
from compute.db.as_sent import definition_of, values_of
from compute.db.keys import get_row
from compute.db.tables import Workflow, WorkflowStep
from compute.errors import Conflict, InvalidFields
from compute.events import notify
from compute.requests.validate import validate
from compute.schemas.enums import WorkflowStatus
from compute.schemas.workflows import (
    CreateWorkflow,
)
from compute.workflows.definition.check import check_workflow, inputs_read, unread_inputs
from compute.workflows.inputs import ingest
from compute.workflows.plan import CONFIG, INPUT
from compute.workflows.rows import store

__all__ = ["start_workflow"]


async def start_workflow(
    workflow_id: UUID, dialect: Dialect, given: dict[str, Any], *, idempotent: IdempotentRequest, resources: Resources
) -> Answer:
    """Set a PENDING workflow going with this input, which adds to that of its definition.

    Raises:
        ReplayError: its key was answered before.
        LimitReached: it is more than the caller's quotas allow.
        NotFound: there is no such workflow.
        Conflict: it was started before.
        InvalidFields, TooLarge: with this input it cannot run; it is as before.
        StorageFailed: its inputs could not be kept.
    """
    async with resources.database.transaction() as session:
        workflow = await get_row(session, Workflow, workflow_id)
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
        await idempotent.require_room(resources.database, len(checked.steps))
        taken = await ingest(checked, values, resources, resources.serving)
    async with idempotent.once(resources.database) as session:
        workflow = await store.start(session, workflow_id, definition, checked, taken, idempotent.key_id)
        (seen,) = await look(session, [workflow], estimate=True)
        answer = Answer(200, await render(seen, dialect))
        await idempotent.remember(session, answer)
        await idempotent.charge(session, workflow_id, "workflow", weight=len(checked.steps))
    resources.notifier.notify(notify.WORKFLOW)
    return answer


def _definition(workflow: Workflow, steps: Sequence[WorkflowStep], given: dict[str, Any]) -> CreateWorkflow:
    """A stored workflow as it was defined, with more input."""
    names = CreateWorkflow.model_fields.keys() - {"steps", "input"}
    stored = {name: getattr(workflow, name) for name in names} | values_of(workflow)
    return validate(
        CreateWorkflow,
        stored | {"steps": [definition_of(step) for step in steps], "input": values_of(workflow)["input"] | given},
    )
