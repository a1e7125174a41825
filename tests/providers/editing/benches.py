"""A bench without a worker, and editors whose edits are known: for tests of what refiners do with edits."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFilter

from compute.providers.editing.editor import EditRequest

__all__ = ["MemoryBench", "ScriptedEditor", "garbage", "photo", "sharper", "tinted"]

T = TypeVar("T")
Edit = Callable[[Image.Image], Image.Image]


class MemoryBench:
    """Implements `Bench` in memory; `kept` are the images to look at."""

    def __init__(self, models_root: Path) -> None:
        self.models_root = models_root
        self.fractions: list[float] = []
        self.kept: dict[str, Image.Image] = {}

    async def compute(self, call: Callable[[], T]) -> T:
        return await asyncio.to_thread(call)

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    async def keep(self, name: str, image: Image.Image) -> str:
        self.kept[name] = image.copy()
        return f"kept/{name}.png"


class ScriptedEditor:
    """Implements `ImageEditor`: edits by `usual`, or by what `parts` has for a part or the begin of its name; an error
    there is raised. `most` is the most edits that were under way at a time; none ends before there were `together`."""

    model = "scripted"

    def __init__(
        self, usual: Edit | None = None, parts: Mapping[str, Edit | Exception] | None = None, *, together: int = 1
    ) -> None:
        self.usual = usual or sharper
        self.parts = parts or {}
        self.requests: list[EditRequest] = []
        self.most = 0
        self._now = 0
        self._together = together
        self._met = asyncio.Event()

    async def edit(self, request: EditRequest) -> Image.Image:
        self.requests.append(request)
        self._now += 1
        self.most = max(self.most, self._now)
        if self.most >= self._together:
            self._met.set()
        try:
            await self._met.wait()
            await asyncio.sleep(0.01)
            chosen = next((edit for name, edit in self.parts.items() if request.part.startswith(name)), self.usual)
            if isinstance(chosen, Exception):
                raise chosen
            return chosen(request.image)
        finally:
            self._now -= 1

    @property
    def asked(self) -> list[str]:
        """The names of the parts, sorted."""
        return sorted(one.part for one in self.requests)


def sharper(image: Image.Image) -> Image.Image:
    """The same thing twice as large, with more detail."""
    return image.resize((image.width * 2, image.height * 2)).filter(ImageFilter.UnsharpMask(2, 60))


def tinted(image: Image.Image) -> Image.Image:
    """The same thing, much too red."""
    pixels = np.asarray(image).astype(np.int16) + np.array([60, -20, -20])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def garbage(image: Image.Image) -> Image.Image:
    """Something else."""
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (image.height, image.width, 3), np.uint8))


def photo(width: int = 384, height: int = 256) -> Image.Image:
    """A smooth picture with shapes that differ everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 90 * np.sin(x / 19 + phase) * np.cos(y / 23 - phase) for phase in (0.0, 1.0, 2.0)]
    return Image.fromarray(np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8))
