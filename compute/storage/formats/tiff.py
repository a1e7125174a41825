"""TIFF: which of its pages is the picture.

Cameras, scanners and editors put a thumbnail, a mask or a smaller copy beside the picture, sometimes before it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from compute.errors import InvalidInput

__all__ = ["bare", "is_tiff"]

# The two marks in the middle are wrong, and read by everybody.
_MARKS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II\0*": ("<", False),
    b"MM*\0": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
_MOST_PAGES = 100
_MOST_TAGS = 4096
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _SUB_PAGES = 254, 255, 256, 257, 330
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SAME_SHAPE = 0.1


@dataclass(frozen=True, slots=True)
class _Page:
    """Where its tags lie, and what they say. Sizes are in pixels."""

    offset: int
    width: int
    height: int
    reduced: bool
    mask: bool
    below: tuple[int, ...]

    @property
    def area(self) -> int:
        return self.width * self.height


def is_tiff(data: bytes) -> bool:
    return data[:4] in _MARKS


def bare(data: bytes, field: str) -> bytes:
    """The file with the page first that is the picture; the file itself if it is.

    That is the first page, unless it says that it is a smaller copy or a mask, or is a small copy of a later one
    without saying so: then it is the largest of the others, those that hang below a page among them. Where all say that
    they are smaller copies, it is the largest.

    Raises:
        InvalidInput: every page says that it is a mask.
    """
    reader = _Reader(data)
    pages = list(reader.pages())
    if not pages:
        return data
    chosen = _chosen(pages, reader)
    if chosen is None:
        raise InvalidInput("the TIFF holds only masks, no picture", field=field)
    return data if chosen.offset == pages[0].offset else reader.starting_at(chosen.offset)


def _chosen(pages: list[_Page], reader: "_Reader") -> _Page | None:
    first, *later = pages
    if not (first.reduced or first.mask):
        larger = [page for page in later if not (page.reduced or page.mask) and _is_small_copy(first, page)]
        return max(larger, key=lambda page: page.area, default=first)
    below = [page for parent in pages for offset in parent.below if (page := reader.page(offset))]
    pictures = [page for page in [*pages, *below] if not page.mask]
    whole = [page for page in pictures if not page.reduced]
    return max(whole or pictures, key=lambda page: page.area, default=None)


def _is_small_copy(small: _Page, page: _Page) -> bool:
    """At most half as wide and high, and of the same shape, give or take the rounding of a thumbnail's sides."""
    if 0 in (small.width, small.height, page.width, page.height):
        return False
    across, down = page.width / small.width, page.height / small.height
    return min(across, down) >= 2 and abs(across / down - 1) < _SAME_SHAPE


class _Reader:
    """Reads the few tags that tell pages apart; what lies outside of the file is not there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order, self._big = _MARKS[data[:4]]
        self._first = 8 if self._big else 4

    def pages(self) -> Iterator[_Page]:
        """The chain of pages, which may be broken or lead back to where it was."""
        seen: set[int] = set()
        offset = self._number("Q" if self._big else "I", self._first)
        while offset and offset not in seen and len(seen) < _MOST_PAGES:
            seen.add(offset)
            page = self.page(offset)
            if page is None:
                return
            yield page
            offset = self._number("Q" if self._big else "I", self._end(offset))

    def page(self, offset: int) -> _Page | None:
        tags = {tag: values for tag, values in self._tags(offset) if values}
        if _WIDTH not in tags or _HEIGHT not in tags:
            return None
        kind = tags.get(_NEW_SUBFILE_TYPE, (0,))[0]
        reduced = bool(kind & _REDUCED) or tags.get(_SUBFILE_TYPE, (0,))[0] == _OLD_REDUCED
        return _Page(offset, tags[_WIDTH][0], tags[_HEIGHT][0], reduced, bool(kind & _MASK), tags.get(_SUB_PAGES, ()))

    def starting_at(self, offset: int) -> bytes:
        pointer = struct.pack(f"{self._order}{'Q' if self._big else 'I'}", offset)
        return self._data[: self._first] + pointer + self._data[self._first + len(pointer) :]

    def _count(self, offset: int) -> int:
        return self._number("Q" if self._big else "H", offset)

    def _end(self, offset: int) -> int:
        return offset + (8 + 20 * self._count(offset) if self._big else 2 + 12 * self._count(offset))

    def _tags(self, offset: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        size, start = (20, offset + 8) if self._big else (12, offset + 2)
        for place in range(start, start + size * min(self._count(offset), _MOST_TAGS), size):
            tag = self._number("H", place)
            if tag in {_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _SUB_PAGES}:
                yield tag, self._values(place)

    def _values(self, place: int) -> tuple[int, ...]:
        letter = _FORMATS.get(self._number("H", place + 2))
        count = min(self._number("Q" if self._big else "I", place + 4), _MOST_PAGES)
        if letter is None:
            return ()
        where = place + (12 if self._big else 8)
        if count * struct.calcsize(f"={letter}") > (8 if self._big else 4):
            where = self._number("Q" if self._big else "I", where)
        return tuple(self._number(letter, where + index * struct.calcsize(f"={letter}")) for index in range(count))

    def _number(self, letter: str, place: int) -> int:
        """0 where the file has no such bytes."""
        try:
            value: int = struct.unpack_from(f"{self._order}{letter}", self._data, place)[0]
        except struct.error:
            return 0
        return value
