"""Queues as an operator sees them."""

from datetime import datetime

from pydantic import BaseModel, Field

__all__ = ["QueueStats", "QueueStatsResponse"]


class QueueStats(BaseModel):
    """One queue. `pending`, `running` and `workers` are the quick start's names of what is there under another one."""

    name: str
    depth: int = Field(default=0, description="Tasks that wait.")
    active_workers: int = Field(default=0, description="Workers that take its tasks and have been heard of lately.")
    active_tasks: int = Field(default=0, description="Tasks that are being executed.")
    reserved_tasks: int = Field(default=0, description="Tasks that a worker holds for its next turns.")
    avg_wait_time_ms: float | None = Field(
        default=None,
        description="From acceptance to the first start, on average of those that started within the last 60 minutes.",
    )
    tasks_completed_last_hour: int = Field(default=0, description="Completed within the last 60 minutes.")
    tasks_failed_last_hour: int = Field(default=0, description="Failed within the last 60 minutes.")
    oldest_waiting_seconds: float | None = Field(
        default=None, description="The age of the oldest task that waits; of 500 tenants and priorities at most."
    )
    pending: int = Field(default=0, description="As `depth`.")
    running: int = Field(default=0, description="As `active_tasks`.")
    workers: int = Field(default=0, description="As `active_workers`.")


class QueueStatsResponse(BaseModel):
    """All queues that are served, and all others that have tasks or had some within the last hour."""

    queues: list[QueueStats] = []
    total_pending: int = Field(default=0, description="Tasks that wait, in all queues.")
    total_active: int = Field(default=0, description="Tasks that are being executed, in all queues.")
    timestamp: datetime = Field(description="The database's time.")
