"""A group commit: what many put is written together, in order where order counts.

A write goes out at once when nothing is being written; what arrives meanwhile goes out together next. Writes with the
same key are written in the order in which they were put, whatever happens: while one of them waits, because its row is
locked or the database is away, the later ones of its key wait behind it, and nobody else's do. A write that the
database refuses is found by halving its batch, which keeps that order, too.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from compute.db.away import DatabaseAway, RowLocked, StatementTooSlow

__all__ = ["GroupCommit"]

W = TypeVar("W")
R = TypeVar("R")

_log = logging.getLogger(__name__)
_LOCKED_SECONDS = 0.1
_AWAY_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class _Entry(Generic[W, R]):
    write: W
    key: Hashable
    done: asyncio.Future[R]
    give_up_at: float

    def resolve(self, answer: R) -> None:
        if not self.done.done():
            self.done.set_result(answer)

    def refuse(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class GroupCommit(Generic[W, R]):
    """`run` must be running. Nothing is answered before it is committed."""

    def __init__(
        self,
        write: Callable[[Sequence[W]], Awaitable[Sequence[R | None]]],
        key: Callable[[W], Hashable],
        *,
        given_up: R,
        most: int,
        patience_seconds: float = float("inf"),
        meanwhile: Callable[[W], R | None] = lambda _: None,
    ) -> None:
        """Write nothing yet.

        Args:
            write: Writes a batch in one transaction; an answer for each. None means that its row is locked: nothing
                was written for it, nor for the later ones of its key. Must do no harm when it is repeated.
            key: What must be written in order.
            given_up: The answer to what could not be written in `patience_seconds`, or when `run` has ended.
            most: How many are written at a time.
            meanwhile: The answer to a write that nobody needs to wait for when its key waits; None for all others.
                Of several of a key the last one is written.
        """
        self._write = write
        self._key = key
        self._given_up = given_up
        self._most = most
        self._patience_seconds = patience_seconds
        self._meanwhile = meanwhile
        self._fresh: deque[_Entry[W, R]] = deque()
        self._waiting: dict[Hashable, list[_Entry[W, R]]] = {}
        self._in_flight: Sequence[_Entry[W, R]] = ()
        self._retry_at = 0.0
        self._away = False
        self._wake = asyncio.Event()
        self._closing = False
        self._ended = False

    def put(self, write: W) -> asyncio.Future[R]:
        """Write soon, even if nobody waits for it. The future has an exception when the database refuses this very
        write."""
        loop = asyncio.get_running_loop()
        entry = _Entry(write, self._key(write), loop.create_future(), loop.time() + self._patience_seconds)
        if self._ended:
            entry.resolve(self._given_up)
        elif self._waiting and entry.key in self._waiting:
            self._put_behind(entry)
        else:
            self._fresh.append(entry)
            self._wake.set()
        return entry.done

    async def run(self) -> None:
        """Write until `close` was called and nothing is left."""
        try:
            while self._fresh or self._waiting or not self._closing:
                await self._wait()
                # Whoever is about to report in this turn of the loop travels with the batch.
                await asyncio.sleep(0)
                self._in_flight = self._take()
                await self._flush(self._in_flight)
                self._in_flight = ()
        finally:
            self._ended = True
            for entry in (*self._in_flight, *self._fresh, *_all(self._waiting)):
                entry.resolve(self._given_up)

    def close(self) -> None:
        """Let `run` end once everything is written."""
        self._closing = True
        self._wake.set()

    async def _wait(self) -> None:
        """Until something can be written, or there is nothing left to wait for."""
        if self._away:
            await asyncio.sleep(self._retry_at - asyncio.get_running_loop().time())
        elif not self._fresh and (self._waiting or not self._closing):
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._retry_at if self._waiting else None):
                    await self._wake.wait()

    def _take(self) -> list[_Entry[W, R]]:
        """The next batch: what has waited, if it is time, in front of what was put later."""
        now = asyncio.get_running_loop().time()
        batch: list[_Entry[W, R]] = []
        if now >= self._retry_at:
            self._away = False
            waited, self._waiting = self._waiting, {}
            for key, entries in waited.items():
                # All of a key or nothing: what stays must not come before what went.
                if len(batch) < self._most:
                    batch += self._patient(entries, now)
                else:
                    self._waiting[key] = entries
        while self._fresh and len(batch) < self._most and not self._away:
            entry = self._fresh.popleft()
            if self._waiting and entry.key in self._waiting:
                self._put_behind(entry)
            else:
                batch.append(entry)
        return batch

    async def _flush(self, batch: Sequence[_Entry[W, R]]) -> None:
        if not batch:
            return
        try:
            answers = await self._write([entry.write for entry in batch])
        except (RowLocked, StatementTooSlow) as error:
            if len(batch) == 1:
                _log.warning("%s waits: %s", batch[0].write, error)
                self._put_off(batch, _LOCKED_SECONDS)
            else:
                await self._flush_halves(batch)
        except DatabaseAway as error:
            _log.warning("%d writes wait, the database is out of reach: %s", len(batch), error)
            self._away, self._retry_at = True, asyncio.get_running_loop().time() + _AWAY_SECONDS
            self._put_off(batch, _AWAY_SECONDS)
        except Exception as error:
            if len(batch) == 1:
                batch[0].refuse(error)
            else:
                await self._flush_halves(batch)
        else:
            for entry, answer in zip(batch, answers, strict=True):
                if answer is not None:
                    entry.resolve(answer)
            self._put_off(
                [entry for entry, answer in zip(batch, answers, strict=True) if answer is None], _LOCKED_SECONDS
            )

    async def _flush_halves(self, batch: Sequence[_Entry[W, R]]) -> None:
        middle = len(batch) // 2
        await self._flush(batch[:middle])
        second = batch[middle:]
        for entry in second:
            # Of these, some may have to wait behind the first half.
            if entry.key in self._waiting:
                self._put_behind(entry)
        await self._flush([entry for entry in second if entry.key not in self._waiting])

    def _put_off(self, batch: Sequence[_Entry[W, R]], seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        if batch and self._retry_at <= now:
            self._retry_at = now + seconds
        for entry in batch:
            self._put_behind(entry)

    def _put_behind(self, entry: _Entry[W, R]) -> None:
        """Let it wait, the last one of its key."""
        waiting = self._waiting.setdefault(entry.key, [])
        if (answer := self._meanwhile(entry.write)) is not None:
            entry.resolve(answer)
            waiting[:] = [other for other in waiting if self._meanwhile(other.write) is None]
        waiting.append(entry)

    def _patient(self, entries: Iterable[_Entry[W, R]], now: float) -> list[_Entry[W, R]]:
        patient = []
        for entry in entries:
            answered = self._meanwhile(entry.write) is not None
            if entry.give_up_at > now and not (answered and self._closing):
                patient.append(entry)
            elif not answered:
                _log.error("%s could not be written in %g s", entry.write, self._patience_seconds)
                entry.resolve(self._given_up)
        return patient


def _all(waiting: dict[Hashable, list[_Entry[W, R]]]) -> Iterable[_Entry[W, R]]:
    return (entry for entries in waiting.values() for entry in entries)
