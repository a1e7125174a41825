"""The tables. One row of `tasks` is the truth about one task; everything else follows from it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, Integer, SmallInteger, Text, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from compute.db.columns import AS_SENT, Jsonb

__all__ = [
    "Base",
    "DispatcherBeat",
    "IdempotencyKey",
    "Task",
    "TaskEvent",
    "TenantTurn",
    "Training",
    "TrainingEvent",
    "WebhookAttempt",
    "WebhookDelivery",
    "Workflow",
    "WorkflowEvent",
    "WorkflowStep",
]

_NOW = func.now()


class Base(DeclarativeBase):
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: Jsonb,
        list[Any]: Jsonb,
        str: Text,
    }


class Task(Base):
    """One accepted request. Only `compute.tasks.store` writes it.

    `spec` is what the worker needs (inputs already stored, seed already chosen), so that every attempt does the
    same work. `fence` grows with every claim and every end from outside: a worker's write that carries an older one
    is dropped. `max_retries` is the setting's when it is NULL; `step_id` is the step of its workflow, if it is one's.
    `progress` is in percent. Times are UTC. `sent` has `config` and the providers' configurations as they were sent.
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
    run_after: Mapped[datetime] = mapped_column(server_default=_NOW)
    retry_count: Mapped[int] = mapped_column(Integer, server_default="0")
    errors: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    error_category: Mapped[str | None]

    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
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
            postgresql_where=text("status = 'PENDING'"),
        ),
        Index("tasks_leased", "queue", "tenant", postgresql_where=text("status IN ('QUEUED', 'EXECUTING')")),
        Index("tasks_created", text("created_at DESC"), text("id DESC")),
        Index("tasks_workflow", "workflow_id", postgresql_where=text("workflow_id IS NOT NULL")),
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
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class WebhookDelivery(Base):
    """A webhook that must reach its URL: the outbox. It outlives its task, so `payload` is complete."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    task_id: Mapped[UUID]
    url: Mapped[str]
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default="PENDING")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        Index("webhook_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'PENDING'")),
        Index("webhook_deliveries_task", "task_id"),
    )


class WebhookAttempt(Base):
    """One try at a delivery: the log an operator reads when a receiver says that nothing came."""

    __tablename__ = "webhook_attempts"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"))
    attempted_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    status_code: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None]
    duration_ms: Mapped[int] = mapped_column(Integer)

    __table_args__ = (Index("webhook_attempts_delivery", "delivery_id", "id"),)


class IdempotencyKey(Base):
    """The first answer to a creating request, replayed to everyone who sends its key again."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status_code: Mapped[int] = mapped_column(SmallInteger)
    answer: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)

    __table_args__ = (Index("idempotency_keys_created", "created_at"),)


class TenantTurn(Base):
    """When a tenant was last served from a queue, so that tenants take turns."""

    __tablename__ = "tenant_turns"

    queue: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    served_at: Mapped[datetime]


class DispatcherBeat(Base):
    """A living dispatcher and the pools it sees; readiness is read from here, not asked of Ray."""

    __tablename__ = "dispatchers"

    id: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    pools: Mapped[dict[str, Any]]


class Workflow(Base):
    """A DAG of steps. Only `compute.workflows` writes it.

    `fence` grows with every claim by an engine and every change from outside; a write that carries an older one is
    dropped. `parked` workflows have nothing for an engine to do until somebody resumes or approves. `taken` maps the
    sources that the definition and the input name to the paths at which they are stored. `sent`: both as sent.
    """

    __tablename__ = "workflows"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    status: Mapped[str]
    config: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    input: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    sent: Mapped[dict[str, Any] | None] = mapped_column(AS_SENT)
    taken: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    reuse: Mapped[bool] = mapped_column(server_default=text("false"))
    suppress_subtask_events: Mapped[bool] = mapped_column(server_default=text("true"))
    final_step_id: Mapped[str | None]

    origin_instance: Mapped[str]
    origin_zone: Mapped[str | None]
    origin_tenant_id: Mapped[str | None]
    origin_reference: Mapped[str | None]
    webhook_url: Mapped[str | None]
    canvas_task_id: Mapped[str | None]

    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    parked: Mapped[bool] = mapped_column(server_default=text("false"))
    errors: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))

    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("workflows_open", "created_at", postgresql_where=text("status IN ('RUNNING', 'PAUSED') AND NOT parked")),
        Index("workflows_unended", "id", postgresql_where=text("status IN ('PENDING', 'RUNNING', 'PAUSED')")),
        Index("workflows_created", text("created_at DESC"), text("id DESC")),
    )


class WorkflowStep(Base):
    """One step of a workflow: what it was defined as, and what became of it.

    `spread` names the fields that are given one element of a list to each task; a step with any is a task for every
    element. `task_ids` are its tasks in that order. `result` is what other steps may take from it. `blocked`: it was
    skipped because a step before it failed. `fresh`: it must not take over an earlier result. `sent`: the
    caller's own of `definition`.
    """

    __tablename__ = "workflow_steps"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workflow_id: Mapped[UUID] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    step_id: Mapped[str]
    task_type: Mapped[str]
    definition: Mapped[dict[str, Any]]
    sent: Mapped[dict[str, Any] | None] = mapped_column(AS_SENT)
    dependencies: Mapped[list[Any]]
    spread: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))

    status: Mapped[str]
    task_ids: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    result: Mapped[dict[str, Any] | None]
    error_message: Mapped[str | None]
    error_category: Mapped[str | None]
    retry_count: Mapped[int] = mapped_column(Integer, server_default="0")
    blocked: Mapped[bool] = mapped_column(server_default=text("false"))
    fresh: Mapped[bool] = mapped_column(server_default=text("false"))
    awaits_approval: Mapped[bool] = mapped_column(server_default=text("false"))
    approved_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    content_hash: Mapped[str | None]
    reused_from: Mapped[UUID | None]

    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    __table_args__ = (
        Index("workflow_steps_of", "workflow_id", "position", unique=True),
        Index("workflow_steps_named", "workflow_id", "step_id", unique=True),
        Index(
            "workflow_steps_reusable",
            "content_hash",
            "completed_at",
            postgresql_where=text("result IS NOT NULL AND content_hash IS NOT NULL"),
        ),
        Index("workflow_steps_timed", "task_type", "completed_at", postgresql_where=text("status = 'COMPLETED'")),
    )


class WorkflowEvent(Base):
    """One thing that happened to a workflow or to one of its steps, written in the transaction that made it happen."""

    __tablename__ = "workflow_events"

    workflow_id: Mapped[UUID] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    type: Mapped[str]
    step_id: Mapped[str | None]
    status: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Training(Base):
    """One training. `compute.training` alone writes it: the API, the supervisor of the Ray jobs, and the job itself.

    `spec` is a `TrainingSpec`; `request` what was ordered, with the defaults filled in and without the pictures.
    `fence` grows with every job and every end from outside: a job's write that carries an older one is dropped.
    `job_id` is the Ray job that was submitted last, null for one that somebody runs by hand; `job_open`: it may still
    be there. `losses` counts the jobs that were lost since the last new checkpoint, which was at `checkpoint_step`.
    `progress` is in percent. `logs` is the end of the job's log.
    """

    __tablename__ = "trainings"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    status: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    priority_changed_at: Mapped[datetime | None]
    spec: Mapped[dict[str, Any]]
    request: Mapped[dict[str, Any]]

    progress: Mapped[float] = mapped_column(server_default="0")
    current_step: Mapped[int] = mapped_column(Integer, server_default="0")
    total_steps: Mapped[int] = mapped_column(Integer, server_default="0")
    eta_seconds: Mapped[int | None] = mapped_column(Integer)
    preprocessing_stage: Mapped[str | None]
    processed_files_count: Mapped[int | None] = mapped_column(Integer)
    total_files_count: Mapped[int | None] = mapped_column(Integer)
    preprocessing_started_at: Mapped[datetime | None]
    preprocessing_completed_at: Mapped[datetime | None]
    processed_dataset_path: Mapped[str | None]
    local_model_path: Mapped[str | None]
    rejected_files: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    metrics: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    samples: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    loss_plot_path: Mapped[str | None]
    logs: Mapped[str] = mapped_column(server_default="")
    error_message: Mapped[str | None]
    error_category: Mapped[str | None]

    origin_instance: Mapped[str]
    origin_zone: Mapped[str | None]
    origin_version: Mapped[str | None]
    origin_tenant_id: Mapped[str | None]
    entity_id: Mapped[UUID | None]
    webhook_url: Mapped[str | None]

    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    job_id: Mapped[str | None]
    job_open: Mapped[bool] = mapped_column(server_default=text("false"))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    losses: Mapped[int] = mapped_column(Integer, server_default="0")
    checkpoint_step: Mapped[int] = mapped_column(Integer, server_default="0")
    submitted_at: Mapped[datetime | None]
    run_after: Mapped[datetime] = mapped_column(server_default=_NOW)

    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "trainings_ready",
            "created_at",
            postgresql_where=text("status IN ('PENDING', 'PREPROCESSING', 'TRAINING') AND NOT job_open"),
        ),
        Index("trainings_jobs", "submitted_at", postgresql_where=text("job_open")),
        Index("trainings_created", text("created_at DESC"), text("id DESC")),
    )


class TrainingEvent(Base):
    """One thing that happened to a training, written in the transaction that made it happen."""

    __tablename__ = "training_events"

    training_id: Mapped[UUID] = mapped_column(ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    type: Mapped[str]
    status: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
