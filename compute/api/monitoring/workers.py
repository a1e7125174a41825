"""Workers as a client sees them.

They belong to all tenants. `within` is for callers who see the cluster from within; others are not told of its hosts
and processes, nor how much work of others there is.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from compute.api.dashboard import deployment_page
from compute.monitoring.workers import WorkerSeen, workers_by_queue
from compute.schemas.monitoring.workers import WorkerHealthResponse, WorkerInfo, WorkerState, WorkerStatsResponse
from compute.settings import Settings

__all__ = ["present_health", "present_workers"]

_MEGA = 1_000_000


def present_workers(
    workers: Sequence[WorkerSeen], now: datetime, settings: Settings, *, within: bool
) -> WorkerStatsResponse:
    """All workers, and their sums."""
    shown = [_worker(worker, settings) if within else _outside(worker) for worker in workers]
    capacity, active = sum(worker.concurrency for worker in shown), sum(worker.active_tasks for worker in shown)
    return WorkerStatsResponse(
        workers=shown,
        total_workers=len(shown),
        total_capacity=capacity,
        total_active=active,
        total_utilization_pct=_percent(active, capacity),
        workers_at_capacity=sum(0 < worker.concurrency <= worker.active_tasks for worker in shown),
        timestamp=now,
    )


def present_health(
    workers: Sequence[WorkerSeen], queues: Collection[str], now: datetime, *, within: bool
) -> WorkerHealthResponse:
    """Whether there are workers for `queues`, which are served or have tasks."""
    found = workers_by_queue(workers)
    free = sum(worker.has_capacity for worker in workers)
    return WorkerHealthResponse(
        healthy=free > 0,
        total_workers=len(workers),
        workers_with_capacity=free,
        queues_with_workers=sorted(found),
        queues_without_workers=sorted(set(queues) - found.keys()),
        timestamp=now,
        unhealthy=sum(not worker.well for worker in workers),
        total=len(workers),
        workers=list(_states(workers, within)),
    )


def _states(workers: Iterable[WorkerSeen], within: bool) -> Iterable[WorkerState]:
    for worker in workers:
        if worker.status != "gone":
            row = worker.row
            yield WorkerState(
                id=row.name if within else _plain_name(row.name),
                status=worker.status,
                gpu_utilization=row.gpu_utilization if within else None,
                last_heartbeat=row.seen_at,
            )


def _plain_name(name: str) -> str:
    """The name without the host."""
    return name.partition("@")[0]


def _outside(worker: WorkerSeen) -> WorkerInfo:
    row = worker.row
    return WorkerInfo(
        name=_plain_name(row.name),
        queues=row.queues,
        concurrency=row.concurrency,
        has_capacity=worker.has_capacity,
        id=row.id,
        deployment=row.deployment,
        host="",
        status=worker.status if worker.status != "gone" else "unhealthy",
        last_heartbeat=row.seen_at,
    )


def _worker(worker: WorkerSeen, settings: Settings) -> WorkerInfo:
    row = worker.row
    return WorkerInfo(
        name=row.name,
        queues=row.queues,
        concurrency=row.concurrency,
        active_tasks=row.active,
        utilization_pct=_percent(row.active, row.concurrency),
        has_capacity=worker.has_capacity,
        tasks_completed_total=row.completed,
        tasks_per_minute=row.per_minute,
        memory_mb=_mega(row.memory),
        id=row.id,
        deployment=row.deployment,
        host=row.host,
        pid=row.pid,
        status=worker.status if worker.status != "gone" else "unhealthy",
        reserved_tasks=row.reserved,
        gpu_name=row.gpu_name,
        gpu_utilization=row.gpu_utilization,
        gpu_memory_mb=_mega(row.gpu_memory),
        gpu_memory_total_mb=_mega(row.gpu_memory_total),
        started_at=row.started_at,
        last_heartbeat=row.seen_at,
        dashboard_url=row.application and deployment_page(settings, row.application, row.deployment),
    )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _mega(size: int | None) -> float | None:
    return None if size is None else round(size / _MEGA, 1)
