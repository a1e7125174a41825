"""Aspect-ratio buckets: a few sizes of about the same area, so that images of any shape fill batches with little
cropping.

The method is NovelAI's (2022) and common among trainers of diffusion models: a batch has images of one size, all sizes
cost about the same memory, and no image is cropped to a square. Here the short side goes in steps from half the
resolution to the whole of it, which gives aspect ratios from 1:4 to 4:1, and the long side is as long as the area
allows.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from compute.errors import InvalidInput

__all__ = ["Bucket", "bucket_of", "buckets"]

_STEPS = 16
"""Steps of the short side in a whole resolution: 64 pixels at a resolution of 1024, as is common. A coarser grid of the
model takes precedence."""


class Bucket(NamedTuple):
    """A training size in pixels."""

    width: int
    height: int


@lru_cache(maxsize=64)
def buckets(resolution: int, multiple: int) -> tuple[Bucket, ...]:
    """Return all sizes for a resolution, from the tallest to the widest.

    Sides are multiples of `multiple`; none has more than `resolution` squared pixels, and each is as large as that
    and the grid allow.

    Raises:
        InvalidInput: the resolution is below the model's grid.

    Example:
        buckets(512, 16)  # 256 x 1024, …, 512 x 512, …, 1024 x 256
    """
    if resolution < multiple:
        raise InvalidInput(
            f"the resolution {resolution} is too small: this model's images are multiples of {multiple} pixels",
            field="preprocessing_transforms",
        )
    area = resolution * resolution
    step = max(multiple, resolution // _STEPS // multiple * multiple)
    square = resolution // multiple * multiple
    shortest = max(multiple, -(-resolution // (2 * multiple)) * multiple)
    # Down from the square, so that it is always included; the outermost size always is, too.
    shorts = {*range(square, shortest - 1, -step), shortest}
    tall = [Bucket(short, area // short // multiple * multiple) for short in shorts]
    wide = [Bucket(bucket.height, bucket.width) for bucket in tall]
    return tuple(sorted({*tall, *wide}, key=lambda bucket: bucket.width / bucket.height))


def bucket_of(width: int, height: int, resolution: int, multiple: int) -> Bucket:
    """Return the bucket whose aspect ratio is nearest to that of an image of `width` x `height` pixels.

    Beyond 1:4 and 4:1 it is the outermost one, and the image is cropped. Raises the same errors as `buckets`.
    """
    wanted = math.log(width / height)
    return min(buckets(resolution, multiple), key=lambda bucket: abs(math.log(bucket.width / bucket.height) - wanted))
