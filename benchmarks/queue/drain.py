"""Throughput of no-op tasks: through our store in batches, through the Dispatcher, and through bare SQL."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.rows import empty, fill_waiting, tidy
from compute.db.direct import connect_by_key
from compute.db.session import Connection, Database
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.fairness import claim_batch
from compute.dispatch.store import PostgresDispatchStore
from compute.tasks.leases import ClaimedTask, Complete, Start, settle_batch
from compute.worker.protocol import Done, Job, Started, WorkEvent

__all__ = ["Drain", "drain_bare", "drain_in_batches", "drain_with_dispatcher", "settle_all"]

_QUEUE = "inference"
_MOST_TRIES = 1000

_CLAIM = """
UPDATE tasks SET status = 'QUEUED', fence = fence + 1, updated_at = clock_timestamp()
 WHERE id = (SELECT id FROM tasks WHERE queue = %s AND status = 'PENDING'
              ORDER BY queue, priority, tenant, created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""
_COMPLETE = """
UPDATE tasks SET status = 'COMPLETED', result = '{}', updated_at = clock_timestamp(), completed_at = clock_timestamp()
 WHERE id = %s
"""
_OUTCOME = """
SELECT extract(epoch FROM max(completed_at)), coalesce(percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
           ORDER BY 1000 * extract(epoch FROM completed_at - task_events.created_at)), '{0, 0}'),
       count(DISTINCT tasks.id) FILTER (WHERE tasks.status = 'COMPLETED')
  FROM tasks LEFT JOIN task_events ON task_id = tasks.id AND task_events.status = 'QUEUED'
"""


@dataclass(frozen=True, slots=True)
class Drain:
    """The result of emptying a queue. Milliseconds are from the write that claims a task to the write that settles
    it."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class NoOpPool:
    """A pool that finishes every job at once, with up to `hands` in flight."""

    hands: int
    queue: str = _QUEUE
    executor_type: str = "no-op"
    resumes: bool = False

    def capacity(self) -> int:
        return self.hands

    def ready(self) -> int:
        return self.hands

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("no-op#1", "none")
        yield Done({"model": "none"})


def drain_with_dispatcher(database_url: str, *, tasks: int, hands: int) -> Drain:
    """The real Dispatcher: fair claims, leases, an event row for each of four states."""
    return _drain(database_url, tasks, _dispatch(database_url, hands))


def drain_in_batches(database_url: str, *, tasks: int, batch: int, claimers: int) -> Drain:
    """Make the Dispatcher's writes without running tasks: `claimers` that claim and settle `batch` at a time."""
    return _drain(database_url, tasks, _together(_claim_and_settle, database_url, claimers, batch))


def drain_bare(database_url: str, *, tasks: int, hands: int) -> Drain:
    """`hands` connections that claim a row by SKIP LOCKED and complete it, without events, leases or fairness."""
    return _drain(database_url, tasks, _together(_take_turns, database_url, hands))


def _drain(database_url: str, tasks: int, work: Coroutine[Any, Any, None]) -> Drain:
    with psycopg.connect(database_url, autocommit=True) as connection:
        empty(connection)
        fill_waiting(connection, queue=_QUEUE, count=tasks, tenants=10)
        tidy(connection)
        began = time.time()
        asyncio.run(work)
        row = connection.execute(_OUTCOME).fetchone()
    assert row is not None
    ended, (p50, p99), completed = row
    if completed != tasks:
        raise RuntimeError(f"{completed} of {tasks} tasks are completed")
    return Drain(tasks / (float(ended) - began), p50, p99)


async def _dispatch(database_url: str, hands: int) -> None:
    database = Database(database_url)
    dispatching = asyncio.create_task(
        Dispatcher(PostgresDispatchStore(database), [NoOpPool(hands)], DispatchPolicy(), "benchmark").run()
    )
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while not dispatching.done() and await _any_open(connection):  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(0.1)
    dispatching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dispatching
    await database.close()


async def _any_open(connection: psycopg.AsyncConnection[Any]) -> bool:
    found = await connection.execute(
        "SELECT EXISTS (SELECT FROM tasks WHERE status = 'PENDING')"
        " OR EXISTS (SELECT FROM tasks WHERE status IN ('QUEUED', 'EXECUTING'))"
    )
    return (await found.fetchone()) == (True,)


async def _together(one: Any, database_url: str, count: int, *more: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one(database_url, *more))


async def _claim_and_settle(database_url: str, batch: int) -> None:
    database = Database(database_url)
    async with await connect_by_key(database) as connection:
        while claimed := await claim_batch(connection, _QUEUE, batch, owner="benchmark", lease_seconds=15):
            await settle_all(connection, [_ended(one) for one in claimed])
    await database.close()


async def settle_all(connection: Connection, ends: Sequence[Complete]) -> None:
    """Settle all of them. Rows locked by the other claimer's claim are left out, and tried again."""
    for _ in range(_MOST_TRIES):
        held = await settle_batch(connection, ends)
        ends = [end for end in ends if end.lease not in held]
        if not ends:
            return
    raise RuntimeError(f"{len(ends)} leases were lost")


def _ended(claimed: ClaimedTask) -> Complete:
    result = {"artifacts": [], "metadata": {"model": "none"}}
    return Complete(claimed.lease, result, Start(claimed.lease, "no-op#1", "no-op"))


async def _take_turns(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while (row := await (await connection.execute(_CLAIM, (_QUEUE,))).fetchone()) is not None:
            await connection.execute(_COMPLETE, row)
