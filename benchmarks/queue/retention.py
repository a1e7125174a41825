"""Speed of retention, and its effect on other clients: `python -m benchmarks.queue.retention`.

Ended tasks with two events each, one in ten with a delivered webhook, are deleted by a process of its own,
while this one submits a task at a time, as an ingress does, and before that without. They have no files, whose removal
depends on the store. The longest batch is the longest call of the database.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.harness import Server, arguments, as_nice_as_ray, postgres, print_table, say
from compute.db.direct import DirectConnection
from compute.db.session import Database
from compute.db.tables import Task
from compute.events.notify import Notifier
from compute.retention.pruner import Pruner
from compute.storage.local import LocalStore
from compute.tasks.ids import new_task_id
from compute.tasks.submission.writer import Submission, TaskWriter

_FILL = """
WITH made AS (
    INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, result, origin_instance, created_at,
                       updated_at, completed_at)
    SELECT gen_random_uuid(), 'GENERATION', 'inference', 'default', 1, 'COMPLETED',
           jsonb_build_object('prompt', repeat('a red dress on a chair, ', 20), 'seed', place),
           '{"artifacts": []}', 'b', moment, moment, moment
      FROM (SELECT place, now() - interval '100 days' * %(age)s + place * interval '10 ms' AS moment
              FROM generate_series(1, %(tasks)s) AS place) AS ended
    RETURNING id, created_at
), logged AS (
    INSERT INTO task_events (task_id, type, status) SELECT made.id, 'TASK_STATUS', passed
      FROM made CROSS JOIN unnest(ARRAY['EXECUTING', 'COMPLETED']) AS passed
), told AS (
    INSERT INTO webhook_deliveries (id, task_id, url, payload, status, delivered_at)
    SELECT gen_random_uuid(), id, 'http://receiver/', '{}', 'DELIVERED', created_at FROM made WHERE random() < 0.1
    RETURNING id
)
INSERT INTO webhook_attempts (delivery_id, duration_ms) SELECT id, 1 FROM told
"""


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--tasks", type=int, default=100_000, help="old ones; as many more stay (100000)")
    options = parser.parse_args()
    if options.quick:
        options.tasks = 2000
    with postgres() as server:
        run(server, options)


def run(server: Server, options: argparse.Namespace) -> None:
    rows = []
    for number in range(options.rounds):
        url = server.database(f"retention{number}")
        with psycopg.connect(url, autocommit=True) as connection:
            for age in (1, 0.1):
                connection.execute(_FILL, {"tasks": options.tasks, "age": age})
            connection.execute("VACUUM ANALYZE")
        alone = asyncio.run(_submit(url, lambda waited: waited >= 10))
        ours, theirs = multiprocessing.Pipe()
        forgetting = multiprocessing.get_context("spawn").Process(target=_forget, args=(theirs, url, server.home))
        forgetting.start()
        ours.recv()
        beside = asyncio.run(_submit(url, partial(_answered, ours)))
        seconds, forgotten, longest = ours.recv()
        forgetting.join()
        say(f"  deleted {forgotten:,} tasks in {seconds:.0f} s")
        rows.append(
            (f"{forgotten / seconds:,.0f}", f"{longest * 1000:.0f}", *_percentiles(alone), *_percentiles(beside))
        )
    columns = ("tasks/s", "longest batch, ms", "submit p50, ms", "p95", "p99", "during it p50", "p95", "p99")
    print_table(f"Deleting {options.tasks:,} of {2 * options.tasks:,} tasks", columns, rows)


def _answered(process: Connection, _waited: float) -> bool:
    return process.poll()


def _percentiles(seconds: list[float]) -> tuple[str, str, str]:
    ordered = sorted(seconds)
    p50, p95, p99 = (f"{ordered[int(len(ordered) * share)] * 1000:.1f}" for share in (0.5, 0.95, 0.99))
    return p50, p95, p99


async def _submit(url: str, enough: Callable[[float], bool]) -> list[float]:
    """Submit one task after another and return the seconds of each."""
    database = Database(url)
    writer = TaskWriter(database, Notifier(database))
    took, began = [], time.perf_counter()
    while not enough(time.perf_counter() - began):
        at = time.perf_counter()
        await writer.submit(Submission([_task()]))
        took.append(time.perf_counter() - at)
        await asyncio.sleep(0.005)
    await writer.close()
    await database.close()
    return took


def _task() -> Task:
    return Task(
        id=new_task_id(),
        task_type="GENERATION",
        queue="inference",
        tenant="default",
        priority=1,
        spec={"prompt": "a lighthouse"},
        origin_instance="benchmark",
    )


class _Timed(DirectConnection):
    longest = 0.0

    async def run(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        began = time.perf_counter()
        try:
            return await super().run(work)
        finally:
            self.longest = max(self.longest, time.perf_counter() - began)


def _forget(connection: Connection, url: str, home: Path) -> None:
    as_nice_as_ray()

    async def forget() -> tuple[float, int, float]:
        database = Database(url)
        pruner = Pruner(database, LocalStore(home / "storage"), timedelta(days=30), "benchmark")
        timed = pruner._connection = _Timed(database)
        connection.send("begin")
        began = time.perf_counter()
        found = await pruner.prune()
        seconds = time.perf_counter() - began
        await database.close()
        return seconds, found[0].forgotten, timed.longest

    connection.send(asyncio.run(forget()))


if __name__ == "__main__":
    main()
