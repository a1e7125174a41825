"""The store of the Dispatcher: the interface, and Postgres.

The Dispatcher knows no SQL and no connection: whatever keeps these promises will do, a model in memory among them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.db.tables import DispatcherBeat
from compute.dispatch.fairness import claim_batch
from compute.dispatch.lease_writes import write_all
from compute.dispatch.reaper import reap
from compute.dispatch.retry import RetryPolicy
from compute.events import notify
from compute.retention.tidy import tidy
from compute.tasks.leases import ClaimedTask, Write
from compute.tasks.prices import PriceTable
from compute.tasks.usage import add_up

__all__ = ["DispatchStore", "PostgresDispatchStore"]

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"

_CLAIM_IDLE_SECONDS = 3.0
_LEAST_SECONDS = 1.0

OnNotify = Callable[[str, str], None]


class DispatchStore(Protocol):
    """Every method but `notify` raises `DatabaseAway` when the store is out of reach; whether a write took effect is
    not known then. Calls for one queue, and those of one other method, are never made at the same time."""

    async def claim(self, queue: str, limit: int, *, owner: str, lease_seconds: float) -> list[ClaimedTask]:
        """Take up to `limit` waiting tasks, less those that other Dispatchers hold which have told of themselves lately
        (`beat`), in fair order, each under a lease with a new fence."""
        ...

    async def write(self, writes: Sequence[Write], *, lease_seconds: float) -> Sequence[bool | None]:
        """Write what runs report, in one transaction; whether each one's lease held. None: somebody else keeps the
        task's row locked, and neither this write nor a later one of its lease was written. An earlier try that took
        effect, though its answer was lost, counts.

        Raises:
            Exception: the content of one of them is refused; nothing was written.
        """
        ...

    async def now(self) -> float:
        """The time by which leases end, in seconds."""
        ...

    async def reap(self, policy: RetryPolicy) -> int:
        """Put back, or end, tasks whose leases ran out; how many there were."""
        ...

    async def beat(self, owner: str, pools: Mapping[str, Any]) -> None:
        """Note that this Dispatcher lives, and what it sees of its pools."""
        ...

    async def tidy(self) -> None:
        """Forget what nobody will ask for again."""
        ...

    async def add_up(self) -> None:
        """Add what was used to the sums of its days."""
        ...

    def notify(self, channel: str, payload: str = "") -> None:
        """Tell the others of news, soon, or never: they look now and then anyway."""
        ...

    async def send_notifications(self) -> None:
        """Send what `notify` notes, until cancelled."""
        ...

    async def listen(self, channels: Sequence[str], on_notify: OnNotify) -> None:
        """Call `on_notify(channel, payload)` for the hints of others, until cancelled."""
        ...

    async def close(self) -> None:
        """Close what is open; nothing else is called afterwards."""
        ...


class PostgresDispatchStore:
    """Implements `DispatchStore`. Each queue's claims, the writes and the reaper have a connection of their own."""

    def __init__(
        self, database: Database, prices: PriceTable | None = None, *, keep_audit: timedelta = timedelta(days=365)
    ) -> None:
        """`prices` are those of work on this cluster; the audit log is kept for `keep_audit`."""
        self._keep_audit = keep_audit
        self._database = database
        self._prices = prices or PriceTable()
        self._connections: dict[str, DirectConnection] = {}
        self._notifier = notify.Notifier(database)

    async def claim(self, queue: str, limit: int, *, owner: str, lease_seconds: float) -> list[ClaimedTask]:
        async def work(connection: Connection) -> list[ClaimedTask]:
            return await claim_batch(connection, queue, limit, owner=owner, lease_seconds=lease_seconds)

        # Other Dispatchers wait for a claim that is under way.
        return await self._connection(f"claims of {queue}", idle_seconds=_CLAIM_IDLE_SECONDS).run(work)

    async def write(self, writes: Sequence[Write], *, lease_seconds: float) -> list[bool | None]:
        async def work(connection: Connection) -> list[bool | None]:
            return await write_all(connection, writes, lease_seconds=lease_seconds, prices=self._prices)

        # One that is too slow must not cost the leases that wait behind it.
        limit = max(lease_seconds / 3, _LEAST_SECONDS)
        return await self._connection("writes", statement_seconds=limit).run(work)

    async def now(self) -> float:
        async def work(connection: Connection) -> float:
            ((seconds,),) = await (await connection.execute(_NOW)).fetchall()
            return float(seconds)

        return await self._connection("reaper").run(work)

    async def reap(self, policy: RetryPolicy) -> int:
        return await reap(self._connection("reaper"), policy)

    async def beat(self, owner: str, pools: Mapping[str, Any]) -> None:
        seen = {"pools": dict(pools), "seen_at": func.now()}
        beat = insert(DispatcherBeat).values(id=owner, **seen)
        async with self._database.transaction() as session:
            await session.execute(beat.on_conflict_do_update(index_elements=["id"], set_=seen))

    async def tidy(self) -> None:
        await tidy(self._database, keep_audit=self._keep_audit)

    async def add_up(self) -> None:
        await add_up(self._database)

    def notify(self, channel: str, payload: str = "") -> None:
        self._notifier.notify(channel, payload)

    async def send_notifications(self) -> None:
        await self._notifier.run()

    async def listen(self, channels: Sequence[str], on_notify: OnNotify) -> None:
        await notify.listen(self._database, channels, on_notify)

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.close()

    def _connection(self, use: str, **limits: Any) -> DirectConnection:
        if use not in self._connections:
            self._connections[use] = DirectConnection(self._database, **limits)
        return self._connections[use]
