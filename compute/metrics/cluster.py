"""Reads the metrics of the whole cluster from rows: a few statements, each of a bounded cost."""

# ruff: noqa: S608 - the parts of these statements are constants

from collections import Counter
from collections.abc import AsyncIterator, Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables.providers import OPEN_CALLS
from compute.metrics import families as of
from compute.metrics.families import MOST_NAMES, Sample
from compute.metrics.workers import read_workers
from compute.monitoring.queues import QueueState, queue_states
from compute.monitoring.scope import Scope, counted
from compute.monitoring.totals import task_totals, workflow_totals
from compute.providers.calls.call import OPEN, CallState
from compute.schemas.training import TrainingStatus

__all__ = ["read_cluster"]

_MOST_COUNTED = 50_000
"""Of queues and vendors. They are the operator's, so more of them would be a fault."""
_BEATS = "SELECT pools FROM dispatchers WHERE seen_at > now() - interval '10 s'"
_TRAININGS = "SELECT status, sum(number)::bigint FROM ({}) AS counted WHERE status <> '' GROUP BY 1"
_WAITING = "FROM webhook_deliveries WHERE status = 'PENDING'"
_WEBHOOKS = f"""
SELECT (SELECT count(*) FROM (SELECT {_WAITING} LIMIT {_MOST_COUNTED}) AS counted),
       (SELECT count(*) FROM (SELECT {_WAITING} AND next_attempt_at <= now() LIMIT {_MOST_COUNTED}) AS counted),
       (SELECT extract(epoch FROM now() - min(created_at))::float8 {_WAITING})
"""
_CALLS = f"""
SELECT vendor, state, count(*), extract(epoch FROM now() - min(coalesce(uncertain_at, created_at)))::float8 FROM (
    SELECT vendor, state, uncertain_at, created_at FROM provider_calls WHERE {OPEN_CALLS}
     UNION ALL
    SELECT vendor, state, uncertain_at, created_at FROM provider_calls WHERE state = '{CallState.UNCERTAIN}'
) AS calls GROUP BY vendor, state
"""
_ACCOUNTS = """
SELECT vendor, count(*) FILTER (WHERE open_until > now()), count(*) FILTER (WHERE paused_until > now())
  FROM provider_accounts GROUP BY vendor
"""
# Another user's transactions show their times only to members of pg_read_all_stats.
_SNAPSHOTS = """
SELECT coalesce((SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
                  WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()), 0),
       greatest((SELECT max(age(backend_xmin)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()),
                (SELECT max(greatest(age(xmin), age(catalog_xmin))) FROM pg_replication_slots), 0)
"""


async def read_cluster(session: AsyncSession, served: Collection[str]) -> list[Sample]:
    """All of them; `served` are the queues that have workers by the configuration."""
    readers = (
        _work(session),
        _queues(session, served),
        _workers(session, served),
        _webhooks(session),
        _calls(session),
        _accounts(session),
        _snapshots(session),
    )
    samples = [sample for reader in readers async for sample in reader]
    return samples + await read_workers(session)


async def _work(session: AsyncSession) -> AsyncIterator[Sample]:
    everything = Scope()
    tasks = await task_totals(session, everything, lately=False)
    of_parts = {of.TASKS: tasks.by_status, of.TASKS_BY_TYPE: tasks.by_type, of.TASKS_BY_PROVIDER: tasks.by_provider}
    of_parts[of.WORKFLOWS] = (await workflow_totals(session, everything, lately=False)).by_status
    trainings = text(_TRAININGS.format(counted("training", everything)))
    of_parts[of.TRAININGS] = Counter(dict.fromkeys(map(str, TrainingStatus), 0))
    for status, number in await session.execute(trainings, everything.values):
        of_parts[of.TRAININGS][status] += number
    for family, numbers in of_parts.items():
        for label, number in sorted(numbers.items()):
            yield Sample(family, number, (label,))


async def _queues(session: AsyncSession, served: Collection[str]) -> AsyncIterator[Sample]:
    states = dict.fromkeys(served, QueueState()) | await queue_states(session, None)
    for queue in sorted(states)[:MOST_NAMES]:
        state = states[queue]
        yield Sample(of.QUEUE_WAITING, max(state.depth, 0), (queue,))
        yield Sample(of.QUEUE_RESERVED, state.reserved, (queue,))
        yield Sample(of.QUEUE_RUNNING, state.active, (queue,))
        yield Sample(of.QUEUE_OLDEST, state.oldest_seconds or 0.0, (queue,))


async def _workers(session: AsyncSession, served: Collection[str]) -> AsyncIterator[Sample]:
    beats = list(await session.scalars(text(_BEATS)))
    workers: Counter[str] = Counter(dict.fromkeys(served, 0))
    capacity: Counter[str] = Counter(dict.fromkeys(served, 0))
    for pools in beats:
        for queue, pool in pools.items():
            # Dispatchers of one queue see the same workers.
            workers[queue] = max(workers[queue], pool.get("ready", 0))
            capacity[queue] = max(capacity[queue], pool.get("capacity", 0))
    yield Sample(of.DISPATCHERS, len(beats))
    for queue in sorted(workers)[:MOST_NAMES]:
        yield Sample(of.QUEUE_WORKERS, workers[queue], (queue,))
        yield Sample(of.QUEUE_CAPACITY, capacity[queue], (queue,))


async def _webhooks(session: AsyncSession) -> AsyncIterator[Sample]:
    waiting, overdue, oldest = (await session.execute(text(_WEBHOOKS))).one()
    yield Sample(of.WEBHOOKS_WAITING, waiting)
    yield Sample(of.WEBHOOKS_OVERDUE, overdue)
    yield Sample(of.WEBHOOKS_OLDEST, max(oldest or 0.0, 0.0))


async def _calls(session: AsyncSession) -> AsyncIterator[Sample]:
    rows = (await session.execute(text(_CALLS))).all()
    found = {(vendor, state): (number, age) for vendor, state, number, age in rows}
    for vendor in sorted({row.vendor for row in rows})[:MOST_NAMES]:
        for state in sorted({*OPEN, CallState.UNCERTAIN}):
            yield Sample(of.CALLS, found.get((vendor, state), (0, 0.0))[0], (vendor, state))
        age = found.get((vendor, CallState.UNCERTAIN), (0, 0.0))[1]
        yield Sample(of.CALLS_OLDEST_UNCERTAIN, max(age or 0.0, 0.0), (vendor,))


async def _accounts(session: AsyncSession) -> AsyncIterator[Sample]:
    accounts = (await session.execute(text(_ACCOUNTS))).all()
    for vendor, broken, paused in sorted(map(tuple, accounts))[:MOST_NAMES]:
        yield Sample(of.BREAKERS, broken, (vendor,))
        yield Sample(of.PAUSES, paused, (vendor,))


async def _snapshots(session: AsyncSession) -> AsyncIterator[Sample]:
    seconds, transactions = (await session.execute(text(_SNAPSHOTS))).one()
    yield Sample(of.SNAPSHOT_AGE, max(seconds, 0.0))
    yield Sample(of.SNAPSHOT_ROWS, transactions)
