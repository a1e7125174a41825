"""/tasks/generation: the quick start's way in, and the typed routes of the contract."""

from fastapi import APIRouter, Request, Response

from compute.api.bodies.json_body import json_object
from compute.api.deps import LinksDep, ResourcesDep, resources_of
from compute.api.dialect import TaskId
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import IdempotencyHeader, IdempotentRequest
from compute.api.openapi.request_bodies import GENERATION_BODY, GENERATION_UPDATE_BODY
from compute.api.paging import PAGED, json_list, list_answer
from compute.api.resources import Resources
from compute.api.tasks.accept import accept
from compute.api.tasks.bodies import read_generation
from compute.api.tasks.cancel import cancel_task
from compute.api.tasks.paid import paid_for
from compute.api.tasks.presenter import present, present_canonical
from compute.api.tasks.queries import GenerationQuery, find
from compute.api.tasks.update import update_task
from compute.db.keys import get_row
from compute.db.tables import Task
from compute.errors import NotFound
from compute.requests.validate import validate
from compute.schemas.enums import TaskType
from compute.schemas.quickstart.tasks import QuickstartTask
from compute.schemas.tasks import TaskPublic
from compute.tasks.types.generation import GenerationTaskPublic, GenerationTaskUpdate

router = APIRouter(prefix="/tasks/generation", tags=["Tasks"], route_class=StrictRoute)

AnyGeneration = GenerationTaskPublic | QuickstartTask


@router.post("", status_code=201, response_model=AnyGeneration, openapi_extra=GENERATION_BODY)
async def create_generation_task(request: Request, key: IdempotencyHeader = None) -> Response:
    """Generate images, the short way.

    Takes every field of `CreateGenerationTask`. The answer is in the quick-start dialect, unless the body names
    its `task_type`, as canonical bodies do.
    """
    resources = resources_of(request)
    body = await json_object(request)
    said = {name: value for name, value in body.items() if name != "type"}
    idempotent = await IdempotentRequest.of(key, request, said)
    replay = await idempotent.replay(resources.database)
    return replay or await accept(read_generation(body), idempotent, resources)


@router.get("", response_model=list[GenerationTaskPublic], responses=PAGED)
async def list_generation_tasks(
    filters: GenerationQuery, request: Request, resources: ResourcesDep, links: LinksDep
) -> Response:
    """Generation tasks, newest first. The header `Link` leads to the next page."""
    async with resources.database.transaction() as session:
        page = await find(session, filters, task_type=TaskType.GENERATION)
    rendered = await json_list(page.rows, lambda task: present_canonical(task, links))
    return list_answer(rendered, page.next, request, links)


@router.get("/{task_id}", response_model=AnyGeneration)
async def get_generation_task(ref: TaskId, resources: ResourcesDep, links: LinksDep) -> TaskPublic | QuickstartTask:
    """One generation task."""
    task = await _generation(resources, ref)
    return await present(task, ref.dialect, links, await paid_for(resources, task))


@router.put("/{task_id}", response_model=AnyGeneration, openapi_extra=GENERATION_UPDATE_BODY)
async def update_generation_task(
    ref: TaskId, request: Request, resources: ResourcesDep, links: LinksDep
) -> TaskPublic | QuickstartTask:
    """Change a generation task: its inputs while it waits, its status where the life of a task allows it."""
    update = validate(GenerationTaskUpdate, await json_object(request))
    await _generation(resources, ref)
    return await present(await update_task(resources, ref.id, update), ref.dialect, links)


@router.post("/{task_id}/cancel", response_model=AnyGeneration)
async def cancel_generation_task(ref: TaskId, resources: ResourcesDep, links: LinksDep) -> TaskPublic | QuickstartTask:
    """Cancel a generation task; if it runs, it stops at its next step."""
    await _generation(resources, ref)
    return await present(await cancel_task(resources, ref.id), ref.dialect, links)


async def _generation(resources: Resources, ref: TaskId) -> Task:
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, ref.id)
    if task.task_type != TaskType.GENERATION:
        raise NotFound(f"Task {ref.id} is of type {task.task_type}.")
    return task
