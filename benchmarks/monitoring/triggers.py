"""What the triggers that count tasks cost: `python -m benchmarks.monitoring.triggers`.

No-op tasks are inserted, claimed, started and completed over one connection, by so many rows in each statement, in
turns in a database with the triggers and in one without: the processor time of the connection's server process.
Counts are folded and rows removed between the rounds, untimed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import psutil
import psycopg

from benchmarks.harness import arguments, interleave, postgres, print_table, ratio, spread
from benchmarks.monitoring.writing import new_task, run_through
from compute.db.direct import connect_by_key
from compute.db.session import Connection, Database
from compute.monitoring.fold import fold

_ROWS = {1_000: 10, 100: 60, 1: 500}
"""By the number of rows in a statement, how many times that in a round."""
_ARMS = ("with", "without")


def main() -> None:
    options = arguments(__doc__, rounds=9).parse_args()
    rounds = 2 if options.quick else options.rounds
    with postgres() as server:
        urls = {arm: server.database(arm) for arm in _ARMS}
        with psycopg.connect(urls["without"], autocommit=True) as connection:
            connection.execute("ALTER TABLE tasks DISABLE TRIGGER USER")
        with asyncio.Runner() as runner:
            often = {rows: 1 if options.quick else times for rows, times in _ROWS.items()}
            rows = [_compare(runner, urls, at_a_time, times, rounds) for at_a_time, times in often.items()]
    print_table(
        f"Microseconds of the server's processor for a task from its insert to its end, {rounds} rounds",
        ["rows in a statement", "without", "with", "ratio"],
        rows,
    )


def _compare(runner: asyncio.Runner, urls: dict[str, str], at_a_time: int, times: int, rounds: int) -> list[str]:
    stack = AsyncExitStack()
    places = {arm: runner.run(stack.enter_async_context(_place(url))) for arm, url in urls.items()}
    try:
        arms = {arm: partial(_once, runner, *places[arm], at_a_time, times) for arm in _ARMS}
        for arm in arms.values():
            # The first round finds empty caches, and is not what is asked for.
            arm()
        found = interleave(arms, rounds)
    finally:
        runner.run(stack.aclose())
    figures = [spread([1e6 * one for one in found[arm]], 0) for arm in ("without", "with")]
    return [str(at_a_time), *figures, ratio(found["with"], found["without"])]


@asynccontextmanager
async def _place(url: str) -> AsyncIterator[tuple[Database, Connection]]:
    database = Database(url)
    async with await connect_by_key(database) as connection:
        yield database, connection
    await database.close()


def _once(runner: asyncio.Runner, database: Database, connection: Connection, at_a_time: int, times: int) -> float:
    """The seconds of one task."""
    return runner.run(_timed(database, connection, at_a_time, times))


async def _timed(database: Database, connection: Connection, at_a_time: int, times: int) -> float:
    server = psutil.Process(connection.info.backend_pid)
    began = sum(server.cpu_times()[:2])
    for _ in range(times):
        await run_through(connection, [new_task(number % 10) for number in range(at_a_time)])
    seconds = sum(server.cpu_times()[:2]) - began
    await fold(database)
    await connection.execute("DELETE FROM tasks")
    await fold(database)
    await connection.execute("VACUUM tasks, task_events, work_news, work_sums")
    return seconds / at_a_time / times


if __name__ == "__main__":
    main()
