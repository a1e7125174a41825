"""Tasks, and what happened to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.columns import AS_SENT
from compute.db.tables.base import NOW, Base

__all__ = [
    "ENDED",
    "LEASED",
    "LISTED",
    "OF_PROVIDER",
    "OF_TENANT",
    "OF_WORKFLOW",
    "OF_ZONE",
    "READY",
    "Task",
    "TaskEvent",
]

# What the rows of the partial indices are. Who walks one says the same, word for word.
LISTED = "deleted_at IS NULL"
READY = "status = 'PENDING'"
LEASED = "status IN ('QUEUED', 'EXECUTING')"
ENDED = f"status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND {LISTED}"
OF_WORKFLOW = "workflow_id IS NOT NULL"
OF_TENANT = f"origin_tenant_id IS NOT NULL AND {LISTED}"
OF_PROVIDER = f"provider_type <> 'LOCAL' AND {LISTED}"
OF_ZONE = f"origin_zone IS NOT NULL AND {ENDED}"


class Task(Base):
    """One accepted request. `compute.tasks` writes it, and `compute.api.tasks` what clients may change.

    `spec` is what the worker needs (inputs already stored, seed already chosen), so that every attempt does the
    same work. `fence` grows with every claim and every end from outside: a worker's write that carries an older one
    is dropped. `max_retries` is the setting's when it is NULL; `step_id` is the step of its workflow, if it is one's.
    `progress` is in percent. Times are UTC. `traceparent` continues the trace of the request that made it. `sent` has
    `config` and the providers' configurations as they were sent.
    """

    __tablename__ = "tasks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    task_type: Mapped[str]
    queue: Mapped[str]
    tenant: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[str]
    progress: Mapped[float] = mapped_column(server_default="0")
    spec: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    config: Mapped[dict[str, Any] | None]
    sent: Mapped[dict[str, Any] | None] = mapped_column(AS_SENT)

    origin_instance: Mapped[str]
    origin_zone: Mapped[str | None]
    origin_tenant_id: Mapped[str | None]
    origin_reference: Mapped[str | None]
    workflow_id: Mapped[str | None]
    step_id: Mapped[str | None]
    webhook_url: Mapped[str | None]
    max_retries: Mapped[int | None] = mapped_column(SmallInteger)

    provider_type: Mapped[str | None]
    executor_type: Mapped[str | None]
    executor_instance: Mapped[str | None]
    celery_task_id: Mapped[str | None]
    service_task_id: Mapped[str | None]

    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    run_after: Mapped[datetime] = mapped_column(server_default=NOW)
    retry_count: Mapped[int] = mapped_column(Integer, server_default="0")
    errors: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    error_category: Mapped[str | None]
    traceparent: Mapped[str | None]

    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        # What may be claimed: small however many rows are finished, and in the order the claim walks it.
        Index(
            "tasks_ready",
            "queue",
            "priority",
            "tenant",
            "created_at",
            "id",
            postgresql_where=text(READY),
        ),
        Index("tasks_leased", "queue", "tenant", postgresql_where=text(LEASED)),
        # What lists walk along, newest first. A task's row gets a new entry in every index with every status: most of
        # them begin with its end, and what has not ended is found in the two above.
        Index("tasks_created", text("created_at DESC"), text("id DESC")),
        Index("tasks_of_workflow", "workflow_id", "created_at", "id", postgresql_where=text(OF_WORKFLOW)),
        Index("tasks_of_tenant", "origin_tenant_id", "created_at", "id", postgresql_where=text(OF_TENANT)),
        Index("tasks_of_zone", "origin_zone", "created_at", "id", postgresql_where=text(OF_ZONE)),
        Index("tasks_of_provider", "provider_type", "created_at", "id", postgresql_where=text(OF_PROVIDER)),
        Index("tasks_of_status", "status", "created_at", "id", postgresql_where=text(ENDED)),
        Index("tasks_of_type", "task_type", "created_at", "id", postgresql_where=text(ENDED)),
        Index("tasks_of_instance", "origin_instance", "created_at", "id", postgresql_where=text(ENDED)),
        # Rows are rewritten in place several times while a task lives: leave room on the page for that.
        {
            "postgresql_with": {
                "fillfactor": "70",
                "autovacuum_vacuum_scale_factor": "0.02",
                "autovacuum_vacuum_threshold": "500",
            }
        },
    )


class TaskEvent(Base):
    """One thing that happened to a task, written in the transaction that made it happen.

    `data` is what the event says beyond its status; a change of status that the Dispatcher wrote has none, because
    the task's row says it all. Events go with their task: a trigger on `tasks` deletes them (see migration 0002).
    """

    __tablename__ = "task_events"

    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    type: Mapped[str]
    status: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
