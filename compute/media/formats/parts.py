"""A bound on the parts of an image file: chunks, segments, blocks, pages.

A part of a few bytes takes far more time and memory than a few bytes of pixels, so the number of parts is bounded in
addition to the bytes. Real files have some thousands.
"""

from collections.abc import Iterator

__all__ = ["MOST_EXIF", "MOST_PARTS", "TooManyParts", "parts"]

MOST_PARTS = 100_000
MOST_EXIF = 2**20
"""Bytes of which Python creates about one object each; cameras write up to 64 KiB."""


class TooManyParts(ValueError):
    """The file has more than `MOST_PARTS` parts of its format."""


def parts() -> Iterator[int]:
    """Count to `MOST_PARTS`, one for each part that is read.

    Raises:
        TooManyParts: there are more.
    """
    yield from range(MOST_PARTS)
    raise TooManyParts
