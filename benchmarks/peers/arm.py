"""Common parts of all peers: a fresh process, a loop, a tally of runs, and databases of their own."""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import psycopg
import uvloop
from psycopg import sql

from benchmarks.harness import Server
from compute.db.session import normal_url

__all__ = [
    "BULK",
    "CLIENTS",
    "WARM_UP",
    "Accepted",
    "Arm",
    "Tally",
    "accept",
    "connect",
    "empty",
    "empty_database",
    "fresh",
    "rate",
    "run_on_uvloop",
    "shares",
    "tidy",
]

P = ParamSpec("P")
T = TypeVar("T")

WARM_UP = 300
"""Jobs that every arm drains in its process before those that count."""
CLIENTS = 32
"""Concurrent clients of the figure for many clients."""
BULK = 1000
"""Jobs of one call of the figure for bulk."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to empty a queue. `drain` fills it with `jobs`, empties it, checks it, and returns jobs per second.

    With `column` the other arms are compared with it, under that title.
    """

    name: str
    jobs: int
    drain: Callable[[], float]
    column: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Jobs per second submitted by one client, by `CLIENTS` at once, and by one with `BULK` a call."""

    one: float
    many: float
    bulk: float


class Tally:
    """The number of runs of each job in this process, and the time of the first (`time.time()`)."""

    def __init__(self, jobs: int) -> None:
        self._runs = bytearray(jobs)
        self.began = 0.0

    def ran(self, job: int) -> None:
        self._runs[job] += 1
        if not self.began:
            self.began = time.time()

    def check(self) -> None:
        """Raises RuntimeError unless each job ran once."""
        once = self._runs.count(1)
        if once != len(self._runs):
            raise RuntimeError(f"{once} of {len(self._runs)} jobs ran exactly once")


def fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a new Python process that has imported its module only."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


def run_on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop, as Ray's actors and pgqueuer's own benchmark do; every arm with a loop uses it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def empty_database(server: Server, name: str) -> str:
    """Create a database without our tables; return its libpq address."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return normal_url(server.url).set(drivername="postgresql", database=name).render_as_string(hide_password=False)


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)


def empty(connection: psycopg.Connection[Any], tables: Sequence[str]) -> None:
    """Empty the tables and write everything out, so that no arm pays for the one before it.

    It runs before the jobs are stored: pages that were made since the last checkpoint need no image in the log,
    which is the normal state of a queue whose jobs are short-lived.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, tables))
    connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(names))
    connection.execute("CHECKPOINT")
    os.sync()


def tidy(connection: psycopg.Connection[Any], tables: Sequence[str]) -> None:
    """Vacuum, as autovacuum would within a minute."""
    for table in tables:
        connection.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(table)))


def shares(jobs: int) -> tuple[range, range, range]:
    """Return the jobs that are submitted one by one, by many clients, and in bulk, without overlap."""
    one, many = jobs // 10, jobs // 2
    return range(one), range(one, one + many), range(one + many, one + many + jobs)


Submit = Callable[[int], Awaitable[object]]


async def accept(
    jobs: int, submit_bulk: Callable[[range], Awaitable[object]], submit: Submit, *, alone: Submit | None = None
) -> Accepted:
    """Measure the three ways to submit. `submit` runs `CLIENTS` times at once; `alone`, if different, does not."""
    one, many, bulk = shares(jobs)
    began = time.time()
    await _submit_each(iter(one), alone or submit)
    one_rate = rate(len(one), began)
    queue, began = iter(many), time.time()
    await asyncio.gather(*[_submit_each(queue, submit) for _ in range(CLIENTS)])
    many_rate = rate(len(many), began)
    began = time.time()
    for start in bulk[::BULK]:
        await submit_bulk(range(start, min(start + BULK, bulk.stop)))
    return Accepted(one_rate, many_rate, rate(len(bulk), began))


async def _submit_each(jobs: Iterator[int], submit: Submit) -> None:
    for job in jobs:
        await submit(job)


def rate(jobs: int, began: float, ended: float | None = None) -> float:
    """Return jobs per second between two readings of `time.time()`; without the second one, until now."""
    return jobs / ((time.time() if ended is None else ended) - began)
