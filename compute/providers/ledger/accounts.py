"""Health and use of accounts, read and written under their rows' locks: limits hold over all replicas."""

from collections.abc import Collection, Mapping
from typing import Any

from psycopg.types.json import Jsonb

from compute.db.session import Connection
from compute.providers.ledger.gate import AccountState, Limits

__all__ = ["AccountKey", "Accounts"]

AccountKey = tuple[str, str]
"""Vendor and account."""

_ADD = """
INSERT INTO provider_accounts (vendor, account)
SELECT vendor, account FROM jsonb_to_recordset(%(keys)s) AS given(vendor text, account text) ORDER BY vendor, account
    ON CONFLICT DO NOTHING
"""
_LOCK = """
SELECT vendor, account, failures, openings,
       greatest(extract(epoch FROM open_until - clock_timestamp()), 0)::float8,
       greatest(extract(epoch FROM probe_until - clock_timestamp()), 0)::float8,
       greatest(extract(epoch FROM paused_until - clock_timestamp()), 0)::float8
  FROM provider_accounts JOIN jsonb_to_recordset(%(keys)s) AS given(vendor text, account text) USING (vendor, account)
 ORDER BY vendor, account FOR UPDATE OF provider_accounts
"""
_IN_FLIGHT = """
SELECT count(*) FROM provider_calls
 WHERE vendor = %(vendor)s AND account = %(account)s AND state IN ('INTENT', 'ACCEPTED')
   AND (task_id IS NOT NULL OR created_at > clock_timestamp() - interval '1 hour')
"""
# Without a task nobody comes back for a call whose process was killed; all of them are answered at once.
_LAST_MINUTE = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 FROM provider_calls
 WHERE vendor = %(vendor)s AND account = %(account)s AND created_at > clock_timestamp() - interval '60 s'
"""
_SAVE = """
UPDATE provider_accounts SET failures = given.failures, openings = given.openings,
       open_until = clock_timestamp() + given.open_for * interval '1 s',
       probe_until = clock_timestamp() + given.probed_for * interval '1 s',
       paused_until = clock_timestamp() + given.paused_for * interval '1 s'
  FROM jsonb_to_recordset(%(rows)s) AS given(
       vendor text, account text, failures int, openings int, open_for float8, probed_for float8, paused_for float8)
 WHERE provider_accounts.vendor = given.vendor AND provider_accounts.account = given.account
"""


class Accounts:
    """Some accounts, locked until the transaction ends."""

    def __init__(self, connection: Connection, states: dict[AccountKey, AccountState]) -> None:
        self._connection = connection
        self._before = dict(states)
        self.states = states

    @classmethod
    async def lock(cls, connection: Connection, keys: Collection[AccountKey]) -> "Accounts":
        """Lock them in one order, those that are new as well."""
        given = {"keys": Jsonb([{"vendor": vendor, "account": account} for vendor, account in sorted(keys)])}
        rows = await (await connection.execute(_LOCK, given)).fetchall() if keys else []
        if len(rows) < len(keys):
            await connection.execute(_ADD, given)
            rows = await (await connection.execute(_LOCK, given)).fetchall()
        return cls(
            connection,
            {
                (vendor, account): AccountState(failures, openings, open_for or 0.0, probed or 0.0, paused or 0.0)
                for vendor, account, failures, openings, open_for, probed, paused in rows
            },
        )

    async def count(self, key: AccountKey, limits: Limits) -> AccountState:
        """Its state with the calls that it has under way, as far as there are limits for them."""
        limit, state = limits.of(key[0]), self.states[key]
        given = {"vendor": key[0], "account": key[1]}
        if limit.concurrency is not None:
            ((in_flight,),) = await (await self._connection.execute(_IN_FLIGHT, given)).fetchall()
            state = state.counted(in_flight=in_flight)
        if limit.per_minute is not None:
            ((number, oldest),) = await (await self._connection.execute(_LAST_MINUTE, given)).fetchall()
            state = state.counted(in_last_minute=number, oldest_in_minute=oldest)
        self.states[key] = state
        return state

    async def save(self) -> None:
        """Write those that have changed."""
        changed = [
            _row(key, state) for key, state in self.states.items() if _health(state) != _health(self._before[key])
        ]
        if changed:
            await self._connection.execute(_SAVE, {"rows": Jsonb(changed)})


def _health(state: AccountState) -> Mapping[str, Any]:
    return {
        "failures": state.failures,
        "openings": state.openings,
        "open_for": state.open_for,
        "probed_for": state.probed_for,
        "paused_for": state.paused_for,
    }


def _row(key: AccountKey, state: AccountState) -> dict[str, Any]:
    return {"vendor": key[0], "account": key[1], **_health(state)}
