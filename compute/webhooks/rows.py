"""Stores the deliveries in Postgres.

The index `webhook_deliveries_receiver` has each receiver's waiting deliveries in the order in which they fall due.
Receivers are found by skipping along it from one to the next, and the deliveries of one receiver are read from the
start
of its range. So the cost does not grow with the number of deliveries that wait for a dead receiver.

No statement waits for a row lock: locked rows are skipped.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import json
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Any

from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.db.tables.webhooks import RECEIVER
from compute.webhooks.retry import DeliveryStatus
from compute.webhooks.store import ClaimedDelivery, DeliveryAttempt, DuePage, Lottery, LotteryResult, Settled

__all__ = ["PostgresDeliveryStore"]

_WAITING = f"status = '{DeliveryStatus.PENDING}'"

_FIRST_OF_NEXT = f"""
SELECT {RECEIVER} AS receiver, next_attempt_at AS at FROM webhook_deliveries
 WHERE {_WAITING} AND ({RECEIVER}, next_attempt_at) > ({{receiver}}, {{at}}::timestamptz)
 ORDER BY {RECEIVER}, next_attempt_at LIMIT 1
"""
_DUE = f"""
WITH RECURSIVE hops AS (
    (SELECT receiver, at, 1 AS n FROM ({_FIRST_OF_NEXT.format(receiver="%(after)s", at="%(at)s")}) AS first)
    UNION ALL
    SELECT hop.receiver, hop.at, hops.n + 1 FROM hops
     CROSS JOIN LATERAL ({_FIRST_OF_NEXT.format(receiver="hops.receiver", at="'infinity'")}) AS hop
     WHERE hops.n < %(most)s
)
SELECT receiver, at <= clock_timestamp() FROM hops ORDER BY n
"""

# A time that is constant within a statement bounds the index scan, so deliveries due later are not read.
_DUE_TO_ONE = f"{_WAITING} AND {RECEIVER} = asked.receiver AND next_attempt_at <= statement_timestamp()"
_LEASE = """
UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp() + %(lease)s::float8 * interval '1 s'
  FROM chosen WHERE webhook_deliveries.id = chosen.id
RETURNING webhook_deliveries.id, task_id, url, chosen.receiver, payload, next_attempt_at, attempts,
          extract(epoch FROM clock_timestamp() - created_at)::float8, traceparent
"""
_CLAIM = f"""
WITH chosen AS (
    SELECT oldest.id, asked.receiver
      FROM unnest(%(receivers)s::text[], %(quotas)s::int[]) AS asked (receiver, quota)
     CROSS JOIN LATERAL (
        SELECT id FROM webhook_deliveries
         WHERE {_DUE_TO_ONE} ORDER BY {RECEIVER}, next_attempt_at LIMIT asked.quota
           FOR UPDATE SKIP LOCKED) AS oldest
)
{_LEASE}
"""
_AHEAD = 300
_SOME_DUE = f"SELECT id, url, next_attempt_at AS at FROM webhook_deliveries WHERE {_DUE_TO_ONE}"
# Paths are compared by hash, because the weights are joined to every row that is read.
# Rows with the same due time are read together, up to a bound, because `after` cannot separate them.
# `nth` counts within a path, among the rows that are read; `rank` is the order of the lottery.
_CLAIM_BY_LOTTERY = f"""
WITH asked AS MATERIALIZED (
    SELECT asked.receiver, quota, weights::jsonb AS weights, coalesce(after, '-infinity') AS after
      FROM unnest(%(receivers)s::text[], %(quotas)s::int[], %(weights)s::text[], %(after)s::timestamptz[])
        AS asked (receiver, quota, weights, after)
), ahead AS MATERIALIZED (
    SELECT one.*, asked.receiver, asked.weights FROM asked
     CROSS JOIN LATERAL (
        SELECT * FROM ({_SOME_DUE} AND next_attempt_at > asked.after
                        ORDER BY {RECEIVER}, next_attempt_at LIMIT {4 * _AHEAD}) AS bounded
         ORDER BY at FETCH FIRST {_AHEAD} ROWS WITH TIES) AS one
), looked_at AS (
    SELECT * FROM ahead
     UNION
    SELECT one.*, asked.receiver, asked.weights FROM asked
     CROSS JOIN LATERAL (({_SOME_DUE} ORDER BY {RECEIVER}, next_attempt_at LIMIT 100)
                         UNION ALL
                         ({_SOME_DUE} ORDER BY {RECEIVER} DESC, next_attempt_at DESC LIMIT 100)) AS one
), seen AS (
    SELECT id, receiver, weights ? path AS weighted, (weights ->> path)::float8 AS weight,
           row_number() OVER (PARTITION BY receiver, path ORDER BY at, id) AS nth
      FROM looked_at CROSS JOIN LATERAL md5(split_part(split_part(url, '?', 1), '#', 1)) AS path
), placed AS MATERIALIZED (
    SELECT id, receiver, row_number() OVER (PARTITION BY receiver ORDER BY nth, random() + coalesce(weight, 0)) AS rank
      FROM seen WHERE NOT weighted OR (nth = 1 AND weight IS NOT NULL)
), chosen AS (
    SELECT free.id, asked.receiver FROM asked
     CROSS JOIN LATERAL (
        SELECT deliveries.id FROM placed JOIN webhook_deliveries AS deliveries ON deliveries.id = placed.id
         WHERE placed.receiver = asked.receiver AND {_WAITING} AND next_attempt_at <= statement_timestamp()
         ORDER BY rank LIMIT asked.quota
           FOR UPDATE OF deliveries SKIP LOCKED) AS free
), leased AS ({_LEASE})
SELECT * FROM leased
 UNION ALL
SELECT NULL, NULL, NULL, receiver, NULL, max(at), NULL, NULL, NULL FROM ahead
 GROUP BY receiver HAVING count(*) >= {_AHEAD}
"""

_SETTLE = f"""
WITH ended AS (
    SELECT * FROM unnest(
        %(ids)s::uuid[], %(leases)s::timestamptz[], %(started)s::timestamptz[], %(codes)s::int[], %(errors)s::text[],
        %(durations)s::int[], %(statuses)s::text[], %(delays)s::float8[]
    ) AS ended (id, leased_until, started_at, status_code, error, duration_ms, status, delay)
), held AS (
    SELECT id, status, next_attempt_at FROM webhook_deliveries WHERE id = ANY (%(ids)s::uuid[])
     ORDER BY id FOR UPDATE SKIP LOCKED
), judged AS (
    SELECT ended.*, held.{_WAITING} AND (ended.status = '{DeliveryStatus.DELIVERED}'
                                        OR held.next_attempt_at = ended.leased_until) AS ours
      FROM ended JOIN held ON held.id = ended.id
), logged AS (
    INSERT INTO webhook_attempts (delivery_id, attempted_at, status_code, error, duration_ms)
    SELECT id, started_at, status_code, error, duration_ms FROM judged
), moved AS (
    UPDATE webhook_deliveries SET
           attempts = attempts + 1,
           status = CASE WHEN ours THEN judged.status ELSE webhook_deliveries.status END,
           delivered_at = CASE WHEN ours AND judged.status = '{DeliveryStatus.DELIVERED}' THEN clock_timestamp()
                               ELSE delivered_at END,
           next_attempt_at = CASE WHEN ours AND judged.{_WAITING}
                                  THEN clock_timestamp() + judged.delay * interval '1 s' ELSE next_attempt_at END
      FROM judged WHERE webhook_deliveries.id = judged.id
)
SELECT ended.id, CASE WHEN ours THEN '{Settled.MOVED}' WHEN judged.id IS NOT NULL THEN '{Settled.LATE}'
                      WHEN there.id IS NULL THEN '{Settled.GONE}' ELSE '{Settled.LOCKED}' END
  FROM ended LEFT JOIN judged ON judged.id = ended.id LEFT JOIN webhook_deliveries AS there ON there.id = ended.id
"""

_EXPIRE = f"""
WITH old AS (
    SELECT id FROM webhook_deliveries
     WHERE {_WAITING} AND created_at < clock_timestamp() - %(max_age)s::float8 * interval '1 s'
       AND next_attempt_at <= clock_timestamp()
     ORDER BY created_at LIMIT %(most)s
       FOR UPDATE SKIP LOCKED
), logged AS (
    INSERT INTO webhook_attempts (delivery_id, error, duration_ms) SELECT id, %(error)s, 0 FROM old
), moved AS (
    UPDATE webhook_deliveries SET status = '{DeliveryStatus.FAILED}' FROM old WHERE webhook_deliveries.id = old.id
)
SELECT count(*) FROM old
"""

# The driver caches a prepared statement only if it is shorter than 4096 characters.
_DUE, _CLAIM, _CLAIM_BY_LOTTERY, _SETTLE, _EXPIRE = (
    " ".join(one.split()) for one in (_DUE, _CLAIM, _CLAIM_BY_LOTTERY, _SETTLE, _EXPIRE)
)


class PostgresDeliveryStore:
    """A `DeliveryStore` with a connection for each kind of call, so that none waits for another."""

    def __init__(self, database: Database) -> None:
        """Connects to `database` at the first use. The caller closes the database."""
        self._claiming = DirectConnection(database)
        self._settling = DirectConnection(database)
        self._expiring = DirectConnection(database)

    async def due(self, after: str | None, most: int) -> DuePage:
        """See `DeliveryStore.due`."""
        # The empty text may be a receiver and sorts first, so the first page begins with it.
        given = {"after": after or "", "at": "-infinity" if after is None else "infinity", "most": most}
        rows = await _all_rows(self._claiming, _DUE, given)
        return DuePage([name for name, is_due in rows if is_due], rows[-1][0] if len(rows) == most else None)

    async def claim(self, quotas: Mapping[str, int], lease_seconds: float) -> Sequence[ClaimedDelivery]:
        """See `DeliveryStore.claim`."""
        given = {"receivers": list(quotas), "quotas": list(quotas.values()), "lease": lease_seconds}
        return [ClaimedDelivery(*row) for row in await _all_rows(self._claiming, _CLAIM, given)]

    async def claim_by_lottery(self, lotteries: Mapping[str, Lottery], lease_seconds: float) -> LotteryResult:
        """See `DeliveryStore.claim_by_lottery`."""
        given = {
            "receivers": list(lotteries),
            "quotas": [lottery.quota for lottery in lotteries.values()],
            "weights": [_by_hash(lottery.weights) for lottery in lotteries.values()],
            "after": [lottery.after for lottery in lotteries.values()],
            "lease": lease_seconds,
        }
        rows = await _all_rows(self._claiming, _CLAIM_BY_LOTTERY, given)
        reached = {receiver: at for key, _, _, receiver, _, at, *_ in rows if key is None}
        return LotteryResult([ClaimedDelivery(*row) for row in rows if row[0] is not None], reached)

    async def settle(self, attempts: Sequence[DeliveryAttempt]) -> Sequence[Settled]:
        """See `DeliveryStore.settle`."""
        given = {
            "ids": [one.claimed.id for one in attempts],
            "leases": [one.claimed.leased_until for one in attempts],
            "started": [one.outcome.started_at for one in attempts],
            "codes": [one.outcome.status_code for one in attempts],
            "errors": [one.outcome.error for one in attempts],
            "durations": [one.outcome.duration_ms for one in attempts],
            "statuses": [one.verdict.status.value for one in attempts],
            "delays": [one.verdict.delay for one in attempts],
        }
        came_of = dict(await _all_rows(self._settling, _SETTLE, given))
        return [Settled(came_of[one.claimed.id]) for one in attempts]

    async def expire(self, max_age: float, most: int) -> int:
        """See `DeliveryStore.expire`."""
        given = {"max_age": max_age, "most": most, "error": _too_old(max_age)}
        [(count,)] = await _all_rows(self._expiring, _EXPIRE, given)
        return int(count)

    async def close(self) -> None:
        """Close the connections."""
        for connection in (self._claiming, self._settling, self._expiring):
            await connection.close()


async def _all_rows(connection: DirectConnection, statement: str, given: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    async def work(open_connection: Connection) -> list[tuple[Any, ...]]:
        return await (await open_connection.execute(statement, given, binary=True)).fetchall()

    return await connection.run(work)


def _by_hash(weights: Mapping[str, float | None]) -> str:
    return json.dumps({md5(path.encode(), usedforsecurity=False).hexdigest(): one for path, one in weights.items()})


def _too_old(max_age: float) -> str:
    return f"given up: not delivered within {max_age / 3600:.3g} hours"
