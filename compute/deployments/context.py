"""The worker context of one replica: its loaded model or its slots, and local files. Does not use Ray."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from PIL import Image

from compute.errors import InvalidInput, NotFound, TaskFailed
from compute.media.codec import CONTENT_TYPES, ImageFormat, encode
from compute.media.decoding import Decoding
from compute.media.loader import open_image
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.tasks.registry import kind_of
from compute.worker.protocol import (
    Artifact,
    EncodedFile,
    EncodedImage,
    FetchedLora,
    Job,
    LoraSelection,
    Role,
    StagedModel,
    StoredInput,
    Ticket,
)
from compute.worker.stages import StageExecutor
from compute.worker.watchdog import Watchdog

__all__ = ["LocalWorkerContext"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
_IMAGE_PACKAGES = ("pillow", "numpy", "opencv-python-headless")
_WITH_A_MODEL = ("compute", "torch", "diffusers", "transformers", "peft", *_IMAGE_PACKAGES)
_WITHOUT = ("compute", *_IMAGE_PACKAGES, "rembg", "onnxruntime")
_MOST_WAITING = 1000
_WAIT_SECONDS = 600.0
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "video/mp4": "mp4"}


class LocalWorkerContext:
    """Implements `compute.worker.protocol.WorkerContext` on an object store and a model in this process, or on none."""

    def __init__(
        self,
        settings: Settings,
        objects: ObjectStore,
        model: StagedModel | None,
        executor: str,
        *,
        names: Mapping[Role, str] | None = None,
        slots: int = 1,
        watchdog: Watchdog | None = None,
    ) -> None:
        """`names` are those of the models by role, for a `model` that manages several. Without a model, `slots` jobs
        compute at the same time. `watchdog` watches all work in threads."""
        self._settings = settings
        self._objects = objects
        self._executor = executor
        self._watchdog = watchdog or Watchdog(settings.stall_seconds)
        self._stages = StageExecutor(model, watchdog=self._watchdog) if model is not None else None
        self._names: Mapping[Role, str] = names or ({} if model is None else {"draw": model.name})
        self._slots = asyncio.Semaphore(slots)
        self._versions = _versions(_WITHOUT if model is None else _WITH_A_MODEL)
        self._decoding = Decoding(
            settings.media_decode_bytes,
            max_pixels=settings.media_max_pixels,
            busy="The images of other tasks took the memory for decoding for too long.",
            waiting=_MOST_WAITING,
            seconds=_WAIT_SECONDS,
            in_thread=partial(self._watchdog.run, what="opening an input"),
        )
        self._downloads: dict[Path, asyncio.Lock] = {}

    @property
    def executor(self) -> str:
        return self._executor

    @property
    def versions(self) -> Mapping[str, str]:
        return self._versions

    @property
    def models_root(self) -> Path:
        return self._settings.models_root

    @property
    def stages(self) -> StageExecutor:
        if self._stages is None:
            raise TaskFailed(f"{self._executor} has no model; its queue is for work that needs none.")
        return self._stages

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset(self._names)

    def model_name(self, role: Role) -> str:
        return self._names.get(role) or self._names.get("draw") or f"compute {self._versions['compute']}"

    def device(self) -> AbstractAsyncContextManager[object]:
        return self._slot() if self._stages is None else self._stages.device()

    def ticket(self) -> AbstractContextManager[Ticket]:
        # Jobs that share no device may end in any order.
        return nullcontext(_at_once) if self._stages is None else self._stages.ticket()

    async def load_image(self, path: str, *, field: str) -> StoredInput:
        try:
            data = await self._objects.get(path)
        except NotFound:
            raise InvalidInput(f"The input {path} is gone.", field=field) from None
        work = partial(_decode, data, self._settings.media_max_pixels, field)
        return await self._decoding.run(work, data, field=field)

    async def load_lora(self, path: str) -> FetchedLora:
        """Fetch a LoRA into the local cache, unless it is there.

        Raises:
            InvalidInput: the file is gone.
        """
        found = await self._objects.stat(path)
        if found is None:
            raise InvalidInput(f"The LoRA {path} is gone.", field="lora")
        name = hashlib.sha256(f"{path}\n{found.etag}".encode()).hexdigest()[:16]
        file = self._settings.cache_root / "loras" / f"{name}.safetensors"
        noted = file.with_suffix(".sha256")
        # Two jobs may need the same file; one of them fetches it.
        async with self._downloads.setdefault(file, asyncio.Lock()):
            if not await asyncio.to_thread(noted.exists):
                await self._objects.download(path, file)
                await self._watchdog.run(partial(_note_hash, file, noted), what="hashing a LoRA")
            return FetchedLora(name, file, await asyncio.to_thread(noted.read_text))

    async def warm_lora(self, path: str) -> bool:
        """Load a stored LoRA before the first task names it; True if the model has it now.

        A LoRA that is gone, damaged or made for another model is logged and ignored.

        Raises:
            StorageFailed: the object store could not be reached.
        """
        if self._stages is None or not self._stages.takes_loras:
            return False
        try:
            lora = await self.load_lora(path)
            warm = await self._stages.prefetch((LoraSelection(lora.name, lora.path, 1.0),))
        except InvalidInput as error:
            _log.info("%s does without the LoRA %s: %s", self._executor, path, error.detail)
            return False
        if warm:
            _log.info("%s has the LoRA %s", self._executor, path)
        return warm

    async def compute(self, call: Callable[[], T]) -> T:
        return await self._watchdog.run(call, what="computing")

    async def encode(self, image: Image.Image, image_format: ImageFormat = "png") -> EncodedImage:
        return await self._watchdog.run(partial(_encode, image, image_format), what="encoding")

    async def store(self, job: Job, index: int, encoded: EncodedImage, *, seed: int | None = None) -> Artifact:
        """Store one output of the job.

        Raises:
            StorageFailed: the object store refused it, or could not be reached.
        """
        path = _output_path(job, index, encoded.content_type)
        await self._objects.put(path, encoded.data, encoded.content_type)
        return Artifact(
            path, encoded.content_type, len(encoded.data), encoded.sha256, encoded.width, encoded.height, seed
        )

    async def store_beside(self, job: Job, name: str, encoded: EncodedImage) -> str:
        """Store an image with the job's outputs that is none of them.

        Raises:
            StorageFailed: the object store refused it, or could not be reached.
        """
        path = _output_path(job, name, encoded.content_type)
        await self._objects.put(path, encoded.data, encoded.content_type)
        return path

    async def store_file(self, job: Job, index: int, encoded: EncodedFile, *, seed: int | None = None) -> Artifact:
        """Store one output of the job from a local file.

        Raises:
            StorageFailed: the object store refused it, or could not be reached.
        """
        path = _output_path(job, index, encoded.content_type)
        sha256 = await self._watchdog.run(partial(_hash, encoded.path), what="hashing a result")
        stored = await self._objects.put(path, encoded.path, encoded.content_type)
        return Artifact(path, encoded.content_type, stored.size, sha256, encoded.width, encoded.height, seed)

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None]:
        async with self._slots:
            self._watchdog.check()
            yield


async def _at_once() -> None:
    """The ticket of a job that need not wait for others."""


@cache
def _versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _output_path(job: Job, index: int | str, content_type: str) -> str:
    # The fence in the path keeps a stale attempt from overwriting the outputs of a later one.
    folder = kind_of(job.task_type).folder
    return f"{folder}/{job.task_id}/{job.fence}/{index}.{_EXTENSIONS[content_type]}"


def _decode(data: bytes, max_pixels: int, field: str) -> StoredInput:
    return StoredInput(open_image(data, max_pixels=max_pixels, field=field), hashlib.sha256(data).hexdigest())


def _encode(image: Image.Image, image_format: ImageFormat) -> EncodedImage:
    # Pillow and hashlib release the GIL, so the thread that denoises the next image goes on.
    data = encode(image, image_format)
    sha256 = hashlib.sha256(data).hexdigest()
    return EncodedImage(data, CONTENT_TYPES[image_format], sha256, image.width, image.height)


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _note_hash(file: Path, noted: Path) -> None:
    """Write the hash beside the file, atomically and last: where it exists, the file is complete."""
    unfinished = noted.with_suffix(".part")
    unfinished.write_text(_hash(file))
    unfinished.replace(noted)
