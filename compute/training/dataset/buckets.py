"""Aspect-ratio buckets: a few sizes of about the same area, so that pictures of any shape fill a batch and lose little.

The idea is NovelAI's (2022), and trainers of diffusion models share it: a batch holds pictures of one size, all sizes
cost about the same memory, and no picture is cut to a square. Here the short side goes in steps from half the
resolution to the whole of it, which gives aspect ratios from 1:4 to 4:1, and the long side is as long as the area
allows.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from compute.errors import InvalidInput

__all__ = ["Bucket", "bucket_of", "buckets"]

_STEPS = 16
"""Steps of the short side in a whole resolution: at 1024 pixels it is 64, as in the field. Where the grid of the model
is coarser than that, it is the grid."""


class Bucket(NamedTuple):
    """A size in pixels that a model is trained at."""

    width: int
    height: int


@lru_cache(maxsize=64)
def buckets(resolution: int, multiple: int) -> tuple[Bucket, ...]:
    """All sizes for a resolution, from the tallest to the widest.

    Sides are multiples of `multiple`; none has more than `resolution` squared pixels, and each is as large as that
    and the grid allow.

    Raises:
        InvalidInput: the resolution is below the model's grid.
    """
    if resolution < multiple:
        raise InvalidInput(
            f"the resolution {resolution} is too small: this model's pictures are multiples of {multiple} pixels",
            field="preprocessing_transforms",
        )
    area = resolution * resolution
    step = max(multiple, resolution // _STEPS // multiple * multiple)
    square = resolution // multiple * multiple
    shortest = max(multiple, -(-resolution // (2 * multiple)) * multiple)
    # Down from the square, so that it is among them whatever the step is; the outermost one always is, too.
    shorts = {*range(square, shortest - 1, -step), shortest}
    tall = [Bucket(short, area // short // multiple * multiple) for short in shorts]
    wide = [Bucket(bucket.height, bucket.width) for bucket in tall]
    return tuple(sorted({*tall, *wide}, key=lambda bucket: bucket.width / bucket.height))


def bucket_of(width: int, height: int, resolution: int, multiple: int) -> Bucket:
    """The bucket whose aspect ratio is nearest to that of a picture of `width` x `height` pixels.

    Beyond 1:4 and 4:1 it is the outermost one, and the picture is cut. Raises what `buckets` raises.
    """
    wanted = math.log(width / height)
    return min(buckets(resolution, multiple), key=lambda bucket: abs(math.log(bucket.width / bucket.height) - wanted))
