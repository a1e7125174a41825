"""Trainings: begin, watch, fetch the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from compute.client.aio.files import AsyncFiles
from compute.client.aio.pages import AsyncPages
from compute.client.aio.polling import until_ended
from compute.client.aio.transport import AsyncTransport
from compute.client.common.calls import body_of, id_of, post, reading
from compute.client.common.reading import id_in, raise_if_bad, reader, training_of
from compute.client.errors import ClientError

if TYPE_CHECKING:
    from compute.client.models import Training
    from compute.client.requests import TrainingFields
    from compute.schemas.training import TrainingEventPublic

__all__ = ["AsyncTrainings"]

TrainingId = Any
"""A training, or its id in either spelling."""


class AsyncTrainings:
    """Models that learn something new from images."""

    def __init__(self, transport: AsyncTransport, files: AsyncFiles) -> None:
        self._transport = transport
        self._files = files

    @overload
    async def train(
        self, /, *, idempotency_key: str | None = None, timeout: float | None = None, **fields: Unpack[TrainingFields]
    ) -> Training: ...

    @overload
    async def train(
        self, body: Any, /, *, idempotency_key: str | None = None, timeout: float | None = None, **fields: Any
    ) -> Training: ...

    async def train(
        self, body: Any = None, /, *, idempotency_key: str | None = None, timeout: float | None = None, **fields: Any
    ) -> Training:
        """Begin a training. However often the request must be sent, it makes one.

        Args:
            body: A mapping or a model; `fields` are added to it.

        Example:
            training = await client.trainings.train(
                trigger_word="zxdress", source_images=[stored.path], steps=1000, rank=16
            )
        """
        given = (body_of(body) if body is not None else {}) | fields
        created = await self._transport.json(post("/training/", given, key=idempotency_key, timeout=timeout))
        made = id_in(created)
        return training_of(created) if "training_type" in created else await self.get(made)

    async def get(self, training: TrainingId) -> Training:
        """Return a training as it is now, with its latest metrics and samples."""
        return training_of(await self._transport.json(reading(_path(training))))

    async def wait(
        self,
        training: TrainingId,
        *,
        timeout: float | None = None,
        every: float = 2.0,
        on_progress: Callable[[Training], object] | None = None,
        check: bool = True,
    ) -> Training:
        """Wait until a training has ended, and return it.

        Args:
            timeout: Seconds; None waits without end.
            every: Seconds between two looks.
            on_progress: Called with the training whenever it was looked at.
            check: Raise EndedBadly unless it is COMPLETED.
        """

        async def look(seconds: float) -> Training:
            return training_of(await self._transport.json(reading(_path(training), timeout=seconds)))

        patience = self._transport.config.timeout
        return await until_ended(
            look, "training", timeout=timeout, patience=patience, every=every, tell=on_progress, check=check
        )

    async def cancel(self, training: TrainingId, *, idempotency_key: str | None = None) -> Training:
        """Cancel a training that has not ended; its job stops after the step that it is at."""
        return training_of(await self._transport.json(post(f"{_path(training)}/cancel", key=idempotency_key)))

    async def download(self, training: TrainingId, to: str | Path, *, timeout: float | None = None) -> Path:
        """Write the LoRA of a completed training to a file, and return its path."""
        found = await self.get(training)
        raise_if_bad("training", found)
        if not found.model_url:
            raise ClientError(f"training {found.id} made no file that can be downloaded")
        return await self._files.download(found.model_url, to, timeout=timeout)

    def history(
        self, training: TrainingId, *, after: int = 0, page_size: int | None = None
    ) -> AsyncPages[TrainingEventPublic]:
        """What has happened so far, oldest first; `after` takes the id of the last event that was seen."""
        call = reading(f"{_path(training)}/events", {"after": after or None, "limit": page_size})
        return AsyncPages(self._transport, call, "events", reader("training", "TrainingEventPublic"))

    def list(
        self,
        *,
        status: str | None = None,
        origin_instance: str | None = None,
        origin_tenant_id: str | None = None,
        page_size: int | None = None,
    ) -> AsyncPages[Training]:
        """Trainings, newest first, fetched as they are walked; without logs, source images and samples."""
        params = {
            "status": status,
            "origin_instance": origin_instance,
            "origin_tenant_id": origin_tenant_id,
            "limit": page_size,
        }
        return AsyncPages(self._transport, reading("/training/", params), "tasks", training_of)


def _path(training: TrainingId) -> str:
    return f"/training/{id_of(training, 'train_')}"
