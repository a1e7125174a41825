"""Writes that wait: one entry for each, in a queue that knows how much it holds."""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Entry", "Load", "Queue"]

W = TypeVar("W")
R = TypeVar("R")


class Load(NamedTuple):
    """How much there is of something, or may be."""

    number: float = inf
    size: float = inf


@dataclass(slots=True, eq=False)
class Entry(Generic[W, R]):
    """A write, and who waits for its answer.

    Attributes:
        key: Writes with the same one are written in their order.
        kind: What it may be locked together with.
        meanwhile: The answer if it has to wait and nobody needs to wait for it; else None.
        give_up_at: When it is given up, in the loop's time.
    """

    write: W
    load: Load
    key: Hashable
    kind: Hashable
    meanwhile: R | None
    done: asyncio.Future[R]
    give_up_at: float

    def resolve(self, answer: R) -> None:
        if not self.done.done():
            self.done.set_result(answer)

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Queue(Generic[W, R]):
    """First in, first out."""

    def __init__(self) -> None:
        self._entries: deque[Entry[W, R]] = deque()
        self._number = self._size = 0.0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[Entry[W, R]]:
        return iter(self._entries)

    def has_room(self, load: Load, most: Load) -> bool:
        """Whether so much more is not too much; when it is empty, it has room for anything."""
        enough = self._number + load.number <= most.number and self._size + load.size <= most.size
        return enough or not self._entries

    def first(self) -> Entry[W, R]:
        return self._entries[0]

    def append(self, entry: Entry[W, R]) -> None:
        self._entries.append(entry)
        self._number += entry.load.number
        self._size += entry.load.size

    def pop(self) -> Entry[W, R]:
        entry = self._entries.popleft()
        self._number -= entry.load.number
        self._size -= entry.load.size
        return entry

    def put_back(self, entries: Iterable[Entry[W, R]]) -> None:
        """In front of what is there, in their order."""
        back = list(entries)
        self._entries.extendleft(reversed(back))
        self._number += sum(entry.load.number for entry in back)
        self._size += sum(entry.load.size for entry in back)
