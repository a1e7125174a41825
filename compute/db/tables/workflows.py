"""Workflows, their steps, and what happened to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.columns import AS_SENT
from compute.db.tables.base import NOW, Base

__all__ = ["LISTED", "OF_TENANT", "OF_ZONE", "UNENDED", "Workflow", "WorkflowEvent", "WorkflowStep"]

# What the rows of the partial indices are. Who walks one says the same, word for word.
LISTED = "deleted_at IS NULL"
UNENDED = "status IN ('PENDING', 'RUNNING', 'PAUSED')"
OF_TENANT = f"origin_tenant_id IS NOT NULL AND {LISTED}"
OF_ZONE = f"origin_zone IS NOT NULL AND {LISTED}"


class Workflow(Base):
    """A DAG of steps. Only `compute.workflows` writes it.

    `fence` grows with every claim by an engine and every change from outside; a write that carries an older one is
    dropped. `parked` workflows have nothing for an engine to do until somebody resumes or approves. `taken` maps the
    sources that the definition and the input name to the paths at which they are stored. `sent`: both as sent.
    `bound_to` is the tenant to which the key that made it is bound: its steps see that tenant's files alone.
    `key_id` is the key that set it going last, if it is one that was given out: its tasks count against that.
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
    bound_to: Mapped[str | None]
    key_id: Mapped[UUID | None]
    webhook_url: Mapped[str | None]
    canvas_task_id: Mapped[str | None]
    traceparent: Mapped[str | None]

    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    parked: Mapped[bool] = mapped_column(server_default=text("false"))
    errors: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))

    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("workflows_open", "created_at", postgresql_where=text("status IN ('RUNNING', 'PAUSED') AND NOT parked")),
        Index("workflows_unended", "id", postgresql_where=text(UNENDED)),
        # What lists walk along, newest first.
        Index("workflows_created", text("created_at DESC"), text("id DESC")),
        Index("workflows_of_status", "status", "created_at", "id", postgresql_where=text(LISTED)),
        Index("workflows_of_tenant", "origin_tenant_id", "created_at", "id", postgresql_where=text(OF_TENANT)),
        Index("workflows_of_instance", "origin_instance", "created_at", "id", postgresql_where=text(LISTED)),
        Index("workflows_of_zone", "origin_zone", "created_at", "id", postgresql_where=text(OF_ZONE)),
        Index("workflows_of_name", "name", postgresql_ops={"name": "text_pattern_ops"}, postgresql_where=text(LISTED)),
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

    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
