"""Trainings, and what happened to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import NOW, Base

__all__ = ["OF_TENANT", "Training", "TrainingEvent"]

OF_TENANT = "origin_tenant_id IS NOT NULL"


class Training(Base):
    """One training. `compute.training` alone writes it: the API, the supervisor of the Ray jobs, and the job itself.

    `spec` is a `TrainingSpec`; `request` what was asked for, with the defaults filled in and without the images.
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
    traceparent: Mapped[str | None]

    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    job_id: Mapped[str | None]
    job_open: Mapped[bool] = mapped_column(server_default=text("false"))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    losses: Mapped[int] = mapped_column(Integer, server_default="0")
    checkpoint_step: Mapped[int] = mapped_column(Integer, server_default="0")
    submitted_at: Mapped[datetime | None]
    run_after: Mapped[datetime] = mapped_column(server_default=NOW)

    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "trainings_ready",
            "created_at",
            postgresql_where=text("status IN ('PENDING', 'PREPROCESSING', 'TRAINING') AND NOT job_open"),
        ),
        Index("trainings_jobs", "submitted_at", postgresql_where=text("job_open")),
        # What lists walk along, newest first.
        Index("trainings_created", text("created_at DESC"), text("id DESC")),
        Index("trainings_of_status", "status", "created_at", "id"),
        Index("trainings_of_tenant", "origin_tenant_id", "created_at", "id", postgresql_where=text(OF_TENANT)),
        Index("trainings_of_instance", "origin_instance", "created_at", "id"),
    )


class TrainingEvent(Base):
    """One thing that happened to a training, written in the transaction that made it happen."""

    __tablename__ = "training_events"

    training_id: Mapped[UUID] = mapped_column(ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    type: Mapped[str]
    status: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
