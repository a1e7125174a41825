"""How many parts an image file may have: chunks, segments, blocks, pages.

A part of a few bytes takes far more time and memory than a few bytes of pixels, so a file is bounded in parts besides
bytes. Files in use have some thousands.
"""

from collections.abc import Iterator

__all__ = ["MOST_EXIF", "MOST_PARTS", "TooManyParts", "parts"]

MOST_PARTS = 100_000
MOST_EXIF = 2**20
"""Bytes, about all of which Python makes an object each; cameras write up to 64 KiB."""


class TooManyParts(ValueError):
    """The file has more than `MOST_PARTS` of whatever its format is made of."""


def parts() -> Iterator[int]:
    """Count to `MOST_PARTS`, one for each part that is read.

    Raises:
        TooManyParts: the file goes on.
    """
    yield from range(MOST_PARTS)
    raise TooManyParts
