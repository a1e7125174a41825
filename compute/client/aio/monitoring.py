"""Monitoring: what waits, what runs, and how long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compute.client.aio.pages import AsyncPages
from compute.client.aio.transport import AsyncTransport
from compute.client.common.calls import id_of, reading
from compute.client.common.reading import reader

if TYPE_CHECKING:
    from compute.schemas.monitoring.queues import QueueStatsResponse
    from compute.schemas.monitoring.tasks import AggregateStats, TaskDetailResponse, TaskListItem, TaskMediaResponse
    from compute.schemas.monitoring.workers import WorkerHealthResponse, WorkerStatsResponse
    from compute.schemas.monitoring.workflows import WorkflowAggregateStats, WorkflowDetailResponse, WorkflowListItem

__all__ = ["AsyncMonitoring"]

_stats = reader("monitoring.tasks", "AggregateStats")
_task = reader("monitoring.tasks", "TaskDetailResponse")
_listed_task = reader("monitoring.tasks", "TaskListItem")
_media = reader("monitoring.tasks", "TaskMediaResponse")
_queues = reader("monitoring.queues", "QueueStatsResponse")
_workers = reader("monitoring.workers", "WorkerStatsResponse")
_health = reader("monitoring.workers", "WorkerHealthResponse")
_workflow_stats = reader("monitoring.workflows", "WorkflowAggregateStats")
_workflow = reader("monitoring.workflows", "WorkflowDetailResponse")
_listed_workflow = reader("monitoring.workflows", "WorkflowListItem")


class AsyncMonitoring:
    """How the server is, and what it does."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def stats(self, *, origin_instance: str | None = None, origin_zone: str | None = None) -> AggregateStats:
        """Counts of tasks by status, type and provider."""
        params = {"origin_instance": origin_instance, "origin_zone": origin_zone}
        found: AggregateStats = await self._read("stats", _stats, params)
        return found

    async def queues(self) -> QueueStatsResponse:
        """What waits and what runs in each queue, and for how long."""
        found: QueueStatsResponse = await self._read("queues", _queues)
        return found

    async def workers(self) -> WorkerStatsResponse:
        """What each worker has to do, and has done."""
        found: WorkerStatsResponse = await self._read("workers", _workers)
        return found

    async def worker_health(self) -> WorkerHealthResponse:
        """Whether the workers are well."""
        found: WorkerHealthResponse = await self._read("workers/health", _health)
        return found

    def tasks(self, *, page_size: int | None = None, **filters: Any) -> AsyncPages[TaskListItem]:
        """Tasks by any filter of the API, fetched as they are walked."""
        call = reading("/monitoring/tasks", filters | {"page_size": page_size})
        return AsyncPages(self._transport, call, "items", _listed_task)

    async def task(self, task: Any) -> TaskDetailResponse:
        """Everything about one task, with its history."""
        found: TaskDetailResponse = await self._read(f"tasks/{id_of(task, 'task_')}", _task)
        return found

    async def media(self, task: Any) -> TaskMediaResponse:
        """What a task took in, and what it made, with links."""
        found: TaskMediaResponse = await self._read(f"tasks/{id_of(task, 'task_')}/media", _media)
        return found

    def workflows(self, *, page_size: int | None = None, **filters: Any) -> AsyncPages[WorkflowListItem]:
        """Workflows by any filter of the API, fetched as they are walked."""
        call = reading("/monitoring/workflows", filters | {"page_size": page_size})
        return AsyncPages(self._transport, call, "items", _listed_workflow)

    async def workflow(self, workflow: Any) -> WorkflowDetailResponse:
        """Everything about one workflow, step by step."""
        found: WorkflowDetailResponse = await self._read(f"workflows/{id_of(workflow, 'wf_')}", _workflow)
        return found

    async def workflow_stats(
        self, *, origin_instance: str | None = None, origin_zone: str | None = None
    ) -> WorkflowAggregateStats:
        """Counts of workflows by status."""
        params = {"origin_instance": origin_instance, "origin_zone": origin_zone}
        found: WorkflowAggregateStats = await self._read("workflows/stats", _workflow_stats, params)
        return found

    async def _read(self, path: str, read: Any, params: dict[str, Any] | None = None) -> Any:
        return read(await self._transport.json(reading(f"/monitoring/{path}", params)))
