"""Accept a task: take in its inputs, store it together with whatever else arrives, answer after the commit."""

from fastapi import Response

from compute.api.idempotency.keys import Answer, IdempotentRequest, respond
from compute.api.resources import Resources
from compute.api.tasks.bodies import SpokenOrder
from compute.api.tasks.presenter import render_new
from compute.requests.inputs import RequestIntake
from compute.requests.request import new_task

__all__ = ["accept"]


async def accept(order: SpokenOrder, idempotent: IdempotentRequest, resources: Resources) -> Response:
    """Store a task and answer 201 in its dialect; replay the first answer to a repeated key.

    Raises:
        InvalidInput: its inputs cannot be had, or its key was used for another request.
        StorageFailed: its inputs could not be kept.
        Unavailable: the database is away.
    """
    if order.request.webhook_url is not None:
        await resources.client.check_url(order.request.webhook_url, "webhook_url")
    intake = RequestIntake(resources, order.served)
    task = await new_task(order, intake)
    await intake.keep()

    async def answer() -> Answer:
        return Answer(201, render_new(task, order.dialect))

    return respond(await idempotent.store(resources.writer, [task], answer))
