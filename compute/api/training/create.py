"""Creates a training."""

from typing import Any

from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.resources import Resources
from compute.api.training.bodies import faults_in, read_training
from compute.api.training.presenter import render_new
from compute.api.training.sources import by_path, ingest
from compute.events import notify
from compute.tasks.ids import new_task_id
from compute.training.request import spec_of
from compute.training.rows import store

__all__ = ["create_training"]


async def create_training(body: dict[str, Any], idempotent: IdempotentRequest, resources: Resources) -> Answer:
    """Store a training.

    Raises:
        ReplayError: its key was answered before.
        InvalidFields, InvalidInput, TooLarge: it cannot be done, or its pictures cannot be had; nothing was
            stored.
        StorageFailed: its pictures could not be kept.
    """
    request, dialect = read_training(body)
    request = await by_path(request, resources)
    with faults_in(dialect):
        spec = spec_of(request, new_task_id(), resources.settings.training_models)
    images = await ingest(request, resources)
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"images": tuple(images)})})
    async with idempotent.once(resources.database) as session:
        training = await store.create(session, spec, request)
        answer = Answer(201, render_new(training, dialect))
        await idempotent.remember(session, answer)
    resources.notifier.notify(notify.TRAINING)
    return answer
