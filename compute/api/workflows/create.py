"""Creates a workflow, and starts it if it is told to."""

import asyncio
from typing import Any

from compute.api.dialect import Dialect
from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.resources import Resources
from compute.api.workflows.bodies import read, with_image
from compute.api.workflows.faults import faults_of_values
from compute.api.workflows.presenter import look, render
from compute.errors import InvalidFields
from compute.events import notify
from compute.requests.faults import faults_at
from compute.requests.tenants import labelled
from compute.schemas.workflows import (
    CreateWorkflow,
)
from compute.workflows.definition.check import check_workflow, inputs_read
from compute.workflows.inputs import ingest
from compute.workflows.plan import CONFIG, INPUT
from compute.workflows.rows import store

__all__ = ["create_workflow"]


async def create_workflow(
    body: dict[str, Any], *, start: bool | None, idempotent: IdempotentRequest, resources: Resources
) -> Answer:
    """Store a workflow, and with `start` set it going.

    Raises:
        ReplayError: its key was answered before.
        LimitReached: it is more than the caller's quotas allow.
        InvalidFields, TooLarge: it cannot run, or its inputs cannot be had; nothing was stored.
        StorageFailed: its inputs could not be kept.
    """
    body = labelled(body, resources.tenant)
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
        if start:
            await idempotent.require_room(resources.database, len(checked.steps), field="steps")
        await _check_webhooks(definition, resources)
        values = {INPUT: given or {}, CONFIG: definition.config}
        with faults_of_values(definition):
            taken = await ingest(checked, values, resources, resources.serving) if start else None
    async with idempotent.once(resources.database) as session:
        workflow = await store.create(
            session, definition, checked, taken=taken, bound_to=resources.tenant, key_id=idempotent.key_id
        )
        (seen,) = await look(session, [workflow])
        answer = Answer(201, await render(seen, dialect))
        idempotent.made(workflow.id)
        await idempotent.remember(session, answer)
        if start:
            await idempotent.charge(session, workflow.id, "workflow", weight=len(checked.steps))
    resources.notifier.notify(notify.WORKFLOW)
    return answer


async def _check_webhooks(definition: CreateWorkflow, resources: Resources) -> None:
    if definition.webhook_url is not None:
        await resources.client.check_url(definition.webhook_url, "webhook_url")
    for index, step in enumerate(definition.steps):
        url = step.config.get("webhook_url")
        if isinstance(url, str):
            with faults_at("steps", index, "config"):
                await resources.client.check_url(url, "webhook_url")
