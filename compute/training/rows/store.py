"""Reads and changes trainings for the API: one transaction each, opened by the caller.

Ending a training from outside raises its fence, so that later reports of its job are dropped.
"""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.keys import lock_row
from compute.db.tables import Training, TrainingEvent
from compute.errors import Conflict
from compute.events.outbox.trainings import CALL_BACK_TRAININGS
from compute.schemas.enums import EventType
from compute.schemas.training import TrainingStatus, TrainingTaskCreate
from compute.telemetry.tracing import current_traceparent
from compute.training.request import request_of
from compute.training.spec import TrainingSpec
from compute.training.states import TRAINING_TRANSITIONS

__all__ = ["DEFAULT_TENANT", "cancel", "create", "events_of"]

DEFAULT_TENANT = "default"


async def create(session: AsyncSession, spec: TrainingSpec, request: TrainingTaskCreate) -> Training:
    """Store a training that waits for its turn. `request` provides the fields that are not in `spec`."""
    training = Training(
        id=spec.id,
        tenant=request.origin_tenant_id or DEFAULT_TENANT,
        status=TrainingStatus.PENDING,
        priority=int(request.priority or 0),
        spec=spec.model_dump(mode="json"),
        request=request_of(spec),
        total_steps=spec.steps or 0,
        origin_instance=request.origin_instance,
        origin_zone=request.origin_zone,
        origin_version=request.origin_version,
        origin_tenant_id=request.origin_tenant_id,
        entity_id=request.entity_id,
        webhook_url=request.webhook_url,
        traceparent=current_traceparent(),
    )
    session.add(training)
    await session.flush()
    await _log(session, training)
    await session.refresh(training)
    return training


async def cancel(session: AsyncSession, training_id: UUID) -> Training:
    """End a training. Its job stops at its next step, and its later reports are dropped.

    Raises:
        NotFound: there is no such training.
        Conflict: it has already ended.
    """
    training = await lock_row(session, Training, training_id)
    if TrainingStatus.CANCELLED not in TRAINING_TRANSITIONS[TrainingStatus(training.status)]:
        raise Conflict(f"Training {training_id} is {training.status} and cannot become CANCELLED.")
    now = datetime.now(UTC)
    training.status, training.completed_at, training.updated_at = TrainingStatus.CANCELLED, now, now
    training.fence += 1
    training.eta_seconds = training.preprocessing_stage = None
    await session.flush()
    await _log(session, training)
    connection = await session.connection()
    await connection.exec_driver_sql(
        f"WITH moved AS (SELECT * FROM trainings WHERE id = %(id)s) {CALL_BACK_TRAININGS}",  # noqa: S608
        {"id": training_id},
    )
    return training


async def events_of(session: AsyncSession, training_id: UUID, *, after: int, limit: int) -> list[TrainingEvent]:
    """Return the events of a training with ids above `after`, oldest first."""
    rows = await session.scalars(
        select(TrainingEvent)
        .where(TrainingEvent.training_id == training_id, TrainingEvent.id > after)
        .order_by(TrainingEvent.id)
        .limit(limit)
    )
    return list(rows)


async def _log(session: AsyncSession, training: Training) -> None:
    session.add(TrainingEvent(training_id=training.id, type=EventType.TRAINING_STATUS, status=training.status))
    await session.flush()
