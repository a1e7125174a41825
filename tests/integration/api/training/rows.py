"""Trainings as rows, for tests of those who work on them without the API."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from compute.db.keys import get_row
from compute.db.session import Database
from compute.db.tables import Training, TrainingEvent, WebhookDelivery
from compute.schemas.training import TrainingTaskCreate
from compute.settings import Settings
from compute.tasks.ids import new_task_id
from compute.training.request import spec_of
from compute.training.rows import store

MODELS = Settings.model_fields["training_models"].default
ORDER = {"trigger_word": "zxdress", "source_images": ["sets/a.png"], "base_model_path": "default"}


async def order(database: Database, **fields: Any) -> UUID:
    """A training that waits; its id."""
    request = TrainingTaskCreate.model_validate(ORDER | fields)
    spec = spec_of(request, new_task_id(), MODELS)
    async with database.transaction() as session:
        await store.create(session, spec, request)
    return spec.id


async def row(database: Database, training_id: UUID) -> Training:
    async with database.transaction() as session:
        return await get_row(session, Training, training_id)


async def change(database: Database, training_id: UUID, **values: Any) -> None:
    """Make a row as the test needs it."""
    async with database.transaction() as session:
        await session.execute(update(Training).where(Training.id == training_id).values(**values))


async def cancel(database: Database, training_id: UUID) -> Training:
    async with database.transaction() as session:
        return await store.cancel(session, training_id)


async def events(database: Database, training_id: UUID) -> list[TrainingEvent]:
    async with database.transaction() as session:
        return await store.events_of(session, training_id, after=0, limit=1000)


async def statuses(database: Database, training_id: UUID) -> list[str]:
    """Those that the log names as changes, in order."""
    return [one.status for one in await events(database, training_id) if one.type == "TRAINING_STATUS"]


async def deliveries(database: Database) -> Sequence[WebhookDelivery]:
    async with database.transaction() as session:
        return list(await session.scalars(select(WebhookDelivery)))
