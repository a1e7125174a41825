"""procrastinate as in its documentation of a worker: psycopg's pool, `wait=False`, finished jobs kept."""

import procrastinate
from procrastinate.types import JSONDict

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

_TABLES = ("procrastinate_jobs", "procrastinate_events")


def install(url: str) -> None:
    run_on_uvloop(_install(url))


def drain(url: str, jobs: int, *, concurrency: int) -> float:
    """Return jobs per second through one worker, from the first job that runs to its last event."""
    run_on_uvloop(_drain(url, WARM_UP, concurrency))
    return run_on_uvloop(_drain(url, jobs, concurrency))


def enqueue(url: str, jobs: int) -> Accepted:
    run_on_uvloop(_enqueue(url, WARM_UP))
    return run_on_uvloop(_enqueue(url, jobs))


async def _install(url: str) -> None:
    app = _app(url, connections=1)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


def _app(url: str, connections: int) -> procrastinate.App:
    connector = procrastinate.PsycopgConnector(conninfo=url, min_size=connections, max_size=connections)
    return procrastinate.App(connector=connector)


async def _drain(url: str, jobs: int, concurrency: int) -> float:
    # One connection for each job that runs, one to fetch the next, one that listens.
    app = _app(url, connections=concurrency + 2)
    tally = Tally(jobs)

    @app.task(name="noop")
    async def noop(job: int) -> None:
        tally.ran(job)

    async with app.open_async():
        with connect(url) as connection:
            empty(connection, _TABLES)
            await noop.batch_defer_async(*_arguments(range(jobs)))
            tidy(connection, _TABLES)
        await app.run_worker_async(concurrency=concurrency, wait=False, install_signal_handlers=False)
    tally.check()
    return rate(jobs, tally.began, _check(url, jobs))


async def _enqueue(url: str, jobs: int) -> Accepted:
    app = _app(url, connections=CLIENTS)

    @app.task(name="noop")
    async def noop(job: int) -> None:
        """Only ever queued here."""

    with connect(url) as connection:
        empty(connection, _TABLES)
        async with app.open_async():
            accepted = await accept(
                jobs,
                lambda some: noop.batch_defer_async(*_arguments(some)),
                lambda job: noop.defer_async(job=job),
            )
        expected = sum(len(share) for share in shares(jobs))
        if connection.execute("SELECT count(DISTINCT args) FROM procrastinate_jobs").fetchone() != (expected,):
            raise RuntimeError(f"procrastinate: not all of {expected} jobs are queued")
    return accepted


def _arguments(jobs: range) -> list[JSONDict]:
    return [{"job": job} for job in jobs]


def _check(url: str, jobs: int) -> float:
    """Return the time when the last job succeeded, in seconds of the epoch."""
    with connect(url) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT job_id), extract(epoch FROM max(at)),"
            "       (SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded' AND attempts = 1)"
            "  FROM procrastinate_events WHERE type = 'succeeded'"
        ).fetchone()
    assert row is not None
    events, distinct, ended, succeeded = row
    if (events, distinct, succeeded) != (jobs, jobs, jobs):
        raise RuntimeError(f"procrastinate: {succeeded} of {jobs} succeeded, {events} events, {distinct} distinct")
    return float(ended)
