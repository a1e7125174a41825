"""The rows as an engine needs them: workflows to advance, and their leases."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.events import notify
from compute.workflows.plan import Plan
from compute.workflows.rows import statements as rows
from compute.workflows.rows.plans import plans_of
from compute.workflows.rows.statements import Renewal, WorkflowLease

__all__ = ["EngineStore", "PostgresEngineStore"]

_TOGETHER = 500


class EngineStore(Protocol):
    """Any of these may be called while others run, but whoever calls `claim` and
    `name_graphs` calls them in turn, and `renew` likewise. All but `listen` raise
    `DatabaseAway` while the database is. Nothing waits for a row that somebody else keeps locked."""

    async def claim(self, limit: int, *, owner: str, lease_seconds: float) -> list[Plan]:
        """Take up to `limit` workflows that nobody holds, the oldest first, under a lease and a new fence; what is
        left to do of each."""
        ...

    async def renew(self, leases: Sequence[WorkflowLease], *, lease_seconds: float) -> Renewal:
        """Renew leases; which are lost, and which may be renewed later because their workflows are locked."""
        ...

    async def name_graphs(self, graphs: Mapping[WorkflowLease, str]) -> set[WorkflowLease]:
        """Note what the task graphs are called where they run. Returns those whose workflows are locked."""
        ...

    async def release(self, leases: Sequence[WorkflowLease]) -> None:
        """Give workflows back for whoever claims next. The leases of those that are locked run out instead."""
        ...

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever there may be something to claim, until cancelled. Some calls may be missing."""
        ...

    async def close(self) -> None:
        """Give the connections back; a later call makes others."""
        ...


class PostgresEngineStore:
    """Implements `EngineStore`. Claims, renewals and releases have a connection each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claiming = DirectConnection(database)
        self._renewing = DirectConnection(database)
        self._releasing = DirectConnection(database)
        self._one_releases = asyncio.Lock()

    async def claim(self, limit: int, *, owner: str, lease_seconds: float) -> list[Plan]:
        claimed = await self._claiming.run(partial(rows.claim, limit=limit, owner=owner, lease_seconds=lease_seconds))
        if not claimed:
            return []
        async with self._database.transaction() as session:
            return await plans_of(session, claimed)

    async def renew(self, leases: Sequence[WorkflowLease], *, lease_seconds: float) -> Renewal:
        renewal = Renewal(set(), set())
        for start in range(0, len(leases), _TOGETHER):
            some = leases[start : start + _TOGETHER]
            lost, locked = await self._renewing.run(partial(rows.renew, leases=some, lease_seconds=lease_seconds))
            renewal = Renewal(renewal.lost | lost, renewal.locked | locked)
        return renewal

    async def name_graphs(self, graphs: Mapping[WorkflowLease, str]) -> set[WorkflowLease]:
        return await self._claiming.run(partial(rows.name_graphs, graphs=graphs)) if graphs else set()

    async def release(self, leases: Sequence[WorkflowLease]) -> None:
        async def release(connection: Connection) -> None:
            await rows.release(connection, leases)

        async with self._one_releases:
            await self._releasing.run(release)

    async def listen(self, wake: Callable[[], None]) -> None:
        await notify.waking(self._database, [notify.WORKFLOW])(wake)

    async def close(self) -> None:
        for connection in (self._claiming, self._renewing, self._releasing):
            await connection.close()
