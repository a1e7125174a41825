"""/workflows: DAGs of steps."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.bodies.json_body import json_object
from compute.api.deps import LinksDep, ResourcesDep
from compute.api.dialect import WorkflowId, WorkflowRef
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import IdempotencyHeader, IdempotentRequest
from compute.api.links import RequestLinks
from compute.api.openapi.request_bodies import START_BODY, WORKFLOW_BODY, WORKFLOW_UPDATE_BODY
from compute.api.paging import PAGED, json_list, list_answer
from compute.api.resources import Resources
from compute.api.workflows.approve import approve_step
from compute.api.workflows.cancel import cancel_workflow
from compute.api.workflows.cleanup import clean_up_workflow
from compute.api.workflows.create import create_workflow
from compute.api.workflows.pause import pause_workflow, resume_workflow
from compute.api.workflows.presenter import canonical, look, look_at_each, present, present_cleanup
from compute.api.workflows.queries import WorkflowQuery, find_workflows
from compute.api.workflows.start import start_workflow
from compute.api.workflows.update import update_workflow
from compute.db.keys import get_row
from compute.db.tables import Workflow
from compute.requests.validate import validate
from compute.schemas.quickstart.workflows import QuickstartWorkflow, QuickstartWorkflowCleanup
from compute.schemas.rules.parameters import Flag
from compute.schemas.workflows import (
    StartWorkflow,
    StepId,
    WorkflowCleanupDetail,
    WorkflowCleanupResponse,
    WorkflowListResponse,
    WorkflowPublic,
    WorkflowUpdate,
)

router = APIRouter(prefix="/workflows", tags=["Workflows"], route_class=StrictRoute)

AnyWorkflow = WorkflowPublic | QuickstartWorkflow
AnyCleanup = WorkflowCleanupResponse | QuickstartWorkflowCleanup


@router.post("/", status_code=201, response_model=AnyWorkflow, openapi_extra=WORKFLOW_BODY)
async def create(
    request: Request,
    resources: ResourcesDep,
    start: Annotated[
        Flag, Query(description="Set it going at once; by default not with the quick start's steps.")
    ] = True,
    key: IdempotencyHeader = None,
) -> Response:
    """Define a workflow. It is checked as a whole: names, cycles, mappings, types of fields, and whether the tasks of
    its steps would be accepted; an error names the step."""
    body = await json_object(request)
    idempotent = await IdempotentRequest.of(key, request, body)

    begins = start if "start" in request.query_params else None
    act = partial(create_workflow, body, start=begins, idempotent=idempotent, resources=resources)
    return await idempotent.settle(resources.database, act)


@router.get("/", response_model=WorkflowListResponse, responses=PAGED)
async def list_workflows(
    filters: WorkflowQuery, request: Request, resources: ResourcesDep, links: LinksDep
) -> Response:
    """Workflows with their steps, newest first. The header `Link` leads to the next page."""
    async with resources.database.transaction() as session:
        page, total, exact = await find_workflows(session, filters)
        rendered = await json_list(look_at_each(session, page.rows), canonical)
    rest = {"total": total, "total_is_exact": exact, "skip": filters.skip, "limit": filters.limit}
    return list_answer(rendered, page.next, request, links, name="workflows", rest=rest)


@router.get("/{workflow_id}", response_model=AnyWorkflow)
async def get_workflow(ref: WorkflowId, resources: ResourcesDep, links: LinksDep) -> AnyWorkflow:
    """One workflow with its steps, their progress and their results."""
    return await _answer(resources, ref, links)


@router.patch("/{workflow_id}", response_model=AnyWorkflow, openapi_extra=WORKFLOW_UPDATE_BODY)
async def update(ref: WorkflowId, request: Request, resources: ResourcesDep, links: LinksDep) -> AnyWorkflow:
    """Change a workflow's name, description or webhook."""
    changes = validate(WorkflowUpdate, await json_object(request))
    await update_workflow(resources, ref.id, changes)
    return await _answer(resources, ref, links)


@router.delete("/{workflow_id}", response_model=AnyWorkflow)
async def cancel(ref: WorkflowId, resources: ResourcesDep, links: LinksDep) -> AnyWorkflow:
    """Cancel a workflow that has not ended, and the tasks that it has running. What is completed stays."""
    await cancel_workflow(resources, ref.id)
    return await _answer(resources, ref, links)


@router.post("/{workflow_id}/start", response_model=AnyWorkflow, openapi_extra=START_BODY)
async def start(ref: WorkflowId, request: Request, resources: ResourcesDep, key: IdempotencyHeader = None) -> Response:
    """Set a PENDING workflow going. What `$input` names must be in `input`, here or in the definition."""
    body = await json_object(request) if await request.body() else {}
    given = validate(StartWorkflow, body).input
    idempotent = await IdempotentRequest.of(key, request, body)
    act = partial(start_workflow, ref.id, ref.dialect, given, idempotent=idempotent, resources=resources)
    return await idempotent.settle(resources.database, act)


@router.post("/{workflow_id}/pause", response_model=AnyWorkflow)
async def pause(ref: WorkflowId, resources: ResourcesDep, links: LinksDep) -> AnyWorkflow:
    """Begin nothing new; steps that run are finished and kept."""
    await pause_workflow(resources, ref.id)
    return await _answer(resources, ref, links)


@router.post("/{workflow_id}/resume", response_model=AnyWorkflow)
async def resume(
    ref: WorkflowId,
    request: Request,
    resources: ResourcesDep,
    links: LinksDep,
    from_step: Annotated[
        StepId | None, Query(description="Run this step and all behind it again, also in a COMPLETED workflow.")
    ] = None,
    key: IdempotencyHeader = None,
) -> Response:
    """Go on with a PAUSED or FAILED workflow: what failed is tried again, what is completed stays."""
    idempotent = await IdempotentRequest.of(key, request, None)
    shown = partial(_shown, ref=ref, links=links)
    return await idempotent.settle(
        resources.database, partial(resume_workflow, resources, ref.id, from_step, idempotent, shown)
    )


@router.post("/{workflow_id}/steps/{step_id}/approve", response_model=AnyWorkflow)
async def approve(ref: WorkflowId, step_id: str, resources: ResourcesDep, links: LinksDep) -> AnyWorkflow:
    """Let a step run that requires approval, now or as soon as the steps before it have ended."""
    await approve_step(resources, ref.id, step_id)
    return await _answer(resources, ref, links)


@router.post("/{workflow_id}/cleanup", response_model=AnyCleanup)
async def cleanup(
    ref: WorkflowId,
    request: Request,
    resources: ResourcesDep,
    links: LinksDep,
    cleanup_tasks: Annotated[Flag, Query(description="Also remove the files of its tasks.")] = True,
    key: IdempotencyHeader = None,
) -> Response:
    """Mark a workflow that has ended as deleted, and remove the files of its tasks. Lists leave it out from then on."""
    idempotent = await IdempotentRequest.of(key, request, None)

    async def shown(session: AsyncSession, workflow: Workflow, detail: WorkflowCleanupDetail) -> AnyCleanup:
        (seen,) = await look(session, [workflow])
        return await present_cleanup(seen, detail, ref.dialect, links)

    act = partial(clean_up_workflow, resources, ref.id, idempotent, shown, tasks=cleanup_tasks)
    return await idempotent.settle(resources.database, act)


async def _answer(resources: Resources, ref: WorkflowRef, links: RequestLinks) -> AnyWorkflow:
    async with resources.database.transaction() as session:
        return await _shown(session, await get_row(session, Workflow, ref.id), ref=ref, links=links)


async def _shown(session: AsyncSession, workflow: Workflow, *, ref: WorkflowRef, links: RequestLinks) -> AnyWorkflow:
    (seen,) = await look(session, [workflow], estimate=True)
    return await present(seen, ref.dialect, links)
