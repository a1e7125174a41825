"""A group commit: what many put is written together, in order where order counts.

A write goes out at once when nothing is being written; what arrives meanwhile goes out together next. Writes with the
same key are written in the order in which they were put, whatever happens: while one of them waits, because its row is
locked or the database is away, the later ones of its key wait behind it, and nobody else's do. A write that the
database refuses is found by halving its batch, which keeps that order, too.

A batch that met a lock as a whole, or was too slow, is under suspicion: which of its writes is the cause, nobody knows.
It is divided, by the kinds of its writes and then by half, and one part after the other is tried, each apart from what
is fresh. Every such try may take as long as a statement may wait, so that between any two of them others have a turn,
and those first for which nobody needs to wait.

Where clients wait for an answer, nothing waits for the database (`waits=False`): all writes are refused while it is
away, or when too much waits already.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Generic, TypeVar

from compute.db.away import DatabaseAway, RowLocked, StatementTooSlow
from compute.db.batches import Entry, Load, Queue
from compute.errors import Unavailable

__all__ = ["GroupCommit", "Load"]

W = TypeVar("W")
R = TypeVar("R")

_log = logging.getLogger(__name__)
_LOCKED_SECONDS = 0.1
_AWAY_SECONDS = 0.5
_UNLIMITED = Load()
_NOTHING = Load(0, 0)
_ONE = Load(1, 0)


class GroupCommit(Generic[W, R]):
    """`run` must be running. Nothing is answered before it is committed.

    Example:
        writes = GroupCommit(write, key=lambda beat: beat.task_id, given_up=False, most=500)
        running = asyncio.create_task(writes.run())
        written = await writes.put(beat)
        writes.close()
        await running
    """

    def __init__(
        self,
        write: Callable[[Sequence[W]], Awaitable[Sequence[R | None]]],
        key: Callable[[W], Hashable],
        *,
        given_up: R,
        most: int | Load,
        patience_seconds: float = inf,
        meanwhile: Callable[[W], R | None] = lambda _: None,
        kind: Callable[[W], Hashable] = type,
        waits: bool = True,
        in_doubt: R | None = None,
        most_waiting: Load = _UNLIMITED,
        load: Callable[[W], Load] = lambda _: _ONE,
    ) -> None:
        """Write nothing yet.

        Args:
            write: Writes a batch in one transaction; an answer for each. None means that its row is locked: nothing
                was written for it, nor for the later ones of its key. Must do no harm when it is repeated.
            key: What must be written in order.
            given_up: The answer to what could not be written in `patience_seconds`, or when `run` has ended.
            most: How many are written at a time, or how much; a write that is more than that is written alone.
            meanwhile: The answer to a write that nobody needs to wait for when it has to wait; None for all others.
                Of several of a key that wait the last one is written, before or after the others of its key.
            kind: Writes of different kinds may need different things, so that one kind may be locked alone.
            waits: Writes wait while the database cannot do them, and are made even when nobody waits for them any more.
                Otherwise all of them are refused with `DatabaseAway` when it cannot do one, and what nobody waits for
                any more is dropped until it is written.
            in_doubt: The answer to what was being written when `run` was cancelled, if that is not `given_up`.
            most_waiting: How much may wait to be written.
            load: How much a write is.
        """
        self._write = write
        self._key = key
        self._given_up = given_up
        self._most = most if isinstance(most, Load) else Load(most)
        self._most_waiting = most_waiting
        self._load = load
        self._waits = waits
        self._in_doubt = given_up if in_doubt is None else in_doubt
        self._patience_seconds = patience_seconds
        self._meanwhile = meanwhile
        self._kind = kind
        self._fresh: Queue[W, R] = Queue()
        self._waiting: dict[Hashable, list[Entry[W, R]]] = {}
        self._suspects: dict[Hashable, list[Entry[W, R]]] = {}
        self._groups: dict[bool, deque[list[Hashable]]] = {True: deque(), False: deque()}
        """The keys of suspects as they are tried, by whether somebody needs to wait for them."""
        self._in_flight: Sequence[Entry[W, R]] = ()
        self._retry_at = 0.0
        self._suspects_at = 0.0
        self._turn = 0
        self._away = False
        self._wake = asyncio.Event()
        self._closing = False
        self._ended = False

    def put(self, write: W) -> asyncio.Future[R]:
        """Write soon. The future has an exception when the database refuses this very write.

        Raises:
            Unavailable: too much waits already.
        """
        loop = asyncio.get_running_loop()
        load = self._load(write)
        if not self._fresh.has_room(load, self._most_waiting):
            raise Unavailable("Too many requests wait for the database; try again.")
        meanwhile = self._meanwhile(write)
        # What nobody needs to wait for has no place among the others of its key.
        key = (self._key(write), meanwhile is None)
        give_up_at = loop.time() + self._patience_seconds
        entry = Entry(write, load, key, self._kind(write), meanwhile, loop.create_future(), give_up_at)
        if self._ended:
            entry.resolve(self._given_up)
        else:
            # Even if others of its key wait: some that were put before it may be fresh as well.
            self._fresh.append(entry)
            self._wake.set()
        return entry.done

    async def run(self) -> None:
        """Write until `close` was called and nothing is left."""
        try:
            while self._fresh or self._waiting or self._suspects or not self._closing:
                await self._wait()
                # Whoever is about to report in this turn of the loop travels with the batch.
                await asyncio.sleep(0)
                self._in_flight = self._take()
                await self._flush(self._in_flight)
                self._in_flight = ()
        finally:
            self._ended = True
            for entry in self._in_flight:
                entry.resolve(self._in_doubt)
            for entry in (*self._fresh, *_all(self._waiting), *_all(self._suspects)):
                entry.resolve(self._given_up)

    def close(self) -> None:
        """Let `run` end once everything is written."""
        self._closing = True
        self._wake.set()

    async def _wait(self) -> None:
        """Until something can be written, or there is nothing left to wait for."""
        if self._away:
            await asyncio.sleep(self._retry_at - asyncio.get_running_loop().time())
        elif not self._fresh and (self._waiting or self._suspects or not self._closing):
            self._wake.clear()
            due = [self._retry_at] if self._waiting else []
            due += [self._suspects_at] if self._suspects else []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(due, default=None)):
                    await self._wake.wait()

    def _take(self) -> list[Entry[W, R]]:
        """The next batch: what has waited, if it is time, in front of what was put later."""
        now = asyncio.get_running_loop().time()
        if now >= self._retry_at:
            self._away = False
            self._recall(now)
        if self._away:
            return self._take_fresh(lambda _: False)
        return self._take_in_turn(now) if self._suspects else self._take_fresh(lambda _: True)

    def _recall(self, now: float) -> None:
        """Put what has waited in front of what is fresh; what is too much for a batch waits for the next."""
        waited, self._waiting = self._waiting, {}
        recalled: list[Entry[W, R]] = []
        for key, entries in waited.items():
            if len(recalled) < self._most.number:
                recalled += self._patient(entries, now)
            else:
                self._waiting[key] = entries
        self._fresh.put_back(recalled)

    def _take_in_turn(self, now: float) -> list[Entry[W, R]]:
        """Of what is fresh those of one kind, and suspects, in turn; those that nobody waits for before each."""
        carefree = (self._take_carefree, partial(self._take_suspects, False, now))
        turns = (*carefree, self._take_fresh_of_a_kind, *carefree, partial(self._take_suspects, True, now))
        for _ in turns:
            self._turn = (self._turn + 1) % len(turns)
            if batch := turns[self._turn]():
                return batch
        return []

    def _take_carefree(self) -> list[Entry[W, R]]:
        return self._take_fresh(lambda entry: entry.meanwhile is not None)

    def _take_fresh_of_a_kind(self) -> list[Entry[W, R]]:
        kind = next((entry.kind for entry in self._fresh if entry.meanwhile is None), None)
        return self._take_fresh(lambda entry: entry.meanwhile is None and entry.kind == kind)

    def _take_fresh(self, fits: Callable[[Entry[W, R]], bool]) -> list[Entry[W, R]]:
        """Those that fit, in their order. Others of whose keys wait are put behind them."""
        batch: list[Entry[W, R]] = []
        left: list[Entry[W, R]] = []
        keys_left: set[Hashable] = set()
        (number, size), most = _NOTHING, self._most
        while self._fresh:
            load = self._fresh.first().load
            if batch and (number + load.number > most.number or size + load.size > most.size):
                break
            entry = self._fresh.pop()
            is_dropped = not self._waits and entry.done.done()
            if is_dropped or self._put_behind(entry):
                continue
            if fits(entry) and not (keys_left and entry.key in keys_left):
                batch.append(entry)
                number, size = number + load.number, size + load.size
            else:
                # Later ones of its key must not overtake it.
                left.append(entry)
                keys_left.add(entry.key)
        self._fresh.put_back(left)
        return batch

    def _take_suspects(self, awaited: bool, now: float) -> list[Entry[W, R]]:
        """The next part of those under suspicion, if it is time: of each key what comes first and is of one kind."""
        groups = self._groups[awaited]
        if now < self._suspects_at:
            return []
        self._give_up_suspects(now)
        batch: list[Entry[W, R]] = []
        while groups and not batch:
            keys = [key for key in groups.popleft() if key in self._suspects]
            for key in keys:
                entries = self._suspects.pop(key)
                count = 1 if len(keys) == 1 else _first_of_a_kind(entries)
                batch += entries[:count]
                # They are put behind again if it fails.
                self._fresh.put_back(entries[count:])
        if batch:
            self._suspects_at = now + _LOCKED_SECONDS
        return batch

    def _give_up_suspects(self, now: float) -> None:
        for key, entries in list(self._suspects.items()):
            entries[:] = self._patient(entries, now)
            if not entries:
                del self._suspects[key]

    async def _flush(self, batch: Sequence[Entry[W, R]]) -> None:
        if not batch:
            return
        try:
            answers = await self._write([entry.write for entry in batch])
        except DatabaseAway as error:
            self._cannot(batch, error)
        except Exception as error:
            if len(batch) == 1:
                batch[0].refuse(error)
            else:
                await self._flush_halves(batch)
        else:
            self._suspects_at = 0.0
            for entry, answer in zip(batch, answers, strict=True):
                if answer is not None:
                    entry.resolve(answer)
            self._put_off(
                [entry for entry, answer in zip(batch, answers, strict=True) if answer is None], _LOCKED_SECONDS
            )

    def _cannot(self, batch: Sequence[Entry[W, R]], error: DatabaseAway) -> None:
        """Let a batch wait that the database does not write now, or refuse it and all others."""
        if not self._waits:
            _log.warning("%d writes are refused, the database does not make them: %s", len(batch), error)
            for entry in batch:
                entry.refuse(error)
            while self._fresh:
                self._fresh.pop().refuse(DatabaseAway(in_doubt=False))
        elif isinstance(error, RowLocked | StatementTooSlow):
            _log.warning("%s (of %d writes) waits: %s", batch[0].write, len(batch), error)
            self._suspect(batch)
        else:
            _log.warning("%d writes wait, the database is out of reach: %s", len(batch), error)
            self._away, self._retry_at = True, asyncio.get_running_loop().time() + _AWAY_SECONDS
            self._put_off(batch, _AWAY_SECONDS)

    async def _flush_halves(self, batch: Sequence[Entry[W, R]]) -> None:
        middle = len(batch) // 2
        await self._flush(batch[:middle])
        # Of the second half, some may have to wait behind the first.
        await self._flush([entry for entry in batch[middle:] if not self._put_behind(entry)])

    def _suspect(self, batch: Sequence[Entry[W, R]]) -> None:
        """Let them wait, to be tried in smaller parts."""
        if not self._suspects:
            self._turn = 0
        for entry in batch:
            _append(self._suspects.setdefault(entry.key, []), entry)
        kinds: dict[Hashable, list[Hashable]] = {}
        for key in dict.fromkeys(entry.key for entry in batch):
            first = self._suspects[key][0]
            kinds.setdefault((first.meanwhile is None, first.kind), []).append(key)
        parts = list(kinds.values())
        if len(parts) == 1 and len(parts[0]) > 1:
            middle = len(parts[0]) // 2
            parts = [parts[0][:middle], parts[0][middle:]]
        for part in parts:
            self._groups[self._suspects[part[0]][0].meanwhile is None].append(part)

    def _put_off(self, batch: Sequence[Entry[W, R]], seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        if batch and self._retry_at <= now:
            self._retry_at = now + seconds
        for entry in batch:
            _append(self._waiting.setdefault(entry.key, []), entry)

    def _put_behind(self, entry: Entry[W, R]) -> bool:
        """Let it wait, the last one of its key, if others of its key do."""
        if not self._waiting and not self._suspects:
            return False
        waiting = self._waiting.get(entry.key) or self._suspects.get(entry.key)
        if waiting is None:
            return False
        _append(waiting, entry)
        return True

    def _patient(self, entries: Iterable[Entry[W, R]], now: float) -> list[Entry[W, R]]:
        patient = []
        for entry in entries:
            answered = entry.meanwhile is not None
            if entry.give_up_at > now and not (answered and self._closing):
                patient.append(entry)
            elif not answered:
                _log.error("%s could not be written in %g s", entry.write, self._patience_seconds)
                entry.resolve(self._given_up)
        return patient


def _append(waiting: list[Entry[W, R]], entry: Entry[W, R]) -> None:
    """Let it wait behind others of its key. What nobody needs to wait for is answered, and takes their place."""
    if entry.meanwhile is not None:
        entry.resolve(entry.meanwhile)
        waiting.clear()
    waiting.append(entry)


def _first_of_a_kind(entries: Sequence[Entry[W, R]]) -> int:
    """How many at the front are of one kind."""
    return next((n for n, entry in enumerate(entries) if entry.kind != entries[0].kind), len(entries))


def _all(waiting: dict[Hashable, list[Entry[W, R]]]) -> list[Entry[W, R]]:
    return [entry for entries in waiting.values() for entry in entries]
