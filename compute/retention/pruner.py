"""Deletes units that ended long ago, in small batches.

    find the next old rows ─▶ leave out what is needed ─▶ remove their files ─▶ delete their rows ─▶ rest as long

An interrupted run can be continued by the next one: a row is deleted only after its files.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar

from compute.db.away import DatabaseAway, RowLocked, StatementTooSlow
from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.errors import StorageFailed
from compute.retention.due import Cutoff
from compute.retention.leader import acquire_lead, release_lead
from compute.retention.needed import Needed
from compute.retention.pace import paced
from compute.retention.rows import FIRST, KINDS, Kind, Unit
from compute.storage.base import ObjectStore
from compute.storage.together import for_each

__all__ = ["NotLeader", "PruneCount", "Pruner"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

_WORK = "retention"
LEAD_SECONDS = 300.0
_FILES = 100
_TOLD = 3
_LOCKED_TRIES = 12


class NotLeader(Exception):
    """Another process is pruning."""

    def __str__(self) -> str:
        return "another process is pruning at the moment; try again later"


@dataclass(slots=True)
class PruneCount:
    """How many units of one kind are old enough, by what becomes of them.

    Attributes:
        forgotten: Units that are deleted, or would be.
        tasks: Tasks of deleted workflows, deleted with them.
        needed: Units that stay because another unit needs their files.
        failed: Units that stay because their files could not be removed.
        locked: Units whose files are gone but whose rows stay for now, because they were locked or changed.
    """

    kind: str
    forgotten: int = 0
    tasks: int = 0
    needed: int = 0
    failed: int = 0
    locked: int = 0


@dataclass(slots=True)
class _Round:
    cutoff: Cutoff
    needed: Needed
    found: dict[str, PruneCount] = field(default_factory=lambda: {kind.name: PruneCount(kind.name) for kind in KINDS})


class Pruner:
    """Prunes under the name `owner`; one run at a time. It has one connection, which is closed after each call.

    Example:
        pruner = Pruner(database, objects, timedelta(days=30), "my process")
        for found in await pruner.prune():
            print(found.kind, found.forgotten)
    """

    def __init__(self, database: Database, objects: ObjectStore, keep: timedelta, owner: str) -> None:
        """Units that ended longer than `keep` ago are deleted."""
        self._objects = objects
        self._keep = keep
        self._owner = owner
        self._connection = DirectConnection(database)
        self._led_at: float | None = None

    async def count(self) -> list[PruneCount]:
        """Count what `prune` would delete now. Nothing is changed, and the object store is not asked.

        Raises:
            DatabaseAway: the database is away.
        """
        try:
            this = await self._begin()
            for kind in KINDS:
                found = this.found[kind.name]
                async for units in self._pages(kind, this):
                    found.forgotten += len(units)
                    found.tasks += sum(unit.tasks for unit in units)
            return list(this.found.values())
        finally:
            await self._connection.close()

    async def prune(self, tell: Callable[[PruneCount], None] = lambda _: None) -> list[PruneCount]:
        """Delete all units that are old enough and return the counts. `tell` gets the count of a kind after each batch.

        Raises:
            NotLeader: another process is pruning.
            DatabaseAway: the database is away; the units deleted until then stay deleted.
        """
        try:
            await self._lead()
            this = await self._begin()
            for kind in KINDS:
                async for units in self._pages(kind, this):
                    await paced(lambda kind=kind, units=units: self._forget(kind, units, this))  # type: ignore[misc]
                    tell(this.found[kind.name])
            return list(this.found.values())
        finally:
            # After an error, too, so that the next run need not wait until the lead expires.
            self._led_at = None
            with contextlib.suppress(DatabaseAway):
                await self._connection.run(lambda direct: release_lead(direct, _WORK, self._owner))
            await self._connection.close()

    async def _begin(self) -> _Round:
        async def moment(direct: Connection) -> Cutoff:
            row = await (await direct.execute("SELECT now() - %(keep)s", {"keep": self._keep})).fetchone()
            assert row is not None  # noqa: S101
            return Cutoff(row[0])

        cutoff = await self._connection.run(moment)
        return _Round(cutoff, Needed(cutoff))

    async def _pages(self, kind: Kind, this: _Round) -> AsyncIterator[Sequence[Unit]]:
        """The units of each page that nothing needs."""
        position = FIRST
        while True:
            page = await self._paced_run(partial(kind.page, after=position, cutoff=this.cutoff))
            if page is None:
                return
            if any(unit.folders for unit in page.due) and await this.needed.look(self._paced_run):
                # The full read took long, so the units of this page may no longer be due.
                continue
            free = [unit for unit in page.due if unit.id not in this.needed.units]
            this.found[kind.name].needed += len(page.due) - len(free)
            yield free
            position = page.last

    async def _forget(self, kind: Kind, units: Sequence[Unit], this: _Round) -> None:
        failures = await for_each(units, self._remove)
        bare = [unit for unit, failure in zip(units, failures, strict=True) if failure is None]
        told = [(unit, failure) for unit, failure in zip(units, failures, strict=True) if failure is not None]
        for unit, failure in told[:_TOLD]:
            _log.warning("%s of %s stays, its files could not be removed: %s", unit.id, kind.name, failure)
        if len(told) > _TOLD:
            _log.warning("%d more of %s stay, their files could not be removed", len(told) - _TOLD, kind.name)
        found = this.found[kind.name]
        found.failed += len(told)
        found.locked += len(bare)
        await self._forget_rows(kind, bare, this)

    async def _forget_rows(self, kind: Kind, units: Sequence[Unit], this: _Round) -> None:
        """Delete the rows of units.

        Rows that go with a unit, such as steps, may be locked though the unit's own row is not. Then the batch is
        halved;
        after some tries the rest stays for the next round.
        """
        found = this.found[kind.name]
        parts, tries = deque([units] if units else ()), 0
        while parts and tries < _LOCKED_TRIES:
            part = parts.popleft()
            try:
                gone = await self._connection.run(partial(kind.forget, units=part, cutoff=this.cutoff))
            except (RowLocked, StatementTooSlow) as error:
                _log.warning("some of %d %s stay for now: %s", len(part), kind.name, error)
                tries += 1
                if len(part) > 1:
                    parts.extend((part[: len(part) // 2], part[len(part) // 2 :]))
            else:
                found.forgotten += gone.units
                found.locked -= gone.units
                found.tasks += gone.tasks
                if gone.more:
                    parts.appendleft(part)
            await self._lead()

    async def _remove(self, unit: Unit) -> StorageFailed | None:
        """Remove the files of a unit except those below `unit.kept`; return the error if that failed."""
        try:
            for folder in unit.folders:
                await self._remove_all(folder, unit.kept)
        except StorageFailed as error:
            return error
        return None

    async def _remove_all(self, folder: str, kept: str | None) -> None:
        if kept is None or not await self._objects.list(kept, 1):
            await self._objects.delete_prefix(folder)
            return
        while found := await self._objects.list(folder, _FILES, excluding=lambda path: path.startswith(kept)):
            await for_each([one.path for one in found], self._objects.delete)

    async def _lead(self) -> None:
        if not await self._connection.run(lambda direct: acquire_lead(direct, _WORK, self._owner, LEAD_SECONDS)):
            raise NotLeader
        self._led_at = asyncio.get_running_loop().time()

    async def _paced_run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self._led_at is not None and asyncio.get_running_loop().time() - self._led_at > LEAD_SECONDS / 5:
            await self._lead()
        return await paced(lambda: self._connection.run(work))
