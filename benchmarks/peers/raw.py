"""The floor: asyncpg, a table of three columns, one statement to claim a batch and one to complete it."""

import asyncio
import time

import asyncpg

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

__all__ = ["drain", "enqueue", "install"]

_TABLE = """
CREATE TABLE jobs (id bigint PRIMARY KEY, status text NOT NULL, payload text NOT NULL) WITH (fillfactor = 70);
CREATE INDEX jobs_ready ON jobs (id) WHERE status = 'ready';
"""
_FILL = "INSERT INTO jobs SELECT n, 'ready', 'a payload' FROM generate_series(0, %s) AS n"
_CLAIM = """
UPDATE jobs SET status = 'taken'
 WHERE id = ANY (ARRAY(SELECT id FROM jobs WHERE status = 'ready' ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING id
"""
_COMPLETE = "UPDATE jobs SET status = 'done' WHERE id = ANY ($1::bigint[]) AND status = 'taken'"
_INSERT = "INSERT INTO jobs VALUES ($1, 'ready', 'a payload')"
_INSERT_MANY = "INSERT INTO jobs SELECT id, 'ready', 'a payload' FROM unnest($1::bigint[]) AS given (id)"


def install(url: str) -> None:
    with connect(url) as connection:
        connection.execute(_TABLE)


def drain(url: str, jobs: int, *, claimers: int, batch: int) -> float:
    """Jobs per second through `claimers` connections of one process."""
    run_on_uvloop(_drain(url, WARM_UP, claimers, batch))
    return run_on_uvloop(_drain(url, jobs, claimers, batch))


def enqueue(url: str, jobs: int) -> Accepted:
    run_on_uvloop(_enqueue(url, WARM_UP))
    return run_on_uvloop(_enqueue(url, jobs))


async def _drain(url: str, jobs: int, claimers: int, batch: int) -> float:
    with connect(url) as admin:
        empty(admin, ["jobs"])
        admin.execute(_FILL, (jobs - 1,))
        tidy(admin, ["jobs"])
    connections = [await asyncpg.connect(url) for _ in range(claimers)]
    tally = Tally(jobs)
    began = time.time()
    await asyncio.gather(*[_claimer(connection, batch, tally) for connection in connections])
    reached = rate(jobs, began)
    for connection in connections:
        await connection.close()
    tally.check()
    _check(url, jobs)
    return reached


async def _claimer(connection: asyncpg.Connection, batch: int, tally: Tally) -> None:
    claim, complete = await connection.prepare(_CLAIM), await connection.prepare(_COMPLETE)
    while rows := await claim.fetch(batch):
        taken = [row[0] for row in rows]
        for job in taken:
            tally.ran(job)
        await complete.fetch(taken)


async def _enqueue(url: str, jobs: int) -> Accepted:
    with connect(url) as admin:
        empty(admin, ["jobs"])
        connection = await asyncpg.connect(url)
        async with asyncpg.create_pool(url, min_size=CLIENTS, max_size=CLIENTS) as pool:
            accepted = await accept(
                jobs,
                lambda some: connection.execute(_INSERT_MANY, list(some)),
                lambda job: pool.execute(_INSERT, job),
                alone=lambda job: connection.execute(_INSERT, job),
            )
        await connection.close()
        expected = sum(len(share) for share in shares(jobs))
        if admin.execute("SELECT count(*) FROM jobs WHERE status = 'ready'").fetchone() != (expected,):
            raise RuntimeError(f"raw SQL: not all of {expected} jobs are queued")
    return accepted


def _check(url: str, jobs: int) -> None:
    with connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM jobs WHERE status = 'done'").fetchone()
    if row != (jobs,):
        raise RuntimeError(f"raw SQL: {row} of {jobs} jobs are done")
