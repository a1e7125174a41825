"""Native sizes, at which a model generates well: stated by the settings, its folder, or else its family."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from compute.pipelines.config import ModelConfig
    from compute.worker.protocol import Role

__all__ = ["NATIVE_FILE", "HasNativeSizes", "NativeSize", "OwnSizes", "own_sizes", "state_native_size"]

Size = tuple[int, int]

NATIVE_FILE = "native_size.json"
"""In a model's folder: an object with the keys of `NativeSize`."""
_LONGEST = 16_384
_AREA_COUNTS = 0.25
"""A shape that deviates by 1 % is as bad as a size that lacks 4 % of the pixels."""
_LEAST_AREA = 0.5
"""The least share of the reachable pixels that a size must keep; below it a more exact shape does not count."""


class NativeSize(BaseModel):
    """The range of sizes, in pixels, that a model was trained for. An unknown key is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    most_pixels: int = Field(
        ge=256, le=_LONGEST**2, description="Width x height of the largest image that it generates well."
    )
    least_pixels: int = Field(
        default=0, ge=0, le=_LONGEST**2, description="The same of the smallest; 0: it generates every smaller size."
    )
    longest_side: int = Field(default=_LONGEST, ge=16, le=_LONGEST, description="Neither width nor height is larger.")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.least_pixels > self.most_pixels:
            raise ValueError(f"least_pixels must not exceed most_pixels: {self.least_pixels} > {self.most_pixels}")
        return self


@dataclass(frozen=True, slots=True)
class OwnSizes:
    """The sizes (width, height) that a model generates: those in its range, with sides that are multiples of `grid`.

    Raises:
        ValueError: there are none.
    """

    native: NativeSize
    grid: int

    def __post_init__(self) -> None:
        if next(self._in_range((1, 1)), None) is None:
            raise ValueError(
                f"native_size has no image whose sides are multiples of {self.grid}: of most_pixels="
                f"{self.native.most_pixels}, least_pixels={self.native.least_pixels}, longest_side="
                f"{self.native.longest_side} at least one must change"
            )

    def nearest(self, size: Size) -> Size:
        """The size at which an image of `size` is generated: the next one on the grid if that is in the range, or else
        one of about the same shape that is. It maps its own results to themselves.

        A shape that is not on the grid is approximated as closely as the number of pixels allows.
        """
        on_grid = self._up(size[0]), self._up(size[1])
        if self._holds(on_grid):
            return on_grid
        wanted = self._scaled(size)
        found = list(self._in_range(wanted))
        large = [one for one in found if one[0] * one[1] >= _LEAST_AREA * wanted[0] * wanted[1]]
        return min(large or found, key=lambda one: _cost(one, wanted))

    def _holds(self, size: Size) -> bool:
        native = self.native
        return native.least_pixels <= size[0] * size[1] <= native.most_pixels and max(size) <= native.longest_side

    def _scaled(self, size: Size) -> tuple[float, float]:
        """The same shape, as close to the requested size as the range allows, off the grid."""
        native, area = self.native, size[0] * size[1]
        larger = max(1.0, math.sqrt(native.least_pixels / area))
        scale = min(larger, math.sqrt(native.most_pixels / area), native.longest_side / max(size))
        return size[0] * scale, size[1] * scale

    def _in_range(self, shape: tuple[float, float]) -> Iterator[Size]:
        """For every width on the grid, the heights in the range that are nearest to this shape."""
        native = self.native
        for width in range(self.grid, native.longest_side + 1, self.grid):
            lowest = self._up(native.least_pixels / width)
            highest = self._down(min(native.most_pixels / width, native.longest_side))
            if lowest <= highest:
                exact = width * shape[1] / shape[0]
                nearest = (min(max(side, lowest), highest) for side in (self._down(exact), self._up(exact)))
                yield from ((width, height) for height in dict.fromkeys(nearest))

    def _up(self, side: float) -> int:
        return max(self.grid, math.ceil(side / self.grid - 1e-9) * self.grid)

    def _down(self, side: float) -> int:
        return math.floor(side / self.grid + 1e-9) * self.grid


class HasNativeSizes:
    """Implements `ChoosesSize` for a single model."""

    def __init__(self, sizes: OwnSizes) -> None:
        self._sizes = sizes

    def own_size(self, role: "Role", size: Size) -> Size:
        return self._sizes.nearest(size)


def own_sizes(config: "ModelConfig", folder: Path | None) -> OwnSizes:
    """The native sizes of this model: from the settings, or else its folder, or else its family.

    Raises:
        ValueError: the file in the folder is invalid, or no size is in the range.
    """
    from compute.pipelines.families import get_family

    family = get_family(config.family)
    native = config.native_size or (_stated(folder / NATIVE_FILE) if folder else None) or family.native_size
    return OwnSizes(native, family.grid)


def state_native_size(folder: Path, native: NativeSize) -> None:
    """Write a model's native sizes into its folder."""
    (folder / NATIVE_FILE).write_text(native.model_dump_json(exclude_defaults=True))


def _stated(file: Path) -> NativeSize | None:
    if not file.is_file():
        return None
    try:
        return NativeSize.model_validate(json.loads(file.read_text()))
    except ValidationError as error:
        faults = [": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors()]
        raise ValueError(f"{file} says no sizes: {'; '.join(faults)}") from error
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error


def _cost(size: Size, exact: tuple[float, float]) -> float:
    """The cost of a size relative to the exact one: the error of its shape, and the pixels that it lacks or adds."""
    shape = abs(math.log(size[0] / size[1]) - math.log(exact[0] / exact[1]))
    return shape + _AREA_COUNTS * abs(1 - size[0] * size[1] / (exact[0] * exact[1]))
