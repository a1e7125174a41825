"""What the tasks of the preprocessing do, each on a chunk of pictures: on any node, with files in the store."""

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

__all__ = ["EncoderActor", "Picture", "Raw", "fetch_archive", "fetch_pictures", "transform", "validate"]

T = TypeVar("T")

_TRIES = 3
_ARCHIVE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Raw:
    """A file as it came: its number, the name that its owner knows, where it is stored, and the caption beside it."""

    number: int
    name: str
    path: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it is trained on. Sizes are (width, height) in pixels; see `PreparedImage` for the others."""

    name: str
    path: str
    width: int
    height: int
    original_size: tuple[int, int]
    crop: tuple[int, int]
    text: str | None = None


def fetch_pictures(spec: TrainingSpec, sources: Sequence[tuple[int, str]]) -> list[Raw | Rejected]:
    """Bring pictures by address into the store; stored ones stay where they are."""

    async def fetch(objects: ObjectStore, client: GuardedClient) -> list[Raw | Rejected]:
        return [await _fetched(spec, number, source, objects, client) for number, source in sources]

    return _with_store(fetch)


def fetch_archive(spec: TrainingSpec) -> tuple[list[Raw], list[Rejected]]:
    """Bring an archive's pictures into the store.

    Raises:
        InvalidInput: it cannot be fetched, or is refused.
        StorageFailed: a disk is full, or fails.
    """
    source = spec.data.archive or ""
    settings = get_settings()
    scratch = settings.cache_root / "training"
    scratch.mkdir(parents=True, exist_ok=True)

    async def fetch(objects: ObjectStore, client: GuardedClient) -> tuple[list[Raw], list[Rejected]]:
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
            for number, picture in enumerate(found.pictures):
                path = f"{spec.folder}/raw/{number:05d}{picture.path.suffix}"
                await objects.put(path, picture.path, "application/octet-stream")
                raws.append(Raw(number, picture.name, path, picture.text))
            return raws, list(found.others)

    return _with_store(fetch)


def validate(spec: TrainingSpec, raws: Sequence[Raw]) -> list[Raw | Rejected]:
    """Which files are pictures that we accept."""

    async def check(objects: ObjectStore, _client: GuardedClient) -> list[Raw | Rejected]:
        found: list[Raw | Rejected] = []
        for raw in raws:
            picture = await _opened(raw, objects)
            found.append(picture if isinstance(picture, Rejected) else raw)
        return found

    return _with_store(check)


def transform(spec: TrainingSpec, raws: Sequence[Raw]) -> list[Picture | Rejected]:
    """The pictures as they are trained on, in the store."""
    multiple = get_family(spec.model.family).size_multiple
    models_root = get_settings().models_root

    async def change(objects: ObjectStore, _client: GuardedClient) -> list[Picture | Rejected]:
        found: list[Picture | Rejected] = []
        for raw in raws:
            picture = await _opened(raw, objects)
            if isinstance(picture, Rejected):
                found.append(picture)
                continue
            changed = await asyncio.to_thread(
                apply,
                picture,
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
                found.append(Picture(raw.name, path, width, height, prepared.original_size, prepared.crop, raw.text))
        return found

    return _with_store(change)


class EncoderActor:
    """The frozen parts of the model, in a process that ends when they have done their part."""

    def __init__(self, spec: TrainingSpec) -> None:
        self._spec = spec
        self._loaded: Encoders | None = None

    def prompts(self, chunk: int, prompts: Sequence[tuple[int, str]]) -> None:
        """Encode captions, given with their number, into one file of the cache."""
        from compute.training.memory import reporting_out_of_memory
        from compute.training.preprocessing.encode import encode_prompts

        with tempfile.TemporaryDirectory() as folder:
            with reporting_out_of_memory(self._spec):
                file = encode_prompts(self._encoders(), prompts, Path(folder), chunk)
            self._store(file)

    def pictures(self, chunk: int, pictures: Sequence[tuple[int, Picture]]) -> None:
        """Encode pictures, given with their number, into one file of the cache."""
        from compute.training.memory import reporting_out_of_memory
        from compute.training.preprocessing.encode import encode_pictures

        async def load(objects: ObjectStore, _client: GuardedClient) -> list[bytes]:
            return [await objects.get(picture.path) for _, picture in pictures]

        opened = [Image.open(io.BytesIO(data)) for data in _with_store(load)]
        entries = [
            (number, image, ImageFacts(original_size=picture.original_size, crop_top_left=picture.crop))
            for (number, picture), image in zip(pictures, opened, strict=True)
        ]
        with tempfile.TemporaryDirectory() as folder:
            with reporting_out_of_memory(self._spec):
                file = encode_pictures(self._encoders(), entries, Path(folder), chunk)
            self._store(file)

    def manifest(self, manifest: Manifest) -> None:
        """The cache is complete."""
        with tempfile.TemporaryDirectory() as folder:
            self._store(write_manifest(Path(folder), manifest))

    def _encoders(self) -> Encoders:
        """Loaded at the first use, whose errors reach the caller as they are."""
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
) -> Raw | Rejected:
    if not _is_address(source):
        return Raw(number, PurePosixPath(source).name, source)
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
            return Raw(number, name, path)
    return Rejected(source[:500], reason)


async def _stored_archive(path: str, archive: Path, objects: ObjectStore) -> None:
    try:
        await objects.download(path, archive)
    except NotFound as error:
        raise InvalidInput(f"There is no stored archive {path}.", field="dataset_url") from error


async def _opened(raw: Raw, objects: ObjectStore) -> Image.Image | Rejected:
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
    """As `with_store`, with a guarded client beside it."""
    settings = get_settings()

    async def opened(objects: ObjectStore) -> T:
        async with GuardedClient(settings.media_allowed_hosts, settings.media_timeout_seconds) as client:
            return await work(objects, client)

    return with_store(opened)
