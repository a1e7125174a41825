"""Cost of one fair claim, by the number of finished rows, of waiting tenants and of claimed rows."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg

from benchmarks.harness import Server, interleave, median, print_table, say, spread
from benchmarks.rows import fill_finished, fill_waiting, settle, tidy
from compute.db.direct import connect_by_key
from compute.db.session import Connection, Database
from compute.dispatch.fairness import claim_batch

__all__ = ["claim_once", "report_claims"]

LIMITS = (1, 10, 100)
TENANTS = (1, 100, 1000)


@dataclass(frozen=True, slots=True)
class _Backlog:
    """A database with one queue for each number of tenants."""

    direct: Connection
    connection: psycopg.Connection[Any]
    runner: asyncio.Runner


def report_claims(server: Server, *, finished: tuple[int, int], waiting: int, rounds: int, claims: int) -> None:
    """Print the median of a whole claim (statement, event rows, commit), `claims` of them in each round."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        backlogs = {count: stack.enter_context(_backlog(server, count, waiting, runner)) for count in finished}
        arms = {
            f"{tenants} {limit} {count}": partial(_claim_often, backlogs[count], tenants, limit, claims)
            for tenants in TENANTS
            for limit in LIMITS
            for count in finished
        }
        for arm in arms.values():
            arm()
        results = interleave(arms, rounds)
    few, many = finished
    rows = []
    for tenants in TENANTS:
        for limit in LIMITS:
            small, large = results[f"{tenants} {limit} {few}"], results[f"{tenants} {limit} {many}"]
            ratio = f"{median(large) / median(small):.2f}x"
            rows.append((f"{limit} rows, {tenants} tenants", spread(small, 1), spread(large, 1), ratio))
    print_table(
        f"One claim in ms, {waiting:,} rows waiting; medians of {rounds} rounds of {claims} (and their range)",
        ("", f"{few:,} finished", f"{many:,} finished", "ratio"),
        rows,
    )


@contextmanager
def _backlog(server: Server, finished: int, waiting: int, runner: asyncio.Runner) -> Iterator[_Backlog]:
    began = time.perf_counter()
    url = server.database(f"claims_{finished}")
    database = Database(url)
    with psycopg.connect(url, autocommit=True) as connection:
        fill_finished(connection, finished)
        for tenants in TENANTS:
            fill_waiting(connection, queue=_queue(tenants), count=waiting, tenants=tenants)
        tidy(connection)
        say(f"  {finished:,} finished rows written in {time.perf_counter() - began:.0f} s")
        direct = runner.run(connect_by_key(database))
        yield _Backlog(direct, connection, runner)
        runner.run(direct.close())


def _claim_often(backlog: _Backlog, tenants: int, limit: int, claims: int) -> float:
    """Return the median of `claims` claims in milliseconds; between claims the rows are settled and replaced."""
    seconds = []
    for _ in range(claims):
        seconds.append(backlog.runner.run(claim_once(backlog.direct, _queue(tenants), limit)))
        settle(backlog.connection, queue=_queue(tenants))
    return median(seconds) * 1000


async def claim_once(connection: Connection, queue: str, limit: int) -> float:
    """Claim exactly `limit` rows and return the seconds."""
    began = time.perf_counter()
    tasks = await claim_batch(connection, queue, limit, owner="benchmark", lease_seconds=15)
    took = time.perf_counter() - began
    if len(tasks) != limit:
        raise RuntimeError(f"claimed {len(tasks)} rows, not {limit}")
    return took


def _queue(tenants: int) -> str:
    return f"tenants-{tenants}"
