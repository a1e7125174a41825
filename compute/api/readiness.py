"""Would a task run at once? Asks the database, the store and the dispatchers' last beats."""

import asyncio
from datetime import timedelta

from sqlalchemy import func, select

from compute.api.resources import Resources
from compute.db.away import DatabaseAway
from compute.db.tables import DispatcherBeat
from compute.errors import ComputeError

__all__ = ["check_all"]

_FRESH = timedelta(seconds=10)
_PATIENCE_SECONDS = 5.0


async def check_all(held: Resources) -> dict[str, str]:
    """`ok` or a reason, by the name of each part."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            storage, pools = await asyncio.gather(_storage(held), _pools(held))
    except TimeoutError:
        return {"timeout": f"no verdict within {_PATIENCE_SECONDS:.0f} s"}
    return {"storage": storage} | pools


async def _storage(held: Resources) -> str:
    try:
        await held.objects.check()
    except ComputeError as error:
        return error.detail
    return "ok"


async def _pools(held: Resources) -> dict[str, str]:
    try:
        async with held.database.transaction() as session:
            beats = list(
                await session.scalars(select(DispatcherBeat.pools).where(DispatcherBeat.seen_at > func.now() - _FRESH))
            )
    except DatabaseAway:
        return {"database": "out of reach"}
    verdicts = {"database": "ok", "dispatcher": "ok" if beats else "none has reported for 10 s"}
    for queue in sorted({pool.queue for pool in held.serving.queues.values()}):
        warm = max((beat.get(queue, {}).get("ready", 0) for beat in beats), default=0)
        verdicts[f"queue {queue}"] = "ok" if warm else "no warm replica yet"
    return verdicts
