"""The cache of encoded images and captions, written by preprocessing and read by training.

    cache/manifest.json                 the images and captions, in order
    cache/images-<chunk>.safetensors    <image>.<tensor>: mean, std and further tensors of the family
    cache/prompts-<chunk>.safetensors   <caption>.<tensor>

Chunks are written one by one, by any number of tasks; only the manifest ties them together.
"""

import errno
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from compute.training.models.base import Tensors

__all__ = ["CachedBucket", "CachedImage", "LatentCache", "Manifest", "write_chunk", "write_manifest"]

MANIFEST = "manifest.json"
_RESIDENT_BYTES = 2**31
_RESIDENT_SHARE = 1 / 8
"""Images are kept on the device if they take less than this share of its free memory."""


@dataclass(frozen=True, slots=True)
class CachedImage:
    """An image of the data set: its size in pixels, and the number of its caption."""

    name: str
    width: int
    height: int
    caption: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of the cache; the fields are the keys of manifest.json.

    `captions` has the images' captions first, then the prompts of samples; the last one is the empty prompt.
    """

    pictures: tuple[CachedImage, ...]
    captions: tuple[str, ...]

    @property
    def empty(self) -> int:
        return len(self.captions) - 1


@dataclass(frozen=True, slots=True)
class CachedBucket:
    """Images of one size: their stacked tensors, and the numbers of their captions."""

    tensors: Tensors
    captions: torch.Tensor

    def to(self, device: torch.device) -> "CachedBucket":
        """Return the bucket with the tensors on a device."""
        return CachedBucket({name: value.to(device) for name, value in self.tensors.items()}, self.captions)


def write_chunk(folder: Path, kind: str, chunk: int, entries: Mapping[int, Tensors]) -> Path:
    """Write encoded images (`images`) or captions (`prompts`), by number."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{number}.{name}": tensor.contiguous() for number, found in entries.items() for name, tensor in found.items()
    }
    path = folder / f"{kind}-{chunk:05d}.safetensors"
    save_file(flat, path)
    return path


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    path = folder / MANIFEST
    path.write_text(json.dumps(asdict(manifest)))
    return path


def _read_manifest(path: Path) -> Manifest:
    try:
        raw = json.loads(path.read_bytes())
        return Manifest(tuple(CachedImage(**image) for image in raw["pictures"]), tuple(raw["captions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(errno.EIO, f"{path.name} is damaged ({error})") from error


class LatentCache:
    """Reads the cache for the training."""

    def __init__(self, folder: Path, device: torch.device, *, resident_bytes: int = _RESIDENT_BYTES) -> None:
        """Prompts are kept on the device if they take at most `resident_bytes` together; otherwise they are read as
        needed.

        Raises:
            OSError: a file is missing or damaged.
        """
        self.manifest = _read_manifest(folder / MANIFEST)
        self._device = device
        images = _Chunks(folder.glob("images-*.safetensors"))
        self.buckets = _buckets(self.manifest.pictures, images)
        if device.type == "cuda" and images.bytes < torch.cuda.mem_get_info(device)[0] * _RESIDENT_SHARE:
            self.buckets = [bucket.to(device) for bucket in self.buckets]
        self._prompts = _Chunks(folder.glob("prompts-*.safetensors"))
        self._resident = self._stacked() if self._prompts.bytes <= resident_bytes else None

    def images(
        self, bucket: int, indices: Sequence[int], *, dropped: torch.Tensor | None = None
    ) -> tuple[Tensors, Tensors]:
        """Return images of a bucket on the device, and their captions; the empty caption where `dropped` is true."""
        held = self.buckets[bucket]
        chosen = torch.as_tensor(indices)
        tensors = {
            name: value[chosen.to(value.device)].to(self._device, non_blocking=True)
            for name, value in held.tensors.items()
        }
        captions = held.captions[chosen]
        if dropped is not None:
            captions = torch.where(dropped, torch.full_like(captions, self.manifest.empty), captions)
        return tensors, self._captions(captions)

    def prompt(self, text: str) -> Tensors:
        """Return a prompt that was encoded with the images, without a batch dimension.

        Raises:
            ValueError: it was not encoded.
        """
        if text not in self.manifest.captions:
            raise ValueError(f"the prompt {text!r} was not encoded")
        number = self.manifest.captions.index(text)
        return {name: value[0] for name, value in self._captions(torch.tensor([number])).items()}

    def _captions(self, numbers: torch.Tensor) -> Tensors:
        if self._resident is not None:
            at = numbers.to(self._device)
            return {name: value[at] for name, value in self._resident.items()}
        rows = [self._prompts.read(number) for number in numbers.tolist()]
        return {name: torch.stack([row[name] for row in rows]).to(self._device) for name in rows[0]}

    def _stacked(self) -> Tensors:
        rows = [self._prompts.read(number) for number in range(len(self.manifest.captions))]
        return {name: torch.stack([row[name] for row in rows]).to(self._device) for name in rows[0]}


class _Chunks:
    """Tensors by number and name over several memory-mapped files."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files: dict[int, dict[str, Any]] = defaultdict(dict)
        self.bytes = 0
        for file in sorted(files):
            opened = _opened(file)
            self.bytes += file.stat().st_size
            for key in opened.keys():  # noqa: SIM118 - no mapping
                number, _, name = key.partition(".")
                self._files[int(number)][name] = opened

    def read(self, number: int) -> Tensors:
        if number not in self._files:
            raise FileNotFoundError(errno.ENOENT, f"the cache has no entry with number {number}")
        return {name: opened.get_tensor(f"{number}.{name}") for name, opened in self._files[number].items()}


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise OSError(errno.EIO, f"{file.name} is damaged ({error})") from error


def _buckets(images: Sequence[CachedImage], chunks: _Chunks) -> list[CachedBucket]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        groups[image.width, image.height].append(number)
    found = []
    for _, numbers in sorted(groups.items()):
        rows = [chunks.read(number) for number in numbers]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        found.append(CachedBucket(stacked, torch.tensor([images[number].caption for number in numbers])))
    return found
