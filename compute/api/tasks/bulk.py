"""Accept many tasks with one request: all are checked, then all are stored, or none."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import Response

from compute.api.dialect import Dialect
from compute.api.idempotency.keys import Answer, IdempotentRequest, ReplayError, respond
from compute.api.resources import Resources
from compute.api.tasks.bodies import read_task
from compute.api.tasks.presenter import render_new
from compute.db.tables import Task
from compute.errors import InvalidFields, InvalidInput
from compute.requests.faults import MOST_FAULTS, Faults, faults_at
from compute.requests.inputs import RequestInputs
from compute.requests.request import TaskRequest
from compute.requests.serving import Serving
from compute.requests.tenants import labelled
from compute.requests.validate import validate
from compute.schemas.bulk import BulkTasks

__all__ = ["accept_all", "check_all", "elements_of"]

# Other requests have their turn after this many elements.
_AT_A_TIME = 20

Fault = dict[str, Any]
Asked = tuple[TaskRequest, Dialect]


def elements_of(body: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """The elements of a bulk body, which may hold anything.

    Raises:
        InvalidFields, InvalidInput: the body has another shape, or more than `limit` elements.
    """
    elements = validate(BulkTasks, body).tasks
    if len(elements) > limit:
        raise InvalidInput(f"At most {limit} tasks at a time.", field="tasks")
    return elements


async def check_all(elements: Sequence[dict[str, Any]], serving: Serving, tenant: str | None) -> list[Asked]:
    """The requests that the elements make, each with the dialect of its answer. `tenant` is the caller's.

    Raises:
        InvalidFields: some cannot be accepted; names every one of them, up to a hundred faults.
    """
    checked: list[Asked] = []
    faults: list[Fault] = []
    for index, element in enumerate(elements):
        try:
            with faults_at("tasks", index):
                body = read_task(element)
                checked.append((TaskRequest.of(body.kind, labelled(body.fields, tenant), serving), body.dialect))
        except InvalidFields as error:
            faults += error.faults
        if index % _AT_A_TIME == 0:
            await asyncio.sleep(0)
    if faults:
        raise InvalidFields(faults[:MOST_FAULTS])
    return checked


async def accept_all(checked: Sequence[Asked], idempotent: IdempotentRequest, resources: Resources) -> Response:
    """Store a task for every request, in one transaction, and answer 201 with all of them in order.

    Raises:
        LimitReached: they are more than the caller's quotas allow.
        InvalidFields, TooLarge: the inputs of one cannot be had; nothing was stored.
        StorageFailed: the inputs could not be kept.
        Unavailable: the database is away.
    """
    try:
        await idempotent.require_room(resources.database, len(checked), field="tasks")
    except ReplayError as first:
        return respond(first.answer)
    tasks = await _rows([request for request, _ in checked], resources)
    dialects = [dialect for _, dialect in checked]

    async def answer() -> Answer:
        rendered: list[str] = []
        for task, dialect in zip(tasks, dialects, strict=True):
            rendered.append(render_new(task, dialect))
            if len(rendered) % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        return Answer(201, f"[{','.join(rendered)}]")

    return respond(await idempotent.store(resources.writer, tasks, answer))


async def _rows(requests: Sequence[TaskRequest], resources: Resources) -> list[Task]:
    """The rows. An input that several elements name is fetched once."""
    faults = Faults()
    await _check_webhooks(requests, resources, faults)
    inputs = {request.served: RequestInputs(resources, request.served) for request in requests}
    tasks = []
    for index, request in enumerate(requests):
        with faults.of("tasks", index):
            tasks.append(await request.to_row(inputs[request.served]))
        if faults.enough:
            break
        if index % _AT_A_TIME == 0:
            await asyncio.sleep(0)
    faults.raise_if_any()
    for one in inputs.values():
        await one.keep()
    return tasks


async def _check_webhooks(requests: Sequence[TaskRequest], resources: Resources, faults: Faults) -> None:
    checked = set()
    for index, request in enumerate(requests):
        url = request.body.webhook_url
        if url is not None and url not in checked and not faults.enough:
            with faults.of("tasks", index):
                await resources.client.check_url(url, "webhook_url")
            checked.add(url)
