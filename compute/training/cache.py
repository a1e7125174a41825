"""Encoded pictures and captions, kept between preprocessing and training.

    cache/manifest.json                 what there is, in order
    cache/images-<chunk>.safetensors    <picture>.<tensor>: mean, std and what else the family stores
    cache/prompts-<chunk>.safetensors   <caption>.<tensor>

Chunks are written one by one, by as many tasks as there are; only the manifest ties them together.
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

__all__ = ["Bucket", "CachedPicture", "LatentCache", "Manifest", "write_chunk", "write_manifest"]

MANIFEST = "manifest.json"
_RESIDENT_BYTES = 2**31
_RESIDENT_SHARE = 1 / 8
"""Pictures that take less than this share of a device's free memory are kept there."""


@dataclass(frozen=True, slots=True)
class CachedPicture:
    """A picture of the data set: its size in pixels, and its caption by number."""

    name: str
    width: int
    height: int
    caption: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """`captions` holds what pictures say first, then the prompts of samples; the last one is the empty prompt."""

    pictures: tuple[CachedPicture, ...]
    captions: tuple[str, ...]

    @property
    def empty(self) -> int:
        return len(self.captions) - 1


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pictures of one size: their tensors stacked, and their captions by number."""

    tensors: Tensors
    captions: torch.Tensor

    def to(self, device: torch.device) -> "Bucket":
        """The same with the tensors on a device."""
        return Bucket({name: value.to(device) for name, value in self.tensors.items()}, self.captions)


def write_chunk(folder: Path, kind: str, chunk: int, entries: Mapping[int, Tensors]) -> Path:
    """Write encoded pictures (`images`) or captions (`prompts`), by number."""
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
        return Manifest(tuple(CachedPicture(**picture) for picture in raw["pictures"]), tuple(raw["captions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(errno.EIO, f"{path.name} is damaged ({error})") from error


class LatentCache:
    """The cache as the training reads it."""

    def __init__(self, folder: Path, device: torch.device, *, resident_bytes: int = _RESIDENT_BYTES) -> None:
        """Prompts that take at most `resident_bytes` together are kept on the device; more are read as needed.

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

    def pictures(
        self, bucket: int, indices: Sequence[int], *, dropped: torch.Tensor | None = None
    ) -> tuple[Tensors, Tensors]:
        """Pictures of a bucket on the device, and their captions; where `dropped` is true, the empty one."""
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
        """A prompt that was encoded with the pictures', without a batch dimension.

        Raises:
            ValueError: it was not.
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
    """Tensors by number and name over several files, mapped, not loaded."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._places: dict[int, dict[str, Any]] = defaultdict(dict)
        self.bytes = 0
        for file in sorted(files):
            opened = _opened(file)
            self.bytes += file.stat().st_size
            for key in opened.keys():  # noqa: SIM118 - no mapping
                number, _, name = key.partition(".")
                self._places[int(number)][name] = opened

    def read(self, number: int) -> Tensors:
        if number not in self._places:
            raise FileNotFoundError(errno.ENOENT, f"nothing with number {number} is in the cache")
        return {name: opened.get_tensor(f"{number}.{name}") for name, opened in self._places[number].items()}


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise OSError(errno.EIO, f"{file.name} is damaged ({error})") from error


def _buckets(pictures: Sequence[CachedPicture], chunks: _Chunks) -> list[Bucket]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, picture in enumerate(pictures):
        groups[picture.width, picture.height].append(number)
    found = []
    for _, numbers in sorted(groups.items()):
        rows = [chunks.read(number) for number in numbers]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        found.append(Bucket(stacked, torch.tensor([pictures[number].caption for number in numbers])))
    return found
