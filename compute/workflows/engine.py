"""The engine: claim workflows that have something to do, have each compiled into a task graph, renew their leases.

It executes nothing itself. Several may run; the rows keep them apart. Whatever dies, its leases run out and the next
engine compiles what remains.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

from compute.db.away import DatabaseAway
from compute.telemetry.ids import bound
from compute.workflows.plan import Plan
from compute.workflows.rows.engine import EngineStore
from compute.workflows.rows.statements import WorkflowLease

__all__ = ["Compiler", "Engine", "EnginePolicy", "Graph"]

_log = logging.getLogger(__name__)
_RENEWALS = 3
"""How often a lease is renewed in its time."""
_TRIES = 10
"""How often that is tried again, until it is due anyway, where somebody keeps the workflow's row locked."""


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

    def __init__(self, store: EngineStore, compiler: Compiler, policy: EnginePolicy, owner: str) -> None:
        self._store = store
        self._compiler = compiler
        self._policy = policy
        self._owner = owner
        self._held: dict[WorkflowLease, asyncio.Task[None] | None] = {}
        self._unnamed: dict[WorkflowLease, str] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Advance workflows until cancelled; then let go of them."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._store.listen(self._wake.set))
                group.create_task(self._claim_on())
                group.create_task(self._renew_on())
        finally:
            await asyncio.shield(self._leave())

    async def _claim_on(self) -> None:
        while True:
            try:
                claimed = await self._claim()
            except DatabaseAway as error:
                _log.warning("claiming workflows paused, the database is out of reach: %s", error)
                claimed = 0
            if not claimed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._policy.poll):
                        await self._wake.wait()
                self._wake.clear()

    async def _claim(self) -> int:
        policy = self._policy
        plans = await self._store.claim(policy.batch, owner=self._owner, lease_seconds=policy.lease)
        # All at once: those that are launched last must not lose their leases meanwhile.
        self._held |= dict.fromkeys(map(_lease, plans))
        for plan in plans:
            if (name := self._launch(plan)) is not None:
                self._unnamed[_lease(plan)] = name
            # Hundreds of calls take as many milliseconds; leases are renewed in between.
            await asyncio.sleep(0)
        locked = await self._store.name_graphs(self._unnamed)
        self._unnamed = {lease: name for lease, name in self._unnamed.items() if lease in locked & self._held.keys()}
        return len(plans)

    def _launch(self, plan: Plan) -> str | None:
        """Set a plan going, unless it was lost since; what its graph is called."""
        lease = _lease(plan)
        if lease not in self._held:
            return None
        with bound(workflow_id=lease.workflow_id):
            graph = self._compiler.launch(plan)
            _log.info("workflow claimed: %d steps to run, fence %d", len(plan.steps), lease.fence)
            self._held[lease] = asyncio.create_task(self._follow(lease, graph), name=f"workflow {lease.workflow_id}")
        return graph.name

    async def _follow(self, lease: WorkflowLease, graph: Graph) -> None:
        try:
            await graph.end
        except Exception as error:
            _log.warning("workflow %s: its graph broke and is compiled again: %s", lease.workflow_id, error)
            await asyncio.sleep(self._policy.pause)
            await self._let_go([lease])
            self._wake.set()
        finally:
            self._held.pop(lease, None)

    async def _renew_on(self) -> None:
        late: set[WorkflowLease] = set()
        for turn in count(1):
            await asyncio.sleep(self._policy.lease / _RENEWALS / _TRIES)
            due = list(self._held) if turn % _TRIES == 0 else [lease for lease in late if lease in self._held]
            try:
                renewal = await self._store.renew(due, lease_seconds=self._policy.lease)
            except DatabaseAway as error:
                _log.warning("leases of workflows are renewed later, the database is out of reach: %s", error)
                late = set(self._held)
            else:
                late = renewal.locked
                self._forget(renewal.lost)

    def _forget(self, lost: Iterable[WorkflowLease]) -> None:
        """Cancelled, approved or taken over: their runners find out by the fence, and nobody waits for them."""
        for lease in lost:
            if (work := self._held.pop(lease, None)) is not None:
                work.cancel()

    async def _let_go(self, leases: list[WorkflowLease]) -> None:
        """Give leases back. If that fails, they run out."""
        try:
            await self._store.release(leases)
        except DatabaseAway as error:
            _log.warning("leases of workflows run out by themselves, the database is out of reach: %s", error)

    async def _leave(self) -> None:
        leases = list(self._held)
        working = [work for work in self._held.values() if work is not None]
        self._forget(leases)
        if working:
            await asyncio.wait(working)
        if leases:
            await self._let_go(leases)
        await self._store.close()


def _lease(plan: Plan) -> WorkflowLease:
    return WorkflowLease(plan.flow.id, plan.flow.fence)
