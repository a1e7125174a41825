"""Accept many tasks with one request: all are checked, then all are stored, or none."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import Response

from compute.api.idempotency.keys import Answer, IdempotentRequest, respond
from compute.api.resources import Resources
from compute.api.tasks.bodies import SpokenOrder, order_of
from compute.api.tasks.presenter import render_new
from compute.db.tables import Task
from compute.errors import InvalidFields, InvalidInput
from compute.requests.faults import MOST_FAULTS, Faults, faults_at
from compute.requests.inputs import RequestIntake
from compute.requests.request import new_task, validated
from compute.requests.serving import Serving
from compute.schemas.bulk import BulkTasks

__all__ = ["accept_all", "elements_of", "orders_of"]

# Other requests have their turn after this many elements.
_AT_A_TIME = 20

Fault = dict[str, Any]


def elements_of(body: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """The elements of a bulk body, which may hold anything.

    Raises:
        InvalidFields, InvalidInput: the body has another shape, or more than `limit` elements.
    """
    elements = validated(BulkTasks, body).tasks
    if len(elements) > limit:
        raise InvalidInput(f"At most {limit} tasks at a time.", field="tasks")
    return elements


async def orders_of(elements: Sequence[dict[str, Any]], serving: Serving) -> list[SpokenOrder]:
    """What the elements order.

    Raises:
        InvalidFields: some cannot be accepted; names every one of them, up to a hundred faults.
    """
    orders: list[SpokenOrder] = []
    faults: list[Fault] = []
    for index, element in enumerate(elements):
        try:
            with faults_at("tasks", index):
                orders.append(order_of(element, serving))
        except InvalidFields as error:
            faults += error.faults
        if index % _AT_A_TIME == 0:
            await asyncio.sleep(0)
    if faults:
        raise InvalidFields(faults[:MOST_FAULTS])
    return orders


async def accept_all(orders: Sequence[SpokenOrder], idempotent: IdempotentRequest, resources: Resources) -> Response:
    """Store a task for every order, in one transaction, and answer 201 with all of them in order.

    Raises:
        InvalidFields, TooLarge: the inputs of one cannot be had; nothing was stored.
        StorageFailed: the inputs could not be kept.
        Unavailable: the database is away.
    """
    tasks = await _new_tasks(orders, resources)
    dialects = [order.dialect for order in orders]

    async def answer() -> Answer:
        rendered: list[str] = []
        for task, dialect in zip(tasks, dialects, strict=True):
            rendered.append(render_new(task, dialect))
            if len(rendered) % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        return Answer(201, f"[{','.join(rendered)}]")

    return respond(await idempotent.store(resources.writer, tasks, answer))


async def _new_tasks(orders: Sequence[SpokenOrder], resources: Resources) -> list[Task]:
    """The rows. An input that several elements name is taken in once."""
    faults = Faults()
    await _check_webhooks(orders, resources, faults)
    intakes = {order.served: RequestIntake(resources, order.served) for order in orders}
    tasks = []
    for index, order in enumerate(orders):
        with faults.of("tasks", index):
            tasks.append(await new_task(order, intakes[order.served]))
        if faults.enough:
            break
        if index % _AT_A_TIME == 0:
            await asyncio.sleep(0)
    faults.raise_if_any()
    for intake in intakes.values():
        await intake.keep()
    return tasks


async def _check_webhooks(orders: Sequence[SpokenOrder], resources: Resources, faults: Faults) -> None:
    checked = set()
    for index, order in enumerate(orders):
        url = order.request.webhook_url
        if url is not None and url not in checked and not faults.enough:
            with faults.of("tasks", index):
                await resources.client.check_url(url, "webhook_url")
            checked.add(url)
