"""Reads the tag directories of a TIFF, and bounds the effort of decoding them."""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

from compute.media.formats.parts import MOST_PARTS, TooManyParts

__all__ = ["Directory", "Tags"]

# The two marks in the middle are wrong, but read by all decoders.
_MARKS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II\0*": ("<", False),
    b"MM*\0": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
_MOST_TAGS = 4096
# A table of colours or of a transfer function for sixteen bits has 384 KiB.
_MOST_NUMBERS = 2**20
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TEXTS = frozenset({1, 2, 7})
"""Types that a decoder keeps as bytes; for the others it creates an object per value."""
_STRIPS = frozenset({273, 324})
_BESIDE = frozenset({34665, 34853, 40965})
"""Directories of EXIF, GPS and interoperability data, which decoders read with the image."""
_NOBODYS_TAG = 0xFFFF


class _Entry(NamedTuple):
    offset: int
    tag: int
    kind: int
    length: int


class Tags:
    """The parameters that all directories of one file share. Values outside of the file read as 0."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order, self.big = _MARKS[data[:4]]
        self.word = "Q" if self.big else "I"
        self._pointer = 8 if self.big else 4

    @staticmethod
    def are_in(data: bytes) -> bool:
        return data[:4] in _MARKS

    @property
    def first(self) -> int:
        """The offset of the first directory."""
        return self.number(self.word, self._pointer)

    def following(self, offset: int) -> int:
        """The offset of the directory after this one; 0 after the last."""
        return self.number(self.word, Directory(self, offset).end)

    def start_at(self, offset: int, file: io.BytesIO) -> None:
        """Make this directory the first in a copy of the file."""
        file.seek(self._pointer)
        file.write(struct.pack(f"{self.order}{self.word}", offset))

    def tame(self, offset: int, file: io.BytesIO) -> None:
        """Hide metadata directories that would take long to read, in a copy of the file.

        Raises:
            TooManyParts: the image's own directory would take long to read.
        """
        directory = Directory(self, offset)
        if directory.is_endless():
            raise TooManyParts
        for entry in directory.entries():
            if entry.tag in _BESIDE and self._is_endless(directory.integers(entry, most=1)):
                file.seek(entry.offset)
                file.write(struct.pack(f"{self.order}H", _NOBODYS_TAG))

    def _is_endless(self, offset: tuple[int, ...]) -> bool:
        return not offset or Directory(self, offset[0]).is_endless()

    def number(self, letter: str, offset: int) -> int:
        if offset >= len(self.data):
            return 0
        try:
            value: int = struct.unpack_from(f"{self.order}{letter}", self.data, offset)[0]
        except struct.error:
            return 0
        return value


class Directory:
    """The tags of one page, or of one of its metadata directories."""

    def __init__(self, tags: Tags, offset: int) -> None:
        self._tags = tags
        self._count = tags.number("Q" if tags.big else "H", offset)
        self._size = 20 if tags.big else 12
        self._start = offset + (8 if tags.big else 2)
        self.end = self._start + self._size * self._count

    def values(self, wanted: frozenset[int], *, most: int) -> dict[int, tuple[int, ...]]:
        """The integers, up to `most` of each, of those wanted tags that have some."""
        found = {entry.tag: self.integers(entry, most=most) for entry in self.entries() if entry.tag in wanted}
        return {tag: values for tag, values in found.items() if values}

    def integers(self, entry: _Entry, *, most: int) -> tuple[int, ...]:
        letter = _INTEGERS.get(entry.kind)
        if letter is None:
            return ()
        size, behind = struct.calcsize(f"={letter}"), entry.offset + (12 if self._tags.big else 8)
        outside = entry.length * size > (8 if self._tags.big else 4)
        where = self._tags.number(self._tags.word, behind) if outside else behind
        return tuple(self._tags.number(letter, where + index * size) for index in range(min(entry.length, most)))

    def is_endless(self) -> bool:
        """Whether a decoder would spend more on it than on any directory that programs write."""
        if self._count > _MOST_TAGS:
            return True
        numbers = 0
        for entry in self.entries():
            size = _SIZES.get(entry.kind, 0) * entry.length
            # A value larger than the file is invalid, and skipped.
            if entry.kind in _TEXTS or size > len(self._tags.data):
                continue
            if entry.tag in _STRIPS and entry.length > MOST_PARTS:
                return True
            numbers += size
        return numbers > _MOST_NUMBERS

    def entries(self) -> Iterator[_Entry]:
        """Yield up to `_MOST_TAGS` entries, as far as the file goes."""
        shape = struct.Struct(f"{self._tags.order}HH{self._tags.word}{8 if self._tags.big else 4}x")
        end = min(self._start + self._size * min(self._count, _MOST_TAGS), len(self._tags.data))
        whole = max(end - self._start, 0) // self._size * self._size
        directory = memoryview(self._tags.data)[self._start : self._start + whole]
        for index, (tag, kind, count) in enumerate(shape.iter_unpack(directory)):
            yield _Entry(self._start + index * self._size, tag, kind, count)
