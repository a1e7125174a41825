"""Ray tasks of the preprocessing. Each works on a chunk of images, on any node, with files in the object store."""

import asyncio
import io
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from PIL import Image

from compute.errors import InvalidInput, NotFound
from compute.outbound.client import GuardedClient
from compute.settings import get_settings
from compute.storage.base import ObjectStore
from compute.training.cache import Manifest, write_manifest
from compute.training.dataset.archive import unpack
from compute.training.dataset.images import Rejected, check_image
from compute.training.dataset.transforms import PreparedImage, apply
from compute.training.files import with_store
from compute.training.models import get_family
from compute.training.models.base import Encoders, ImageFacts
from compute.training.spec import TrainingSpec

__all__ = ["DatasetImage", "EncoderActor", "RawFile", "fetch_archive", "fetch_images", "transform", "validate"]

T = TypeVar("T")

_TRIES = 3
_ARCHIVE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class RawFile:
    """An unprocessed file: its number, its name for the user, its storage path, and its caption from the archive."""

    number: int
    name: str
    path: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """An image ready for training, in the store. Sizes are (width, height) in pixels; see `PreparedImage` for the other
    fields."""

    name: str
    path: str
    width: int
    height: int
    original_size: tuple[int, int]
    crop: tuple[int, int]
    text: str | None = None


def fetch_images(spec: TrainingSpec, sources: Sequence[tuple[int, str]]) -> list[RawFile | Rejected]:
    """Download images to the store; images that are already stored stay where they are."""

    async def fetch(objects: ObjectStore, client: GuardedClient) -> list[RawFile | Rejected]:
        return [await _fetched(spec, number, source, objects, client) for number, source in sources]

    return _with_store(fetch)


def fetch_archive(spec: TrainingSpec) -> tuple[list[RawFile], list[Rejected]]:
    """Store an archive's images.

    Raises:
        InvalidInput: it cannot be fetched, or is refused.
        StorageFailed: a disk is full, or fails.
    """
    source = spec.data.archive or ""
    settings = get_settings()
    scratch = settings.cache_root / "training"
    scratch.mkdir(parents=True, exist_ok=True)

    async def fetch(objects: ObjectStore, client: GuardedClient) -> tuple[list[RawFile], list[Rejected]]:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            archive, unpacked = Path(folder) / "archive.zip", Path(folder) / "files"
            unpacked.mkdir()
            if _is_address(source):
                await client.download(
                    source,
                    archive,
                    max_bytes=settings.training_archive_max_bytes,
                    timeout=_ARCHIVE_SECONDS,
                    field="dataset_url",
                )
            else:
                await _stored_archive(source, archive, objects)
            found = await asyncio.to_thread(unpack, archive, unpacked)
            raws = []
            for number, image in enumerate(found.images):
                path = f"{spec.folder}/raw/{number:05d}{image.path.suffix}"
                await objects.put(path, image.path, "application/octet-stream")
                raws.append(RawFile(number, image.name, path, image.text))
            return raws, list(found.others)

    return _with_store(fetch)


def validate(spec: TrainingSpec, raws: Sequence[RawFile]) -> list[RawFile | Rejected]:
    """Check that the files are images; reject the others."""

    async def check(objects: ObjectStore, _client: GuardedClient) -> list[RawFile | Rejected]:
        found: list[RawFile | Rejected] = []
        for raw in raws:
            image = await _opened(raw, objects)
            found.append(image if isinstance(image, Rejected) else raw)
        return found

    return _with_store(check)


def transform(spec: TrainingSpec, raws: Sequence[RawFile]) -> list[DatasetImage | Rejected]:
    """Transform images for the training, and store the results."""
    multiple = get_family(spec.model.family).size_multiple
    models_root = get_settings().models_root

    async def change(objects: ObjectStore, _client: GuardedClient) -> list[DatasetImage | Rejected]:
        found: list[DatasetImage | Rejected] = []
        for raw in raws:
            image = await _opened(raw, objects)
            if isinstance(image, Rejected):
                found.append(image)
                continue
            changed = await asyncio.to_thread(
                apply,
                image,
                spec.data.transforms,
                spec.model.resolution,
                multiple,
                name=raw.name,
                models_root=models_root,
            )
            if isinstance(changed, Rejected):
                found.append(changed)
                continue
            for index, prepared in enumerate(changed):
                path = f"{spec.folder}/dataset/images/{raw.number:05d}{'-flipped' if index else ''}.png"
                await objects.put(path, await asyncio.to_thread(_png, prepared), "image/png")
                width, height = prepared.image.size
                found.append(
                    DatasetImage(raw.name, path, width, height, prepared.original_size, prepared.crop, raw.text)
                )
        return found

    return _with_store(change)


class EncoderActor:
    """The frozen parts of the model, in a process that ends when encoding is finished."""

    def __init__(self, spec: TrainingSpec) -> None:
        self._spec = spec
        self._loaded: Encoders | None = None

    def prompts(self, chunk: int, prompts: Sequence[tuple[int, str]]) -> None:
        """Encode captions, given with their numbers, to one file of the cache."""
        from compute.training.memory import reporting_out_of_memory
        from compute.training.preprocessing.encode import encode_prompts

        with tempfile.TemporaryDirectory() as folder:
            with reporting_out_of_memory(self._spec):
                file = encode_prompts(self._encoders(), prompts, Path(folder), chunk)
            self._store(file)

    def images(self, chunk: int, images: Sequence[tuple[int, DatasetImage]]) -> None:
        """Encode images, given with their numbers, to one file of the cache."""
        from compute.training.memory import reporting_out_of_memory
        from compute.training.preprocessing.encode import encode_images

        async def load(objects: ObjectStore, _client: GuardedClient) -> list[bytes]:
            return [await objects.get(entry.path) for _, entry in images]

        opened = [Image.open(io.BytesIO(data)) for data in _with_store(load)]
        entries = [
            (number, image, ImageFacts(original_size=entry.original_size, crop_top_left=entry.crop))
            for (number, entry), image in zip(images, opened, strict=True)
        ]
        with tempfile.TemporaryDirectory() as folder:
            with reporting_out_of_memory(self._spec):
                file = encode_images(self._encoders(), entries, Path(folder), chunk)
            self._store(file)

    def manifest(self, manifest: Manifest) -> None:
        """Write the manifest, which completes the cache."""
        with tempfile.TemporaryDirectory() as folder:
            self._store(write_manifest(Path(folder), manifest))

    def _encoders(self) -> Encoders:
        """Load the encoders at the first use, so that errors reach the caller unchanged."""
        import torch

        from compute.training.base_model import base_folder
        from compute.training.memory import training_dtype

        if self._loaded is None:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            folder = base_folder(self._spec.model, get_settings().models_root)
            dtype = training_dtype(self._spec, device)
            self._loaded = get_family(self._spec.model.family).load_encoders(folder, device=device, dtype=dtype)
        return self._loaded

    def _store(self, file: Path) -> None:
        async def put(objects: ObjectStore, _client: GuardedClient) -> None:
            await objects.put(f"{self._spec.folder}/cache/{file.name}", file, "application/octet-stream")

        _with_store(put)


async def _fetched(
    spec: TrainingSpec, number: int, source: str, objects: ObjectStore, client: GuardedClient
) -> RawFile | Rejected:
    if not _is_address(source):
        return RawFile(number, PurePosixPath(source).name, source)
    name = unquote(PurePosixPath(urlsplit(source).path).name) or source[:200]
    path = f"{spec.folder}/raw/{number:05d}"
    reason = ""
    for attempt in range(_TRIES):
        try:
            fetched = await client.fetch(source, max_bytes=get_settings().media_max_bytes, field="source_images")
        except InvalidInput as error:
            reason = error.detail
            if attempt + 1 < _TRIES:
                await asyncio.sleep(0.5 * 2**attempt)
        else:
            await objects.put(path, fetched.body, "application/octet-stream")
            return RawFile(number, name, path)
    return Rejected(source[:500], reason)


async def _stored_archive(path: str, archive: Path, objects: ObjectStore) -> None:
    try:
        await objects.download(path, archive)
    except NotFound as error:
        raise InvalidInput(f"There is no stored archive {path}.", field="dataset_url") from error


async def _opened(raw: RawFile, objects: ObjectStore) -> Image.Image | Rejected:
    settings = get_settings()
    try:
        data = await objects.get(raw.path)
    except NotFound:
        return Rejected(raw.name, "the stored file is gone")
    return await asyncio.to_thread(
        check_image,
        data,
        raw.name,
        max_bytes=settings.media_max_bytes,
        max_pixels=settings.media_max_pixels,
        keep_alpha=True,
    )


def _is_address(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _png(prepared: PreparedImage) -> bytes:
    file = io.BytesIO()
    prepared.image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _with_store(work: Callable[[ObjectStore, GuardedClient], Awaitable[T]]) -> T:
    """Like `with_store`, with a guarded client in addition."""
    settings = get_settings()

    async def opened(objects: ObjectStore) -> T:
        async with GuardedClient(settings.media_allowed_hosts, settings.media_timeout_seconds) as client:
            return await work(objects, client)

    return with_store(opened)
