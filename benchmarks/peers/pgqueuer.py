"""pgqueuer, run as its own benchmark runs a drain: asyncpg, one connection a consumer, uvloop, `mode=drain`.

Its guide to performance asks for `pgq autovac` after the installation and one plain connection for each queue manager;
both are done. Tables are logged ("durable"), as installed.
"""

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries
from pgqueuer.types import QueueEntrypoint, QueueExecutionMode, QueueManagerId

from benchmarks.peers.arm import (
    CLIENTS,
    WARM_UP,
    Accepted,
    Tally,
    accept,
    connect,
    empty,
    rate,
    run_on_uvloop,
    shares,
    tidy,
)

__all__ = ["drain", "drain_by_queries", "enqueue", "install"]

_ENTRYPOINT = "noop"
_TABLES = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics")


def install(url: str) -> None:
    run_on_uvloop(_install(url))


def drain(url: str, jobs: int, *, consumers: int, batch: int) -> float:
    """Return jobs per second through whole consumers, from the first job that runs to the last row they write.

    The consumer's work before (it checks the whole schema) and after is not counted.
    """
    run_on_uvloop(_drain(url, WARM_UP, consumers, batch))
    return run_on_uvloop(_drain(url, jobs, consumers, batch))


def drain_by_queries(url: str, jobs: int, *, claimers: int, batch: int) -> float:
    """Return jobs per second through pgqueuer's two statements alone, without its worker."""
    run_on_uvloop(_drain_by_queries(url, WARM_UP, claimers, batch))
    return run_on_uvloop(_drain_by_queries(url, jobs, claimers, batch))


def enqueue(url: str, jobs: int) -> Accepted:
    run_on_uvloop(_enqueue(url, WARM_UP))
    return run_on_uvloop(_enqueue(url, jobs))


async def _install(url: str) -> None:
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    await connection.close()


async def _drain(url: str, jobs: int, consumers: int, batch: int) -> float:
    connections = [await asyncpg.connect(url) for _ in range(consumers)]
    try:
        await _fill(connections[0], url, jobs)
        tally = Tally(jobs)
        workers = [_worker(connection, tally) for connection in connections]
        await asyncio.gather(*[worker.run(batch_size=batch, mode=QueueExecutionMode.drain) for worker in workers])
    finally:
        for connection in connections:
            await connection.close()
    tally.check()
    return rate(jobs, tally.began, _check(url, jobs))


async def _drain_by_queries(url: str, jobs: int, claimers: int, batch: int) -> float:
    connections = [await asyncpg.connect(url) for _ in range(claimers)]
    try:
        await _fill(connections[0], url, jobs)
        tally = Tally(jobs)
        began = time.time()
        await asyncio.gather(*[_claimer(connection, batch, tally) for connection in connections])
        reached = rate(jobs, began)
    finally:
        for connection in connections:
            await connection.close()
    tally.check()
    _check(url, jobs)
    return reached


async def _claimer(connection: asyncpg.Connection, batch: int, tally: Tally) -> None:
    queries, owner = Queries(AsyncpgDriver(connection)), QueueManagerId(uuid4())
    entrypoints = {QueueEntrypoint(_ENTRYPOINT): EntrypointExecutionParameter(concurrency_limit=0)}
    while taken := await queries.dequeue(batch, entrypoints, owner, None, timedelta(seconds=30)):
        for job in taken:
            tally.ran(int(job.payload or b""))
        await queries.log_jobs([(job, "successful", None) for job in taken])


async def _enqueue(url: str, jobs: int) -> Accepted:
    with connect(url) as admin:
        empty(admin, _TABLES)
    # One connection for one client, a pool for many, as in its guide.
    connection = await asyncpg.connect(url)
    single = Queries(AsyncpgDriver(connection))
    async with asyncpg.create_pool(url, min_size=CLIENTS, max_size=CLIENTS) as pool:
        pooled = Queries(AsyncpgPoolDriver(pool))
        accepted = await accept(
            jobs,
            lambda some: single.enqueue(
                [_ENTRYPOINT] * len(some), [str(job).encode() for job in some], [0] * len(some)
            ),
            lambda job: pooled.enqueue(_ENTRYPOINT, str(job).encode()),
            alone=lambda job: single.enqueue(_ENTRYPOINT, str(job).encode()),
        )
    await connection.close()
    expected = sum(len(share) for share in shares(jobs))
    with connect(url) as admin:
        if admin.execute("SELECT count(DISTINCT payload) FROM pgqueuer").fetchone() != (expected,):
            raise RuntimeError(f"pgqueuer: not all of {expected} jobs are queued")
    return accepted


def _worker(connection: asyncpg.Connection, tally: Tally) -> PgQueuer:
    worker = PgQueuer(AsyncpgDriver(connection))

    @worker.entrypoint(_ENTRYPOINT)
    async def noop(job: Job) -> None:
        tally.ran(int(job.payload or b""))

    return worker


async def _fill(connection: asyncpg.Connection, url: str, jobs: int) -> None:
    with connect(url) as admin:
        empty(admin, _TABLES)
        queries = Queries(AsyncpgDriver(connection))
        await queries.enqueue([_ENTRYPOINT] * jobs, [str(job).encode() for job in range(jobs)], [0] * jobs)
        tidy(admin, _TABLES)


def _check(url: str, jobs: int) -> float:
    """Return the time when the last job was logged, in seconds of the epoch."""
    with connect(url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM pgqueuer), count(*), count(DISTINCT job_id), extract(epoch FROM max(created))"
            "  FROM pgqueuer_log WHERE status = 'successful'"
        ).fetchone()
    assert row is not None
    left, logged, distinct, ended = row
    if (left, logged, distinct) != (0, jobs, jobs):
        raise RuntimeError(f"pgqueuer: {left} of {jobs} jobs are left, {logged} are logged, {distinct} distinct")
    return float(ended)
