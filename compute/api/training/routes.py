"""/training: models that learn something new."""

from functools import partial

from fastapi import APIRouter, Request, Response

from compute.api.bodies.json_body import json_object
from compute.api.deps import LinksDep, ResourcesDep
from compute.api.dialect import TrainingId
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import IdempotencyHeader, IdempotentRequest
from compute.api.openapi.request_bodies import TRAINING_BODY
from compute.api.paging import PAGED, Page, cursor_of, json_list, list_answer
from compute.api.training.cancel import cancel_training
from compute.api.training.create import create_training
from compute.api.training.presenter import listed, present, presented_event
from compute.api.training.queries import EVENTS, EventQuery, TrainingQuery, find_trainings
from compute.db.keys import get_row
from compute.db.tables import Training
from compute.schemas.quickstart.training import QuickstartTraining, QuickstartTrainingEventList
from compute.schemas.training import TrainingEventList, TrainingTask, TrainingTaskList
from compute.training.rows import store

router = APIRouter(prefix="/training", tags=["Training"], route_class=StrictRoute)

AnyTraining = TrainingTask | QuickstartTraining
AnyEvents = TrainingEventList | QuickstartTrainingEventList


@router.post("/", status_code=201, response_model=AnyTraining, openapi_extra=TRAINING_BODY)
async def create(request: Request, resources: ResourcesDep, key: IdempotencyHeader = None) -> Response:
    """Train a LoRA, or a whole model, on images: named one by one, or in a zip file. Everything that can be checked
    at once is; whether each file is an image, the training finds out and names those that are not."""
    body = await json_object(request)
    idempotent = await IdempotentRequest.of(key, request, body)
    return await idempotent.settle(resources.database, partial(create_training, body, idempotent, resources))


@router.get("/", response_model=TrainingTaskList, responses=PAGED)
async def list_trainings(
    filters: TrainingQuery, request: Request, resources: ResourcesDep, links: LinksDep
) -> Response:
    """Trainings, newest first, without their logs, source images and samples. The header `Link` leads to the next
    page."""
    async with resources.database.transaction() as session:
        page, total, exact = await find_trainings(session, filters)
    rest = {"total": total, "total_is_exact": exact, "skip": filters.skip, "limit": filters.limit}
    rendered = await json_list(page.rows, partial(listed, links=links))
    return list_answer(rendered, page.next, request, links, name="tasks", rest=rest)


@router.get("/{task_id}", response_model=AnyTraining)
async def get_training(ref: TrainingId, resources: ResourcesDep, links: LinksDep) -> AnyTraining:
    """One training: how far it is, what it measures, what it drew on the way, and the model that came of it."""
    async with resources.database.transaction() as session:
        training = await get_row(session, Training, ref.id)
    return await present(training, ref.dialect, links)


@router.get("/{task_id}/events", response_model=AnyEvents, responses=PAGED)
async def list_events(
    ref: TrainingId, filters: EventQuery, request: Request, resources: ResourcesDep, links: LinksDep
) -> Response:
    """Events of a training, oldest first. Ask again with the last id as `after` for what came since; the header
    `Link` leads to what is there already."""
    begin = filters.begin()
    async with resources.database.transaction() as session:
        await get_row(session, Training, ref.id)
        events = await store.events_of(session, ref.id, after=begin, limit=filters.limit + 1)
    page = Page.of(events, filters.limit, lambda event: cursor_of(EVENTS, str(event.id)))
    shown = await json_list(page.rows, partial(presented_event, dialect=ref.dialect))
    return list_answer(shown, page.next, request, links, name="events")


@router.post("/{task_id}/cancel", response_model=AnyTraining)
async def cancel(ref: TrainingId, resources: ResourcesDep, links: LinksDep) -> AnyTraining:
    """Stop a training that has not ended, after the step that it is at. What it made so far stays."""
    return await present(await cancel_training(resources, ref.id), ref.dialect, links)
