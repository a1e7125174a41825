"""Inputs of a job, with the hashes that its result records."""

from pathlib import Path

from PIL import Image

from compute.worker.protocol import FetchedLora, WorkerContext

__all__ = ["JobInputs"]


class JobInputs:
    """Loads the inputs of one job. `hashes` are those of the files, sha256 in hex, by storage path."""

    def __init__(self, worker: WorkerContext) -> None:
        self._worker = worker
        self.hashes: dict[str, str] = {}

    @property
    def models_root(self) -> Path:
        return self._worker.models_root

    async def image(self, path: str, *, field: str) -> Image.Image:
        """Load a stored image; `field` is the request's field that named it.

        Raises:
            InvalidInput: it is gone, or damaged.
        """
        stored = await self._worker.load_image(path, field=field)
        self.hashes[path] = stored.sha256
        return stored.image

    async def lora(self, path: str) -> FetchedLora:
        """Fetch a local copy of a stored LoRA.

        Raises:
            InvalidInput: it is gone.
        """
        lora = await self._worker.load_lora(path)
        self.hashes[path] = lora.sha256
        return lora
