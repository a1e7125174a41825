"""Our own queue: the store's batches alone, and the whole Dispatcher with a no-op pool."""

import asyncio
import time

import uvloop

from benchmarks.peers.arm import WARM_UP, connect, empty, rate, run_on_uvloop, tidy
from benchmarks.queue.drain import drain_with_dispatcher, settle_all
from benchmarks.rows import fill_waiting
from compute.db.direct import connect_by_key
from compute.db.session import Connection, Database
from compute.dispatch.fairness import claim_batch
from compute.tasks.leases import Complete, Start

__all__ = ["dispatch", "drain"]

_QUEUE = "inference"
_TENANTS = 10
_TABLES = ("tasks", "task_events")
_LEASE_SECONDS = 15.0
_RESULT = {"artifacts": [], "metadata": {"model": "none"}}
_COUNTS = """
SELECT (SELECT count(*) FROM tasks WHERE status = 'COMPLETED' AND fence = 1 AND result IS NOT NULL), count(*),
       count(DISTINCT (task_id, status)) FILTER (WHERE status IN ('QUEUED', 'EXECUTING', 'COMPLETED'))
  FROM task_events
"""


def drain(url: str, jobs: int, *, claimers: int, batch: int) -> float:
    """Jobs per second through `claimers` connections of one process: fair claim, lease, start, end, three events."""
    run_on_uvloop(_drain(url, WARM_UP, claimers, batch))
    return run_on_uvloop(_drain(url, jobs, claimers, batch))


def dispatch(url: str, jobs: int, *, hands: int) -> float:
    """Return jobs per second through a whole Dispatcher with `hands` jobs in flight."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    drain_with_dispatcher(url, tasks=WARM_UP, hands=hands)
    reached = drain_with_dispatcher(url, tasks=jobs, hands=hands).per_second
    _check(url, jobs)
    return reached


async def _drain(url: str, jobs: int, claimers: int, batch: int) -> float:
    with connect(url) as admin:
        empty(admin, _TABLES)
        fill_waiting(admin, queue=_QUEUE, count=jobs, tenants=_TENANTS)
        tidy(admin, _TABLES)
    database = Database(url)
    connections = [await connect_by_key(database) for _ in range(claimers)]
    began = time.time()
    await asyncio.gather(*[_claimer(connection, batch) for connection in connections])
    reached = rate(jobs, began)
    for connection in connections:
        await connection.close()
    await database.close()
    _check(url, jobs)
    return reached


async def _claimer(connection: Connection, batch: int) -> None:
    while claimed := await claim_batch(connection, _QUEUE, batch, owner="benchmark", lease_seconds=_LEASE_SECONDS):
        ended = [
            Complete(one.lease, _RESULT, Start(one.lease, executor="no-op#1", executor_type="no-op")) for one in claimed
        ]
        await settle_all(connection, ended)


def _check(url: str, jobs: int) -> None:
    with connect(url) as connection:
        row = connection.execute(_COUNTS).fetchone()
    if row != (jobs, 3 * jobs, 3 * jobs):
        raise RuntimeError(f"ours: completed once, events, distinct events are {row}, for {jobs} jobs")
