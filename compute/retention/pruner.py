"""Forgets what has ended and been kept for long enough, a small batch at a time.

    find the next old rows ─▶ leave out what is needed ─▶ remove their files ─▶ delete their rows ─▶ rest as long

Wherever it is broken off, the next one goes on: a row goes when its files are gone.
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
from compute.retention.leader import let_go, take_lead
from compute.retention.needed import Needed
from compute.retention.pace import paced
from compute.retention.rows import FIRST, KINDS, Kind, Unit
from compute.storage.base import ObjectStore
from compute.storage.together import for_each

__all__ = ["Found", "NotLeading", "Pruner"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

_WORK = "retention"
LEAD_SECONDS = 300.0
_FILES = 100
_TOLD = 3
_LOCKED_TRIES = 12


class NotLeading(Exception):
    """Another process forgets at the moment."""

    def __str__(self) -> str:
        return "another process is forgetting what is old at the moment; try again later"


@dataclass(slots=True)
class Found:
    """How many of one kind are old enough. With those that go, so many `tasks` of workflows go. `needed` ones stay,
    because something else needs their files, `failed` ones, because their files could not be removed, and `held` ones,
    because somebody has locked or changed their rows; those have no files any more."""

    kind: str
    going: int = 0
    tasks: int = 0
    needed: int = 0
    failed: int = 0
    held: int = 0


@dataclass(slots=True)
class _Round:
    cutoff: Cutoff
    needed: Needed
    found: dict[str, Found] = field(default_factory=lambda: {kind.name: Found(kind.name) for kind in KINDS})


class Pruner:
    """One at a time, by name of its `owner`. It has one connection, which is closed after each call."""

    def __init__(self, database: Database, objects: ObjectStore, keep: timedelta, owner: str) -> None:
        """What ended longer than `keep` ago is forgotten."""
        self._objects = objects
        self._keep = keep
        self._owner = owner
        self._connection = DirectConnection(database)
        self._led_at: float | None = None

    async def count(self) -> list[Found]:
        """What `prune` would forget now. Nothing is changed, and no store of files is asked.

        Raises:
            DatabaseAway: the database is away.
        """
        try:
            this = await self._begin()
            for kind in KINDS:
                found = this.found[kind.name]
                async for units in self._pages(kind, this):
                    found.going += len(units)
                    found.tasks += sum(unit.tasks for unit in units)
            return list(this.found.values())
        finally:
            await self._connection.close()

    async def prune(self, tell: Callable[[Found], None] = lambda _: None) -> list[Found]:
        """Forget all that is old enough, and say what that was. `tell` is called with each batch's kind so far.

        Raises:
            NotLeading: another process does it.
            DatabaseAway: the database is away; what was forgotten until then is.
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
            # Also when it was broken off: the next one need not wait for the lead's time to be up.
            self._led_at = None
            with contextlib.suppress(DatabaseAway):
                await self._connection.run(lambda direct: let_go(direct, _WORK, self._owner))
            await self._connection.close()

    async def _begin(self) -> _Round:
        async def moment(direct: Connection) -> Cutoff:
            row = await (await direct.execute("SELECT now() - %(keep)s", {"keep": self._keep})).fetchone()
            assert row is not None  # noqa: S101
            return Cutoff(row[0])

        cutoff = await self._connection.run(moment)
        return _Round(cutoff, Needed(cutoff))

    async def _pages(self, kind: Kind, this: _Round) -> AsyncIterator[Sequence[Unit]]:
        """Those of each page that nothing needs."""
        place = FIRST
        while True:
            page = await self._paced_run(partial(kind.page, after=place, cutoff=this.cutoff))
            if page is None:
                return
            if any(unit.folders for unit in page.due) and await this.needed.look(self._paced_run):
                # What was due before all that was read may be no more.
                continue
            free = [unit for unit in page.due if unit.id not in this.needed.units]
            this.found[kind.name].needed += len(page.due) - len(free)
            yield free
            place = page.last

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
        found.held += len(bare)
        await self._forget_rows(kind, bare, this)

    async def _forget_rows(self, kind: Kind, units: Sequence[Unit], this: _Round) -> None:
        """Delete the rows of units. What goes with one may be locked though the unit is not, such as a step: then its
        batch is halved, and after some tries the rest stays for the next round."""
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
                found.going += gone.units
                found.held -= gone.units
                found.tasks += gone.tasks
                if gone.more:
                    parts.appendleft(part)
            await self._lead()

    async def _remove(self, unit: Unit) -> StorageFailed | None:
        """Remove the files of a unit, but for those that stay; why that failed, if it did."""
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
        if not await self._connection.run(lambda direct: take_lead(direct, _WORK, self._owner, LEAD_SECONDS)):
            raise NotLeading
        self._led_at = asyncio.get_running_loop().time()

    async def _paced_run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self._led_at is not None and asyncio.get_running_loop().time() - self._led_at > LEAD_SECONDS / 5:
            await self._lead()
        return await paced(lambda: self._connection.run(work))
