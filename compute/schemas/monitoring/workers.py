"""Workers as an operator sees them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["WorkerHealthResponse", "WorkerInfo", "WorkerState", "WorkerStatsResponse", "WorkerStatus"]

WorkerStatus = Literal["busy", "idle", "unhealthy"]


class WorkerInfo(BaseModel):
    """One replica that takes tasks."""

    name: str = Field(description="Such as `Flux-3f2a@host1`.")
    queues: list[str] = Field(default=[], description="The queues whose tasks it takes.")
    concurrency: int = Field(default=0, description="Tasks that it executes at a time.")
    active_tasks: int = Field(default=0, description="Tasks that it executes.")
    utilization_pct: float = Field(default=0.0, description="`active_tasks` of `concurrency`, in percent.")
    has_capacity: bool = Field(default=False, description="Whether it is well and would take another task now.")
    tasks_completed_total: int = Field(default=0, description="Tasks that it completed since it began.")
    tasks_per_minute: float = Field(
        default=0.0, description="Tasks completed in a minute, on average of the last five."
    )
    memory_mb: float | None = Field(default=None, description="Main memory of its processes, in 10^6 bytes.")
    id: str = Field(description="The `executor_instance` of its tasks.")
    deployment: str = Field(description="The deployment that it is a replica of, as Ray's dashboard names it.")
    host: str = Field(description="Empty for a key that is bound to a tenant, which has none of the figures either.")
    pid: int | None = None
    status: WorkerStatus
    reserved_tasks: int = Field(default=0, description="Tasks that it holds for its next turns.")
    gpu_name: str | None = None
    gpu_utilization: float | None = Field(default=None, description="From 0 to 1; null without a GPU.")
    gpu_memory_mb: float | None = Field(default=None, description="Memory in use on its GPU, in 10^6 bytes.")
    gpu_memory_total_mb: float | None = None
    started_at: datetime | None = Field(default=None, description="When it was first heard of.")
    last_heartbeat: datetime = Field(description="When it was last heard of, by the database's clock.")
    dashboard_url: str | None = Field(
        default=None, description="Its deployment in Ray's dashboard, where the dashboard's address is known."
    )


class WorkerStatsResponse(BaseModel):
    """All workers that have not gone."""

    workers: list[WorkerInfo] = []
    total_workers: int = 0
    total_capacity: int = Field(default=0, description="The sum of `concurrency`.")
    total_active: int = Field(default=0, description="The sum of `active_tasks`.")
    total_utilization_pct: float = Field(default=0.0, description="`total_active` of `total_capacity`, in percent.")
    workers_at_capacity: int = Field(default=0, description="Workers that execute as many tasks as they can.")
    timestamp: datetime = Field(description="The database's time.")


class WorkerState(BaseModel):
    """A worker in few words, as in the quick start."""

    id: str = Field(description="Its name.")
    status: WorkerStatus
    gpu_utilization: float | None = None
    last_heartbeat: datetime


class WorkerHealthResponse(BaseModel):
    """Whether there are workers, and workers for every queue."""

    healthy: bool = Field(description="Whether at least one worker is well and would take another task now.")
    total_workers: int = 0
    workers_with_capacity: int = Field(default=0, description="Workers that are well and would take another task.")
    queues_with_workers: list[str] = Field(default=[], description="Queues with at least one worker that is well.")
    queues_without_workers: list[str] = Field(
        default=[], description="Queues that are served or have tasks, and have no worker that is well."
    )
    timestamp: datetime = Field(description="The database's time.")
    unhealthy: int = Field(default=0, description="Workers that were not heard of lately.")
    total: int = Field(default=0, description="As `total_workers`.")
    workers: list[WorkerState] = []
