"""/tasks: tasks of every type."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from compute.api.bodies.json_body import json_object
from compute.api.deps import LinksDep, ResourcesDep, resources_of
from compute.api.dialect import TaskId
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import IdempotencyHeader, IdempotentRequest
from compute.api.openapi.request_bodies import BULK_BODY, TASK_BODY, TASK_UPDATE_BODY, AnyTask, AnyTaskPublic
from compute.api.paging import PAGED, json_list, list_answer
from compute.api.tasks.accept import accept
from compute.api.tasks.bodies import read_task
from compute.api.tasks.bulk import accept_all, check_all, elements_of
from compute.api.tasks.cancel import cancel_task
from compute.api.tasks.paid import paid_for
from compute.api.tasks.position import LastEventHeader, Position, has_seen_the_end
from compute.api.tasks.presenter import present, present_canonical, present_cleanup
from compute.api.tasks.queries import TaskQuery, find
from compute.api.tasks.removal import clean_up_task, delete_task
from compute.api.tasks.stream import task_events
from compute.api.tasks.update import update_task
from compute.db.keys import get_row
from compute.db.tables import Task
from compute.requests.validate import validate
from compute.schemas.quickstart.tasks import QuickstartTask
from compute.schemas.storage import QuickstartTaskCleanup, TaskCleanup
from compute.schemas.tasks import TaskPublic
from compute.tasks.registry import kind_of

router = APIRouter(prefix="/tasks", tags=["Tasks"], route_class=StrictRoute)

AnyCleanup = TaskCleanup | QuickstartTaskCleanup
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}},
    204: {"description": "The client has seen the last event already."},
}


@router.post("/", status_code=201, response_model=AnyTask, openapi_extra=TASK_BODY)
async def create_task(request: Request, key: IdempotencyHeader = None) -> Response:
    """Have something done. `task_type` says what, GENERATION if it is absent; the task is stored before the
    answer is sent."""
    resources = resources_of(request)
    body = await json_object(request)
    idempotent = await IdempotentRequest.of(key, request, body)
    return await idempotent.replay(resources.database) or await accept(read_task(body), idempotent, resources)


@router.post("/bulk", status_code=201, response_model=list[AnyTask], openapi_extra=BULK_BODY)
async def create_tasks(request: Request, resources: ResourcesDep, key: IdempotencyHeader = None) -> Response:
    """Have many things done: up to 1000 tasks (as shipped), of any types, in one request.

    All are checked before any is stored, and they are stored together or not at all. The answer lists them in the
    order in which they were sent, each in its own dialect. An error names its element:
    `["body", "tasks", 3, "prompt"]`.
    """
    body = await json_object(request)
    elements = elements_of(body, resources.settings.bulk_max_tasks)
    idempotent = await IdempotentRequest.of(key, request, body)
    if replay := await idempotent.replay(resources.database):
        return replay
    return await accept_all(await check_all(elements, resources.serving, resources.tenant), idempotent, resources)


@router.get("/", response_model=list[AnyTaskPublic], responses=PAGED)
async def list_tasks(filters: TaskQuery, request: Request, resources: ResourcesDep, links: LinksDep) -> Response:
    """Tasks, newest first. The header `Link` leads to the next page."""
    async with resources.database.transaction() as session:
        page = await find(session, filters)
    rendered = await json_list(page.rows, lambda task: present_canonical(task, links))
    return list_answer(rendered, page.next, request, links)


@router.get("/{task_id}", response_model=AnyTask)
async def get_task(ref: TaskId, resources: ResourcesDep, links: LinksDep) -> TaskPublic | QuickstartTask:
    """One task, with its result once it is completed."""
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, ref.id)
    return await present(task, ref.dialect, links, await paid_for(resources, task))


@router.put("/{task_id}", response_model=AnyTask, openapi_extra=TASK_UPDATE_BODY)
async def update_task_by_id(
    ref: TaskId, request: Request, resources: ResourcesDep, links: LinksDep
) -> TaskPublic | QuickstartTask:
    """Change a task: its priority while it waits, its status where the life of a task allows it."""
    body = await json_object(request)
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, ref.id)
    update = validate(kind_of(task.task_type).update_model, body)
    return await present(await update_task(resources, ref.id, update), ref.dialect, links)


@router.delete("/{task_id}", response_model=AnyTask)
async def remove_task(ref: TaskId, resources: ResourcesDep, links: LinksDep) -> TaskPublic | QuickstartTask:
    """Remove a task that has ended, with its files, for good. The answer is the task as it was."""
    return await present(await delete_task(resources, ref.id), ref.dialect, links)


@router.post("/{task_id}/cleanup", response_model=AnyCleanup)
async def clean_up(ref: TaskId, request: Request, resources: ResourcesDep, key: IdempotencyHeader = None) -> Response:
    """Remove the files of a task that has ended; the task itself stays, marked as deleted."""
    idempotent = await IdempotentRequest.of(key, request, None)
    shown = partial(present_cleanup, dialect=ref.dialect)
    return await idempotent.settle(resources.database, partial(clean_up_task, resources, ref.id, idempotent, shown))


@router.post("/{task_id}/cancel", response_model=AnyTask)
async def cancel(ref: TaskId, resources: ResourcesDep, links: LinksDep) -> TaskPublic | QuickstartTask:
    """Cancel a task. It is CANCELLED at once; if it runs, its worker stops at its next step."""
    return await present(await cancel_task(resources, ref.id), ref.dialect, links)


@router.get("/{task_id}/events", response_class=StreamingResponse, responses=STREAMED)
async def stream_events(
    ref: TaskId, resources: ResourcesDep, links: LinksDep, last_event_id: LastEventHeader = None
) -> Response:
    """Follow a task as server-sent events.

    `status` and `progress` events carry `id`, `status` and `progress`; the last event is named after the end
    (`completed`, `failed`, `cancelled`) and carries the whole task. Every change of the status is an event, and comes
    once: a client that reconnects and sends the `id` of its last event as `Last-Event-ID` gets what it lacks. If that
    was the end, the answer is 204.
    """
    position = None if last_event_id is None else Position.read(last_event_id)
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, ref.id)
        if position is not None and await has_seen_the_end(session, task, position):
            return Response(status_code=204)
    events: AsyncIterator[str] = task_events(resources, ref, links, position)
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
