"""/monitoring: what there is to do, what was done, and by whom.

A key that is bound to a tenant sees that tenant's tasks, workflows and counts alone; workers belong to all.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from compute.api.access.caller import caller_of
from compute.api.deps import LinksDep, ResourcesDep
from compute.api.dialect import TaskId, WorkflowId
from compute.api.http.strict import StrictRoute
from compute.api.monitoring.detail import events_of, present_detail, present_media
from compute.api.monitoring.queues import present_queues, served_queues
from compute.api.monitoring.steps import present_workflow, sums_of_steps, workflow_item
from compute.api.monitoring.tasks import MonitoredTasksQuery, find_tasks, task_item
from compute.api.monitoring.totals import totals_of_tasks, totals_of_workflows
from compute.api.monitoring.workers import present_health, present_workers
from compute.api.monitoring.workflows import MonitoredWorkflowsQuery, find_monitored_workflows
from compute.api.paging import PAGED, next_page
from compute.api.tasks.paid import paid_for
from compute.api.workflows.presenter import canonical, look
from compute.db.keys import get_row
from compute.db.tables import Task, Workflow
from compute.monitoring.queues import queue_states, queues_with_work
from compute.monitoring.scope import Scope
from compute.monitoring.workers import seen_workers, workers_by_queue
from compute.schemas.monitoring.queues import QueueStatsResponse
from compute.schemas.monitoring.tasks import (
    AggregateStats,
    QuickstartTaskDetail,
    QuickstartTaskMedia,
    TaskDetailResponse,
    TaskListResponse,
    TaskMediaResponse,
)
from compute.schemas.monitoring.workers import WorkerHealthResponse, WorkerStatsResponse
from compute.schemas.monitoring.workflows import (
    MonitoringWorkflowListResponse,
    QuickstartWorkflowDetail,
    WorkflowAggregateStats,
    WorkflowDetailResponse,
)
from compute.schemas.rules.parameters import Label

__all__ = ["router"]

router = APIRouter(prefix="/monitoring", tags=["Monitoring"], route_class=StrictRoute)


class _Origin(BaseModel):
    """The query of totals."""

    origin_instance: Label | None = Field(default=None, description="Only from this installation.")
    origin_zone: Label | None = Field(default=None, description="Only from this zone.")


_OriginQuery = Annotated[_Origin, Query()]


@router.get("/tasks", response_model=TaskListResponse, responses=PAGED)
async def list_monitored_tasks(
    asked: MonitoredTasksQuery, request: Request, response: Response, resources: ResourcesDep, links: LinksDep
) -> TaskListResponse:
    """Tasks by pages. All filters may be combined."""
    async with resources.database.transaction() as session:
        found = await find_tasks(session, asked, caller_of(request).tenant)
    response.headers.update(next_page(found.cursor, request, links))
    return TaskListResponse(items=[task_item(task) for task in found.rows], **found.paged(asked))


@router.get("/tasks/{task_id}", response_model=TaskDetailResponse | QuickstartTaskDetail)
async def get_monitored_task(
    ref: TaskId, request: Request, resources: ResourcesDep, links: LinksDep
) -> TaskDetailResponse | QuickstartTaskDetail:
    """One task with all that is known of it, and what happened to it so far."""
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, ref.id)
        events = await events_of(session, ref.id)
    return await present_detail(task, events, await paid_for(resources, task), ref.dialect, links)


@router.get("/tasks/{task_id}/media", response_model=TaskMediaResponse | QuickstartTaskMedia)
async def get_task_media(
    ref: TaskId, request: Request, resources: ResourcesDep, links: LinksDep
) -> TaskMediaResponse | QuickstartTaskMedia:
    """Links to the images and clips that a task was given and that came out. They need no key, and expire."""
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, ref.id)
    return await present_media(task, ref.dialect, links)


@router.get("/stats", response_model=AggregateStats)
async def get_monitoring_stats(asked: _OriginQuery, request: Request, resources: ResourcesDep) -> AggregateStats:
    """How many tasks there are, by status, provider and type, and how many were accepted lately."""
    scope = Scope(caller_of(request).tenant, asked.origin_instance, asked.origin_zone)
    async with resources.database.transaction() as session:
        totals, exact = await totals_of_tasks(session, scope)
    return AggregateStats(
        total_tasks=totals.total,
        by_status=totals.by_status,
        by_provider=+totals.by_provider,
        by_task_type=+totals.by_type,
        tasks_last_hour=totals.created_last_hour,
        tasks_last_24h=totals.created_last_day,
        total_is_exact=exact,
    )


@router.get("/workflows", response_model=MonitoringWorkflowListResponse, responses=PAGED)
async def list_monitored_workflows(
    asked: MonitoredWorkflowsQuery, request: Request, response: Response, resources: ResourcesDep, links: LinksDep
) -> MonitoringWorkflowListResponse:
    """Workflows by pages. All filters may be combined."""
    async with resources.database.transaction() as session:
        found = await find_monitored_workflows(session, asked, caller_of(request).tenant)
        steps = await sums_of_steps(session, [workflow.id for workflow in found.rows])
    response.headers.update(next_page(found.cursor, request, links))
    items = [workflow_item(workflow, steps[workflow.id]) for workflow in found.rows]
    return MonitoringWorkflowListResponse(items=items, **found.paged(asked))


@router.get("/workflows/stats", response_model=WorkflowAggregateStats)
async def get_workflow_monitoring_stats(
    asked: _OriginQuery, request: Request, resources: ResourcesDep
) -> WorkflowAggregateStats:
    """How many workflows there are, by status, and how many were created lately."""
    scope = Scope(caller_of(request).tenant, asked.origin_instance, asked.origin_zone)
    async with resources.database.transaction() as session:
        totals, exact = await totals_of_workflows(session, scope)
    return WorkflowAggregateStats(
        total_workflows=totals.total,
        by_status=totals.by_status,
        workflows_last_hour=totals.created_last_hour,
        workflows_last_24h=totals.created_last_day,
        avg_steps_per_workflow=round(totals.steps / totals.total, 2) if totals.total else 0.0,
        total_is_exact=exact,
    )


@router.get("/workflows/{workflow_id}", response_model=WorkflowDetailResponse | QuickstartWorkflowDetail)
async def get_monitored_workflow(
    ref: WorkflowId, request: Request, resources: ResourcesDep
) -> WorkflowDetailResponse | QuickstartWorkflowDetail:
    """One workflow with its steps, each behind those that it waits for."""
    async with resources.database.transaction() as session:
        workflow = await get_row(session, Workflow, ref.id)
        (seen,) = await look(session, [workflow])
    return present_workflow(canonical(seen), ref.dialect)


@router.get("/queues", response_model=QueueStatsResponse)
async def get_queue_stats(request: Request, resources: ResourcesDep) -> QueueStatsResponse:
    """What waits and runs in each queue, how long it waits, and what was done within the last hour."""
    async with resources.database.transaction() as session:
        states = await queue_states(session, caller_of(request).tenant)
        workers, now = await seen_workers(session)
    return present_queues(states, workers_by_queue(workers), resources.serving, now)


@router.get("/workers", response_model=WorkerStatsResponse)
async def get_worker_stats(request: Request, resources: ResourcesDep) -> WorkerStatsResponse:
    """All workers: what each takes, holds and has completed, its memory, its GPU, and when it was last heard of. A key
    that is bound to a tenant is told of their queues, capacity and status alone."""
    async with resources.database.transaction() as session:
        workers, now = await seen_workers(session)
    return present_workers(workers, now, resources.settings, within=caller_of(request).tenant is None)


@router.get("/workers/health", response_model=WorkerHealthResponse)
async def get_workers_health(request: Request, resources: ResourcesDep) -> WorkerHealthResponse:
    """Whether any worker would take a task now, and which queues have none."""
    async with resources.database.transaction() as session:
        workers, now = await seen_workers(session)
        queues = served_queues(resources.serving) | await queues_with_work(session, caller_of(request).tenant)
    return present_health(workers, queues, now, within=caller_of(request).tenant is None)
