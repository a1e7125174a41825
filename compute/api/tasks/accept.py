"""Accept a task: fetch its inputs, store it together with whatever else arrives, answer after the commit."""

from fastapi import Response

from compute.api.idempotency.keys import Answer, IdempotentRequest, ReplayError, respond
from compute.api.resources import Resources
from compute.api.tasks.bodies import TaskBody
from compute.api.tasks.presenter import render_new
from compute.requests.inputs import RequestInputs
from compute.requests.request import TaskRequest
from compute.requests.tenants import labelled

__all__ = ["accept"]


async def accept(body: TaskBody, idempotent: IdempotentRequest, resources: Resources) -> Response:
    """Store a task and answer 201 in its dialect; replay the first answer to a repeated key.

    Raises:
        LimitReached: it is more than the caller's quotas allow.
        InvalidInput, InvalidFields: it cannot be accepted, its inputs cannot be had, or its key was used for another
            request.
        StorageFailed: its inputs could not be kept.
        Unavailable: the database is away.
    """
    asked = TaskRequest.of(body.kind, labelled(body.fields, resources.tenant), resources.serving)
    try:
        await idempotent.require_room(resources.database)
    except ReplayError as first:
        return respond(first.answer)
    if asked.body.webhook_url is not None:
        await resources.client.check_url(asked.body.webhook_url, "webhook_url")
    inputs = RequestInputs(resources, asked.served)
    task = await asked.to_row(inputs)
    await inputs.keep()

    async def answer() -> Answer:
        return Answer(201, render_new(task, body.dialect))

    return respond(await idempotent.store(resources.writer, [task], answer))
