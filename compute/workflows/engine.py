"""The engine: claim workflows that have something to do, have each compiled into a task graph, renew their leases.

It executes nothing itself. Several may run; the rows keep them apart. Whatever dies, its leases run out and the next
engine compiles what remains.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from compute.db.direct import DirectConnection
from compute.db.session import DATABASE_AWAY, Connection, Database
from compute.events import hints
from compute.workflows import rows
from compute.workflows.plan import Plan
from compute.workflows.planning import plans_of
from compute.workflows.rows import Holder

__all__ = ["Compiler", "Engine", "EnginePolicy", "Graph"]

_log = logging.getLogger(__name__)


class Graph(NamedTuple):
    """A plan that was set going: what it is called where it runs, and its end."""

    name: str | None
    end: Awaitable[None]


class Compiler(Protocol):
    """Turns a plan into a graph of calls that begin when the calls before them have returned."""

    def launch(self, plan: Plan) -> Graph:
        """Set a plan going. The end of the graph raises when a runner died; then what remains is compiled again."""
        ...


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """Times in seconds. `poll` stands behind the hints; `pause` is waited before a broken graph is compiled again."""

    lease: float = 15.0
    poll: float = 1.0
    pause: float = 1.0
    batch: int = 50


class Engine:
    """Runs until cancelled. `owner` names this process in the leases it takes."""

    def __init__(self, database: Database, compiler: Compiler, policy: EnginePolicy, owner: str) -> None:
        self._database = database
        self._compiler = compiler
        self._policy = policy
        self._owner = owner
        self._held: dict[Holder, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Advance workflows until cancelled; then let go of them."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    hints.listen(self._database, [hints.WORKFLOW], lambda _channel, _payload: self._wake.set())
                )
                group.create_task(self._with_connection(self._claim_on))
                group.create_task(self._with_connection(self._renew_on))
        finally:
            await asyncio.shield(self._leave())

    async def _with_connection(self, loop: Callable[[DirectConnection], Awaitable[None]]) -> None:
        connection = DirectConnection(self._database)
        try:
            await loop(connection)
        finally:
            await connection.close()

    async def _claim_on(self, connection: DirectConnection) -> None:
        while True:
            try:
                claimed = await self._claim(connection)
            except DATABASE_AWAY as error:
                _log.warning("claiming workflows paused, the database is out of reach: %s", error)
                claimed = 0
            if not claimed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._policy.poll):
                        await self._wake.wait()
                self._wake.clear()

    async def _claim(self, connection: DirectConnection) -> int:
        policy = self._policy
        claimed = await connection.run(
            lambda direct: rows.claim(direct, policy.batch, owner=self._owner, lease_seconds=policy.lease)
        )
        if not claimed:
            return 0
        async with self._database.transaction() as session:
            plans = await plans_of(session, claimed)
        graphs = {Holder(plan.flow.id, plan.flow.fence): self._compiler.launch(plan) for plan in plans}
        for holder, graph in graphs.items():
            self._held[holder] = asyncio.create_task(self._follow(holder, graph), name=f"workflow {holder.workflow_id}")
        names = {holder: graph.name for holder, graph in graphs.items() if graph.name}
        await connection.run(lambda direct: rows.name_graphs(direct, names))
        return len(claimed)

    async def _follow(self, holder: Holder, graph: Graph) -> None:
        try:
            await graph.end
        except Exception as error:
            _log.warning("workflow %s: its graph broke and is compiled again: %s", holder.workflow_id, error)
            await asyncio.sleep(self._policy.pause)
            await self._let_go([holder])
            self._wake.set()
        finally:
            self._held.pop(holder, None)

    async def _renew_on(self, connection: DirectConnection) -> None:
        while True:
            await asyncio.sleep(self._policy.lease / 3)
            holders = list(self._held)
            if not holders:
                continue

            async def renew(direct: Connection, holders: list[Holder] = holders) -> set[Holder]:
                return await rows.renew(direct, holders, lease_seconds=self._policy.lease)

            try:
                still = await connection.run(renew)
            except DATABASE_AWAY as error:
                _log.warning("leases of workflows are renewed later, the database is out of reach: %s", error)
                continue
            for holder in holders:
                # Cancelled, approved or taken over: its runners find out by the fence, and nobody waits for them.
                if holder not in still and (work := self._held.pop(holder, None)) is not None:
                    work.cancel()

    async def _let_go(self, holders: list[Holder]) -> None:
        """Give leases back. If that fails, they run out."""
        connection = DirectConnection(self._database)
        try:
            await connection.run(lambda direct: rows.release(direct, holders))
        except DATABASE_AWAY as error:
            _log.warning("leases of workflows run out by themselves, the database is out of reach: %s", error)
        finally:
            await connection.close()

    async def _leave(self) -> None:
        held = dict(self._held)
        for work in held.values():
            work.cancel()
        if held:
            await asyncio.wait(held.values())
            await self._let_go(list(held))
