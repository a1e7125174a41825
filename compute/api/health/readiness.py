"""Would a task run at once? Asks the database, the store and the dispatchers' last beats."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy import func, select, text

from compute.api.loops import Loops
from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.db.tables import DispatcherBeat
from compute.errors import ComputeError
from compute.requests.serving import Serving
from compute.storage.base import ObjectStore

__all__ = ["Readiness"]

_FRESH = timedelta(seconds=10)
_PATIENCE_SECONDS = 5.0


class Readiness:
    """However many ask at once, each part is asked by one of them: a part that hangs holds one connection, not all."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        serving: Serving,
        loops: Loops,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._database = database
        self._objects = objects
        self._serving = serving
        self._loops = loops
        self._patience_seconds = patience_seconds
        self._asking: dict[str, asyncio.Task[dict[str, str]]] = {}

    async def check(self) -> dict[str, str]:
        """`ok` or a reason, by the name of each part; within the patience for one of them."""
        parts: dict[str, Callable[[], Awaitable[dict[str, str]]]] = {"storage": self._storage, "database": self._pools}
        asking = {name: self._ask(name, part) for name, part in parts.items()}
        await asyncio.wait(asking.values(), timeout=self._patience_seconds)
        verdicts: dict[str, str] = {}
        for name, work in asking.items():
            verdicts |= work.result() if work.done() else {name: f"no answer within {self._patience_seconds:g} s"}
        return verdicts | {f"loop {name}": why for name, why in self._loops.failing().items()}

    async def close(self) -> None:
        """Stop asking."""
        for work in self._asking.values():
            work.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _ask(self, name: str, part: Callable[[], Awaitable[dict[str, str]]]) -> asyncio.Task[dict[str, str]]:
        """Ask anew, unless the last question has no answer yet."""
        work = self._asking.get(name)
        if work is None or work.done():
            work = self._asking[name] = asyncio.create_task(_verdict(name, part), name=f"asking the {name}")
        return work

    async def _storage(self) -> dict[str, str]:
        await self._objects.check()
        return {"storage": "ok"}

    async def _pools(self) -> dict[str, str]:
        async with self._database.transaction() as session:
            if await session.scalar(text("SELECT current_setting('transaction_read_only')::boolean")):
                return {"database": "it takes no writes"}
            beats = list(
                await session.scalars(select(DispatcherBeat.pools).where(DispatcherBeat.seen_at > func.now() - _FRESH))
            )
        verdicts = {"database": "ok", "dispatcher": "ok" if beats else "none has reported for 10 s"}
        for queue in sorted({pool.queue for pool in self._serving.queues.values()}):
            warm = max((beat.get(queue, {}).get("ready", 0) for beat in beats), default=0)
            verdicts[f"queue {queue}"] = "ok" if warm else "no warm replica yet"
        return verdicts


async def _verdict(name: str, part: Callable[[], Awaitable[dict[str, str]]]) -> dict[str, str]:
    try:
        return await part()
    except DatabaseAway as error:
        return {name: f"out of reach: {error.reason}"}
    except ComputeError as error:
        return {name: error.detail}
