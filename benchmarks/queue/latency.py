"""Time on an idle system from the acceptance of a task until its row says that a replica works on it."""

import asyncio
import contextlib
import time

import psycopg

from benchmarks.queue.drain import NoOpPool
from benchmarks.rows import empty, tidy
from compute.db.session import Database
from compute.db.tables import Task
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.events import notify
from compute.tasks.ids import new_task_id
from compute.tasks.submission.writer import Submission, TaskWriter

__all__ = ["enqueue_to_start"]

_STARTED = "SELECT extract(epoch FROM started_at) FROM tasks WHERE id = %s AND status = 'COMPLETED'"
_PAUSE_SECONDS = 0.05


def enqueue_to_start(database_url: str, *, tasks: int) -> list[float]:
    """Milliseconds from the commit that accepts a task to `started_at`, one task at a time."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        empty(connection)
        tidy(connection)
    return asyncio.run(_measure(database_url, tasks))


async def _measure(database_url: str, tasks: int) -> list[float]:
    database = Database(database_url)
    sender = notify.Notifier(database)
    # Polling is disabled, so that the notification is measured.
    dispatcher = Dispatcher(PostgresDispatchStore(database), [NoOpPool(4)], DispatchPolicy(poll=30), "benchmark")
    work = [asyncio.create_task(dispatcher.run()), asyncio.create_task(sender.run())]
    writer = TaskWriter(database, sender)
    await asyncio.sleep(1)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        waits = [await _one(writer, connection) for _ in range(tasks + 5)][5:]
    for each in work:
        each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await each
    await writer.close()
    await database.close()
    return waits


async def _one(writer: TaskWriter, connection: psycopg.AsyncConnection) -> float:
    task = Task(
        id=new_task_id(),
        task_type="GENERATION",
        queue=NoOpPool(1).queue,
        tenant="default",
        priority=1,
        spec={"num_outputs": 1},
        origin_instance="benchmark",
    )
    await writer.submit(Submission([task]))
    accepted = time.time()
    while True:
        await asyncio.sleep(_PAUSE_SECONDS)
        row = await (await connection.execute(_STARTED, (task.id,))).fetchone()
        if row is not None:
            return (float(row[0]) - accepted) * 1000
