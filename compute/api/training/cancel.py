"""Cancels a training."""

from uuid import UUID

from compute.api.resources import Resources
from compute.db.tables import Training
from compute.events import notify
from compute.training.rows import store

__all__ = ["cancel_training"]


async def cancel_training(resources: Resources, training_id: UUID) -> Training:
    """See `store.cancel`."""
    async with resources.database.transaction() as session:
        training = await store.cancel(session, training_id)
    resources.notifier.notify(notify.TRAINING)
    return training
