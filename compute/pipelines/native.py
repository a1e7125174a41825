"""The sizes at which a model draws well: what its folder or the settings say, or else its family."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from compute.pipelines.config import ModelConfig

__all__ = ["NATIVE_FILE", "NativeSize", "OwnSizes", "own_sizes"]

Size = tuple[int, int]

NATIVE_FILE = "native_size.json"
"""In a model's folder: an object with the keys of `NativeSize`."""
_AREA_COUNTS = 0.25
"""A shape that is wrong by 1 % is as bad as a size that lacks 4 % of the pixels."""
_LEAST_AREA = 0.5
"""Of the pixels that a model can draw, a shape costs at most so many."""


class NativeSize(BaseModel):
    """The range of sizes, in pixels, that a model was made for. An unknown key is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    most_pixels: int = Field(ge=256, description="Width x height of the largest picture that it draws well.")
    least_pixels: int = Field(default=0, ge=0, description="The same of the smallest; 0: it draws every smaller size.")
    longest_side: int = Field(default=16_384, ge=16, description="Neither width nor height is larger.")


@dataclass(frozen=True, slots=True)
class OwnSizes:
    """The sizes (width, height) that a model draws: those in its range, with sides that are multiples of `grid`."""

    native: NativeSize
    grid: int

    def nearest(self, size: Size) -> Size:
        """The size at which a picture of `size` is drawn: `size` itself if it is in the range, or else one of about
        the same shape that is.

        A shape that the grid does not have is met as nearly as the number of pixels allows.
        """
        if self._holds(size):
            return size
        area, native = size[0] * size[1], self.native
        if area < native.least_pixels:
            # Larger than asked for, and no larger than it must be.
            scale = math.sqrt(native.least_pixels / area)
            return self._up(size[0] * scale), self._up(size[1] * scale)
        scale = min(math.sqrt(native.most_pixels / area), native.longest_side / max(size))
        width, height = size[0] * scale, size[1] * scale
        fitting = [one for one in self._about(width, height) if self._holds(one)]
        return min(fitting, key=lambda one: _cost(one, (width, height)), default=self._smallest(width, height))

    def _holds(self, size: Size) -> bool:
        native = self.native
        return native.least_pixels <= size[0] * size[1] <= native.most_pixels and max(size) <= native.longest_side

    def _about(self, width: float, height: float) -> Iterator[Size]:
        """The sizes on the grid whose shape is next to this one, from small to large."""
        for wide in range(self.grid, self._up(width) + 1, self.grid):
            exact = wide * height / width
            for high in dict.fromkeys((self._down(exact), self._up(exact))):
                if wide * high >= _LEAST_AREA * width * height:
                    yield wide, high

    def _smallest(self, width: float, height: float) -> Size:
        """For shapes so long and thin that nothing on the grid is in the range."""
        return self._down(width), self._down(height)

    def _up(self, side: float) -> int:
        return max(self.grid, math.ceil(side / self.grid - 1e-9) * self.grid)

    def _down(self, side: float) -> int:
        return max(self.grid, math.floor(side / self.grid + 1e-9) * self.grid)


def own_sizes(config: "ModelConfig", folder: Path | None) -> OwnSizes:
    """What the settings say of this model's sizes, or else its folder, or else its family.

    Raises:
        ValueError: the file in the folder is no such statement.
    """
    from compute.pipelines.families import get_family

    family = get_family(config.family)
    native = config.native_size or (_stated(folder / NATIVE_FILE) if folder else None) or family.native_size
    return OwnSizes(native, family.size_multiple)


def _stated(file: Path) -> NativeSize | None:
    if not file.is_file():
        return None
    try:
        return NativeSize.model_validate(json.loads(file.read_text()))
    except (ValidationError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def _cost(size: Size, exact: tuple[float, float]) -> float:
    """How much worse a size is than the exact one: the error of its shape, and the pixels that it lacks."""
    shape = abs(math.log(size[0] / size[1]) - math.log(exact[0] / exact[1]))
    return shape + _AREA_COUNTS * max(0.0, 1 - size[0] * size[1] / (exact[0] * exact[1]))
