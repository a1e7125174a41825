"""One batch of what runs report, in one transaction."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TypeVar

from compute.db.session import Connection
from compute.schemas.enums import TaskStatus
from compute.tasks.leases import (
    Beat,
    Complete,
    Fail,
    FallBack,
    Lease,
    Release,
    Say,
    Start,
    Write,
    beat_batch,
    fail_batch,
    fall_back_batch,
    release_batch,
    say_batch,
    settle_batch,
    standing,
    start_batch,
)
from compute.tasks.prices import PriceTable
from compute.tasks.states import LEASED, sources

__all__ = ["write_all"]

W = TypeVar("W", Start, Beat, Say, Complete, Fail, FallBack, Release)

_LEADS_TO = {
    Start: TaskStatus.EXECUTING,
    Complete: TaskStatus.COMPLETED,
    Fail: TaskStatus.FAILED,
    FallBack: TaskStatus.PENDING,
    Release: TaskStatus.PENDING,
}


async def write_all(
    connection: Connection, writes: Sequence[Write], *, lease_seconds: float, prices: PriceTable
) -> list[bool | None]:
    """Starts first, ends last; whether each write's lease held. None: somebody else keeps the task's row locked, and
    neither this write nor a later one of its lease was written.

    A write that an earlier attempt has made, whose answer was lost, counts as made: nobody but the reaper moves a task
    under the same fence.
    """
    batch = _Batch(connection, lease_seconds, prices)
    starts = {write.lease: write for write in _of(Start, writes)}
    # One update instead of two.
    completes = [Complete(one.lease, one.result, starts.pop(one.lease, None)) for one in _of(Complete, writes)]
    kinds: list[Sequence[Write]] = [list(starts.values()), _of(Beat, writes), completes]
    kinds += [_of(Fail, writes), _of(FallBack, writes), _of(Release, writes), _of(Say, writes)]
    filled = [kind for kind in kinds if kind]
    async with connection.transaction() if len(filled) > 1 else nullcontext():
        for kind in filled:
            await batch.write(kind)
    return batch.answers(writes)


def _of(kind: type[W], writes: Sequence[Write]) -> list[W]:
    return [write for write in writes if isinstance(write, kind)]


class _Batch:
    """The outcomes of a batch's writes so far."""

    def __init__(self, connection: Connection, lease_seconds: float, prices: PriceTable) -> None:
        self._connection = connection
        self._prices = prices
        self._lease_seconds = lease_seconds
        self._written: list[tuple[Sequence[Write], set[Lease]]] = []
        self._locked: set[Lease] = set()

    def answers(self, writes: Sequence[Write]) -> list[bool | None]:
        if all(len(made) == len(kind) for kind, made in self._written):
            return [True] * len(writes)
        made = {
            pair for kind, leases in self._written for write in kind if write.lease in leases for pair in _pairs(write)
        }
        return [True if (type(one), one.lease) in made else self._unmade(one) for one in writes]

    async def write(self, kind: Sequence[Write]) -> None:
        """Write those of one kind whose leases wait for nothing."""
        if self._locked:
            kind = [write for write in kind if write.lease not in self._locked]
        made = await self._apply(kind)
        self._written.append((kind, made))
        missing = [write for write in kind if write.lease not in made] if len(made) < len(kind) else []
        if missing:
            found = await standing(self._connection, [write.lease for write in missing])
            made |= {one.lease for one in missing if _is_made(one, found)}
            made |= await self._after_its_start(missing, found)
            self._locked |= {one.lease for one in missing if one.lease not in made and _allows(one, found)}

    def _unmade(self, write: Write) -> bool | None:
        return None if write.lease in self._locked else False

    async def _apply(self, kind: Sequence[Write]) -> set[Lease]:
        connection, first = self._connection, next(iter(kind), None)
        match first:
            case Start():
                return await start_batch(connection, _of(Start, kind))
            case Beat():
                return await beat_batch(connection, _of(Beat, kind), lease_seconds=self._lease_seconds)
            case Complete():
                return await settle_batch(connection, _of(Complete, kind), self._prices)
            case Fail():
                return await fail_batch(connection, _of(Fail, kind))
            case FallBack():
                return await fall_back_batch(connection, _of(FallBack, kind))
            case Release():
                return await release_batch(connection, _of(Release, kind))
            case Say():
                return await say_batch(connection, _of(Say, kind))
        return set()

    async def _after_its_start(self, missing: Sequence[Write], found: dict[Lease, TaskStatus]) -> set[Lease]:
        """Complete those whose start an earlier attempt has written."""
        begun = [write for write in missing if _begins(write) and found.get(write.lease) == TaskStatus.EXECUTING]
        ends = [Complete(one.lease, one.result) for one in _of(Complete, begun)]
        return await settle_batch(self._connection, ends, self._prices)


def _pairs(write: Write) -> list[tuple[type[Write], Lease]]:
    """The writes that are made with this one, as kind and lease: itself, and a start where it implies one."""
    return [(type(write), write.lease)] + ([(Start, write.lease)] if _begins(write) else [])


def _is_made(write: Write, found: dict[Lease, TaskStatus]) -> bool:
    """Whether an earlier attempt has written it; a `Beat` leaves no trace."""
    return not isinstance(write, Beat) and found.get(write.lease) == _LEADS_TO[type(write)]


def _begins(write: Write) -> bool:
    return isinstance(write, Complete) and write.started is not None


def _allows(write: Write, found: dict[Lease, TaskStatus]) -> bool:
    """Whether the task is where this write could move it, had nobody locked its row."""
    status = found.get(write.lease)
    if isinstance(write, Beat) or _begins(write):
        return status in LEASED
    # What was put back has no lease, though its fence stands until it is claimed again.
    return status in LEASED and status in sources(_LEADS_TO[type(write)])
