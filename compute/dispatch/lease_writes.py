"""The statements of one batch of lease writes, in one transaction."""

from collections.abc import Sequence
from contextlib import nullcontext

from compute.db.session import Connection
from compute.tasks.leases import (
    Beat,
    Complete,
    Fail,
    Lease,
    Release,
    Start,
    Write,
    beat_batch,
    fail_batch,
    release_batch,
    settle_batch,
    start_batch,
)

__all__ = ["write_all"]


async def write_all(
    connection: Connection, writes: Sequence[Write], *, lease_seconds: float, again: bool
) -> list[bool]:
    """Starts first, ends last, in one transaction; whether each write's lease held.

    `again`: an earlier attempt may have been committed before its connection broke.
    """
    starts = {write.lease: write for write in writes if isinstance(write, Start)}
    beats = [write for write in writes if isinstance(write, Beat)]
    completes = [write for write in writes if isinstance(write, Complete)]
    fails = [write for write in writes if isinstance(write, Fail)]
    releases = [write for write in writes if isinstance(write, Release)]
    if not again:
        # One update instead of two. Not in a repetition: there the start may be in the row already.
        completes = [Complete(write.lease, write.result, starts.pop(write.lease, None)) for write in completes]
    kinds = [starts, beats, completes, fails, releases]
    async with connection.transaction() if sum(map(bool, kinds)) > 1 else nullcontext():
        started = await start_batch(connection, list(starts.values()))
        if again:
            started |= await _already_started(connection, starts.keys() - started, lease_seconds)
        held: dict[type[Write], set[Lease]] = {
            Beat: await beat_batch(connection, beats, lease_seconds=lease_seconds),
            Complete: await settle_batch(connection, completes),
            Fail: await fail_batch(connection, fails),
            Release: await release_batch(connection, releases),
        }
    held[Start] = started | held[Complete]
    return [write.lease in held[type(write)] for write in writes]


async def _already_started(connection: Connection, leases: set[Lease], lease_seconds: float) -> set[Lease]:
    """Those whose earlier start was committed after all: whoever else held the fence would have moved it."""
    return await beat_batch(connection, [Beat(lease, 0.0) for lease in leases], lease_seconds=lease_seconds)
