"""Accept a task: fetch its inputs, store it together with whatever else arrives, answer after the commit."""

from functools import partial

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
    if asked.body.webhook_url is not None:
        await resources.client.check_url(asked.body.webhook_url, "webhook_url")
    # Whether there is room is settled when the task is stored. It is looked for before something is fetched for it, and
    # where there was none lately.
    look = partial(idempotent.require_room, resources.database)
    inputs = RequestInputs(resources, asked.served, first=look)
    try:
        if resources.writer.full.may_be(idempotent.quotas):
            await look()
        task = await asked.to_row(inputs)
    except ReplayError as first:
        return respond(first.answer)
    await inputs.keep()

    async def answer() -> Answer:
        return Answer(201, render_new(task, body.dialect))

    return respond(await idempotent.store(resources.writer, [task], answer))
