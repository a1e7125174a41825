"""Deletes expired idempotency keys, tenants' turns, dispatchers' beats, entries of the audit log and counts of limits,
and lets limits forget work that has ended.

It works in small batches, each a transaction of its own. Locked rows are left for the next run.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from compute.db.away import DatabaseAway, RowLocked, StatementTooSlow
from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.retention.pace import paced
from compute.tasks.submission.quotas import forget_ended

__all__ = ["tidy"]

_BATCH = 1000
_KEEP_IDEMPOTENCY_KEYS = timedelta(days=2)
_KEEP_TURNS = timedelta(days=7)
_KEEP_AUDIT = timedelta(days=365)
_KEEP_COUNTS = timedelta(days=7)
_KEEP_BEATS = timedelta(minutes=10)

# Each batch begins where the last one ended, so that it does not step over the dead rows of the last.
_KEYS = """
WITH old AS (
    SELECT key, created_at FROM idempotency_keys
     WHERE created_at >= %(after)s AND created_at < now() - %(keep)s
     ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM idempotency_keys USING old WHERE idempotency_keys.key = old.key
)
SELECT max(created_at) FROM old HAVING count(*) = %(limit)s
"""
_TURNS = """
WITH page AS MATERIALIZED (
    SELECT queue, tenant, served_at FROM tenant_turns
     WHERE (queue, tenant) > (%(queue)s, %(tenant)s) ORDER BY queue, tenant LIMIT %(limit)s
), old AS (
    SELECT tenant_turns.queue, tenant_turns.tenant FROM page JOIN tenant_turns USING (queue, tenant)
     WHERE page.served_at < now() - %(keep)s AND tenant_turns.served_at < now() - %(keep)s
       FOR UPDATE OF tenant_turns SKIP LOCKED
), gone AS (
    DELETE FROM tenant_turns USING old WHERE tenant_turns.queue = old.queue AND tenant_turns.tenant = old.tenant
)
SELECT queue, tenant FROM page ORDER BY queue DESC, tenant DESC LIMIT 1
"""
_AUDIT = """
WITH old AS (
    SELECT id, created_at FROM audit_log WHERE created_at >= %(after)s AND created_at < now() - %(keep)s
     ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM audit_log USING old WHERE audit_log.id = old.id
)
SELECT max(created_at) FROM old HAVING count(*) = %(limit)s
"""
# Of keys and tenants that are not used any more, or have no limit any more.
_RATES = """
DELETE FROM request_rates WHERE subject IN (
    SELECT subject FROM request_rates WHERE minute < now() - %(keep)s LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""
_BEATS = """
DELETE FROM dispatchers WHERE id IN (
    SELECT id FROM dispatchers WHERE seen_at < now() - %(keep)s LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""


async def tidy(database: Database, *, keep_audit: timedelta = _KEEP_AUDIT) -> None:
    """Delete all expired rows once, and entries of the audit log that are older than `keep_audit`. Several processes
    may do so at once. A part that is too slow, or finds its table locked, keeps no other from being done.

    Raises:
        DatabaseAway: the database is away, or (`StatementTooSlow`, `RowLocked`) a part could not be done; the rows
            deleted until then stay deleted.
    """
    connection = DirectConnection(database)
    parts: Sequence[Callable[[], Awaitable[object]]] = (
        partial(_by_time, connection, _KEYS, _KEEP_IDEMPOTENCY_KEYS),
        partial(_turns, connection),
        partial(_batch, connection, _BEATS, keep=_KEEP_BEATS),
        partial(_by_time, connection, _AUDIT, keep_audit),
        partial(_batch, connection, _RATES, keep=_KEEP_COUNTS),
        partial(_charges, connection),
    )
    undone: DatabaseAway | None = None
    try:
        for part in parts:
            try:
                await part()
            except (StatementTooSlow, RowLocked) as error:
                undone = error
    finally:
        await connection.close()
    if undone is not None:
        raise undone


async def _by_time(connection: DirectConnection, statement: str, keep: timedelta) -> None:
    after: Any = datetime.min.replace(tzinfo=UTC)
    while after is not None:
        after = await _batch(connection, statement, keep=keep, after=after)
        after = after and after[0]


async def _turns(connection: DirectConnection) -> None:
    turn: Any = ("", "")
    while turn is not None:
        turn = await _batch(connection, _TURNS, keep=_KEEP_TURNS, queue=turn[0], tenant=turn[1])


async def _charges(connection: DirectConnection) -> None:
    charged: tuple[str, UUID] | None = ("", UUID(int=0))
    while charged is not None:
        charged = await _forget_ended(connection, charged)


async def _batch(connection: DirectConnection, statement: str, **values: Any) -> tuple[Any, ...] | None:
    async def run(direct: Connection) -> tuple[Any, ...] | None:
        answer = await direct.execute(statement, {"limit": _BATCH, **values})
        return await answer.fetchone() if answer.description else None

    return await paced(lambda: connection.run(run))


async def _forget_ended(connection: DirectConnection, after: tuple[str, UUID]) -> tuple[str, UUID] | None:
    async def run(direct: Connection) -> tuple[str, UUID] | None:
        return await forget_ended(direct, after, _BATCH)

    return await paced(lambda: connection.run(run))
