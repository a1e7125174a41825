"""Cost of a claim in the worst cases of the present tables: `python -m benchmarks.queue.claim_extremes`.

While another session holds a snapshot open (a report, a backup, a long write in another database), dead rows cannot be
removed, and a claim steps over those that earlier claims have left in its indexes. And every waiting tenant is a hop
of the claim. Both will go with the next form of the queue; until then these are the figures to watch.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from benchmarks.harness import Server, arguments, median, postgres, print_table, spread
from benchmarks.queue.claim_cost import claim_once
from benchmarks.rows import empty, fill_waiting, settle, tidy
from compute.db.direct import DirectConnection
from compute.db.session import Database

_QUEUE = "extremes"
_BATCH = 500


def main() -> None:
    parser = arguments(__doc__, rounds=15)
    parser.add_argument(
        "--churn", type=int, default=40_000, help="tasks claimed and settled during the snapshot (40000)"
    )
    parser.add_argument("--tenants", type=int, nargs="+", default=[1, 100, 1_000, 20_000], help="(1 100 1000 20000)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.churn, options.tenants = 3, 2_000, [1, 1_000]
    with postgres() as server, asyncio.Runner() as runner:
        run_snapshot(server, runner, churn=options.churn, rounds=options.rounds)
        run_tenants(server, runner, options.tenants, rounds=options.rounds)


def run_snapshot(server: Server, runner: asyncio.Runner, *, churn: int, rounds: int) -> None:
    """Print a claim of 10 rows before and after `churn` tasks, without a snapshot held open and with one."""
    rows = []
    for held in (False, True):
        url = server.database(f"snapshot_{held}".lower())
        with _backlog(url, tenants=1) as connection, _snapshot(url, held):
            before = _claims(runner, url, connection, rounds)
            runner.run(_churn(url, connection, churn))
            after = _claims(runner, url, connection, rounds)
        name = "a snapshot held open" if held else "none"
        rows.append((name, spread(before, 1), spread(after, 1), f"{median(after) / median(before):.1f}x"))
    print_table(f"A claim of 10 rows in ms, around {churn:,} tasks", ("snapshot", "before", "after", "ratio"), rows)


def run_tenants(server: Server, runner: asyncio.Runner, tenants: list[int], *, rounds: int) -> None:
    """Print a claim of one row by the number of waiting tenants."""
    rows = []
    for count in tenants:
        url = server.database(f"tenants_{count}")
        with _backlog(url, tenants=count) as connection:
            rows.append((f"{count:,}", spread(_claims(runner, url, connection, rounds, limit=1), 1)))
    print_table("A claim of one row in ms", ("waiting tenants", "ms"), rows)


@contextmanager
def _backlog(url: str, *, tenants: int) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(url, autocommit=True) as connection:
        empty(connection)
        fill_waiting(connection, queue=_QUEUE, count=max(10_000, tenants), tenants=tenants)
        tidy(connection)
        yield connection


@contextmanager
def _snapshot(url: str, held: bool) -> Iterator[None]:
    if not held:
        yield
        return
    with psycopg.connect(url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM tasks")
        yield


def _claims(
    runner: asyncio.Runner, url: str, connection: psycopg.Connection[tuple[object, ...]], rounds: int, limit: int = 10
) -> list[float]:
    async def claim_all() -> list[float]:
        database = Database(url)
        link = DirectConnection(database)
        took = []
        for _ in range(rounds):
            took.append(1000 * await link.run(partial(claim_once, queue=_QUEUE, limit=limit)))
            await asyncio.to_thread(settle, connection, queue=_QUEUE)
        await link.close()
        await database.close()
        return took

    return runner.run(claim_all())


async def _churn(url: str, connection: psycopg.Connection[tuple[object, ...]], tasks: int) -> None:
    database = Database(url)
    link = DirectConnection(database)
    for _ in range(tasks // _BATCH):
        await link.run(partial(claim_once, queue=_QUEUE, limit=_BATCH))
        await asyncio.to_thread(settle, connection, queue=_QUEUE)
    await link.close()
    await database.close()


if __name__ == "__main__":
    main()
