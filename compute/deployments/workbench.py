"""The workbench of one replica: its warm model, its device, and files beside it. No Ray in here."""

import asyncio
import hashlib
from pathlib import Path

from PIL import Image

from compute.errors import InvalidInput, NotFound
from compute.imaging.encode import encode_image
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.media import open_image
from compute.tasks.protocol import Artifact, EncodedImage, ImageModel, Job
from compute.tasks.registry import kind_of
from compute.tasks.stages import Stages

__all__ = ["LocalWorkbench"]


class LocalWorkbench:
    """Implements `compute.tasks.protocol.Workbench` on a model in this process and an object store."""

    def __init__(self, settings: Settings, objects: ObjectStore, model: ImageModel, executor: str) -> None:
        self._settings = settings
        self._objects = objects
        self._model = model
        self._executor = executor
        self._stages = Stages(model)
        self._downloads: dict[Path, asyncio.Lock] = {}

    @property
    def executor(self) -> str:
        return self._executor

    @property
    def model(self) -> ImageModel:
        return self._model

    @property
    def stages(self) -> Stages:
        return self._stages

    async def load_image(self, path: str) -> Image.Image:
        """Raises:
        InvalidInput: the image is gone, or damaged.
        """
        try:
            data = await self._objects.get(path)
        except NotFound:
            raise InvalidInput(f"The input {path} is gone.", field="reference_image_path") from None
        return await asyncio.to_thread(open_image, data, max_pixels=self._settings.media_max_pixels)

    async def load_lora(self, path: str) -> tuple[str, Path]:
        """Raises:
        InvalidInput: the file is gone.
        """
        found = await self._objects.stat(path)
        if found is None:
            raise InvalidInput(f"The LoRA {path} is gone.", field="lora")
        name = hashlib.sha256(f"{path}\n{found.etag}".encode()).hexdigest()[:16]
        file = self._settings.cache_root / "loras" / f"{name}.safetensors"
        # Two jobs may want the same file; one of them fetches it.
        async with self._downloads.setdefault(file, asyncio.Lock()):
            if not await asyncio.to_thread(file.exists):
                await self._objects.download(path, file)
        return name, file

    async def encode(self, image: Image.Image) -> EncodedImage:
        return await asyncio.to_thread(_encode, image)

    async def store(self, job: Job, index: int, encoded: EncodedImage, *, seed: int) -> Artifact:
        """Raises:
        StorageFailed: the object store refused it, or could not be reached.
        """
        # The fence in the path keeps a late attempt from overwriting what a later one published.
        path = f"{kind_of(job.task_type).folder}/{job.task_id}/{job.fence}/{index}.png"
        await self._objects.put(path, encoded.data, encoded.content_type)
        return Artifact(
            path, encoded.content_type, len(encoded.data), encoded.sha256, encoded.width, encoded.height, seed
        )


def _encode(image: Image.Image) -> EncodedImage:
    # Pillow and hashlib let other threads run meanwhile, among them the one that draws the next image.
    data, content_type = encode_image(image, "png")
    return EncodedImage(data, content_type, hashlib.sha256(data).hexdigest(), image.width, image.height)
