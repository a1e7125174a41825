"""The Dispatcher with a pool that runs in this process: no Ray, the same rows."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import text

from compute.db.session import Database
from compute.db.tables import Task
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.errors import InvalidInput, OutOfMemory, TaskFailed
from compute.events import notify
from compute.schemas.enums import ErrorCategory
from compute.tasks import store
from compute.worker.protocol import Alive, Artifact, Done, Job, Progress, Started, WorkEvent
from tests.integration.rows import add, claim, expire, history, reload, start
from tests.patience import NEVER, PATIENCE

QUICK = DispatchPolicy(
    # Renewed every two seconds: a busy machine may stall for four before a run that goes on loses its lease.
    lease=6.0,
    poll=0.05,
    pulse=0.05,
    beat=0.2,
    retry=RetryPolicy(max_retries=2, backoff_seconds=0.01),
)
Script = Callable[[Job], AsyncGenerator[WorkEvent]]


@dataclass
class LocalPool:
    """Runs `script` for every job and remembers what happened."""

    script: Script
    hands: int = 1
    queue: str = "inference"
    executor_type: str = "test"
    resumes: bool = False
    started: list[Job] = field(default_factory=list)
    stopped: list[Job] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    def capacity(self) -> int:
        return self.hands

    def free(self) -> int:
        return self.hands - self._at_once

    def ready(self) -> int:
        return self.hands

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        self.started.append(job)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            async for event in self.script(job):
                yield event
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped.append(job)
            raise
        finally:
            self._at_once -= 1


async def succeed(job: Job) -> AsyncGenerator[WorkEvent]:
    yield Started("replica-1", "tiny")
    yield Progress(0.5)
    yield Artifact("generations/x/1/0.png", "image/png", 10, "aa", 64, 64, seed=3)
    yield Done({"model": "tiny"})


async def hang(job: Job) -> AsyncGenerator[WorkEvent]:
    yield Started("replica-1", "tiny")
    for step in range(1000):
        yield Progress(step / 1000)
        await asyncio.sleep(0.02)
    yield Done()


@asynccontextmanager
async def dispatching(
    database: Database, pool: LocalPool, policy: DispatchPolicy = QUICK, owner: str = "dispatcher"
) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(PostgresDispatchStore(database), [pool], policy, owner)
    work = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work


async def until(database: Database, task: Task, *statuses: str) -> Task:
    async with asyncio.timeout(PATIENCE):
        while (row := await reload(database, task)).status not in statuses:
            await asyncio.sleep(0.02)
    return row


async def test_an_accepted_task_runs_and_settles_with_its_artifacts(database: Database) -> None:
    task = await add(database)
    async with dispatching(database, LocalPool(succeed)):
        row = await until(database, task, "COMPLETED")
    assert row.result is not None
    assert row.result["metadata"] == {"model": "tiny"}
    assert [(artifact["path"], artifact["seed"]) for artifact in row.result["artifacts"]] == [
        ("generations/x/1/0.png", 3)
    ]
    assert (row.executor_type, row.executor_instance) == ("test", "replica-1")
    assert await history(database, task) == ["PENDING", "QUEUED", "EXECUTING", "COMPLETED"]


async def test_a_pool_is_kept_exactly_full(database: Database) -> None:
    for _ in range(9):
        await add(database)

    async def brief(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        await asyncio.sleep(0.03)
        yield Done()

    pool = LocalPool(brief, hands=3)
    last = await add(database)
    async with dispatching(database, pool):
        await until(database, last, "COMPLETED")
    assert pool.most_at_once == 3


@pytest.mark.parametrize(
    ("error", "category", "runs", "words"),
    [
        (InvalidInput("no such LoRA", field="style_model_path"), "INVALID_INPUT", 1, "Invalid input: style_model_path"),
        (TaskFailed("unsafe", category=ErrorCategory.CONTENT_POLICY), "CONTENT_POLICY", 1, "unsafe"),
        (OutOfMemory("CUDA out of memory: use a smaller size"), "OUT_OF_MEMORY", 3, "CUDA out of memory"),
        (RuntimeError("broken"), "INTERNAL", 3, "RuntimeError: broken"),
    ],
)
async def test_a_failure_is_retried_only_where_that_can_help(
    database: Database, error: Exception, category: str, runs: int, words: str
) -> None:
    async def fail(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        raise error

    task = await add(database)
    pool = LocalPool(fail)
    async with dispatching(database, pool):
        row = await until(database, task, "FAILED")
    assert len(pool.started) == runs
    assert row.error_category == category
    assert row.retry_count == runs - 1
    assert len(row.errors) == runs
    assert words in row.errors[-1]


async def test_a_run_that_fails_once_succeeds_at_the_next_attempt_with_a_higher_fence(database: Database) -> None:
    async def fail_first(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        if job.fence == 1:
            raise ConnectionError("the replica died")
        yield Done()

    task = await add(database)
    async with dispatching(database, LocalPool(fail_first)):
        row = await until(database, task, "COMPLETED")
    assert row.fence == 2
    assert await history(database, task) == [
        "PENDING", "QUEUED", "EXECUTING", "PENDING", "QUEUED", "EXECUTING", "COMPLETED",
    ]  # fmt: skip


async def test_a_stream_that_ends_without_a_result_is_a_failure(database: Database) -> None:
    async def stop_short(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")

    task = await add(database)
    async with dispatching(database, LocalPool(stop_short)):
        row = await until(database, task, "FAILED")
    assert "ended before" in row.errors[-1]


async def test_a_run_over_its_time_limit_is_stopped(database: Database) -> None:
    policy = DispatchPolicy(
        lease=6.0, poll=0.05, pulse=0.05, task_timeout=1.0, retry=RetryPolicy(max_retries=0, backoff_seconds=0)
    )
    task = await add(database)
    pool = LocalPool(hang)
    async with dispatching(database, pool, policy):
        row = await until(database, task, "FAILED")
    assert row.error_category == "PROVIDER_TIMEOUT"
    assert len(pool.stopped) == 1


@pytest.mark.parametrize("hinted", [True, False])
async def test_cancelling_a_running_task_stops_its_worker(database: Database, hinted: bool) -> None:
    task = await add(database)
    pool = LocalPool(hang)
    async with dispatching(database, pool):
        await until(database, task, "EXECUTING")
        async with database.transaction() as session:
            await store.cancel(session, task.id)
        if hinted:
            async with database.transaction() as session:
                await session.execute(
                    text("SELECT pg_notify(:channel, :id)"), {"channel": notify.CANCELLED, "id": str(task.id)}
                )
        async with asyncio.timeout(PATIENCE):
            while not pool.stopped:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
    row = await reload(database, task)
    assert row.status == "CANCELLED"
    assert len(pool.started) == 1


async def test_progress_is_written_while_the_task_runs(database: Database) -> None:
    task = await add(database)
    async with dispatching(database, LocalPool(hang)):
        async with asyncio.timeout(PATIENCE):
            while (await reload(database, task)).progress < 1.0:
                await asyncio.sleep(0.02)
        assert (await reload(database, task)).status == "EXECUTING"


async def test_the_lease_of_a_long_run_is_renewed_so_that_nobody_takes_it_over(database: Database) -> None:
    task = await add(database)

    async def endless(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        async with asyncio.timeout(PATIENCE):
            while True:
                yield Alive()
                await asyncio.sleep(0.05)

    pool = LocalPool(endless)
    lease = timedelta(seconds=QUICK.lease)
    async with dispatching(database, pool), dispatching(database, LocalPool(succeed, hands=0), owner="second"):
        first = (await until(database, task, "EXECUTING")).lease_expires_at
        async with asyncio.timeout(PATIENCE):
            # Renewed after the first lease would have ended, while the second looks for what went silent.
            while (row := await reload(database, task)).lease_expires_at <= first + lease:
                assert (row.status, row.retry_count) == ("EXECUTING", 0)
                await asyncio.sleep(0.05)
        assert (row.status, row.retry_count) == ("EXECUTING", 0)
    assert len(pool.started) == 1


async def test_the_task_of_a_dead_dispatcher_is_re_queued_and_completes(database: Database) -> None:
    task = await add(database)
    (orphan,) = await claim(database, lease=0.3)
    await start(database, orphan)
    async with dispatching(database, LocalPool(succeed)):
        row = await until(database, task, "COMPLETED")
    assert row.retry_count == 1
    assert "died or was cut off" in row.errors[0]


async def test_a_task_that_kills_its_worker_every_time_ends_as_failed(database: Database) -> None:
    task = await add(database)
    async with dispatching(database, LocalPool(succeed, hands=0)):
        for _ in range(QUICK.retry.max_retries + 1):
            async with asyncio.timeout(PATIENCE):
                while not (claimed := await claim(database, lease=NEVER)):
                    await asyncio.sleep(0.05)
            assert await start(database, claimed[0])
            await expire(database, claimed[0])
        row = await until(database, task, "FAILED")
    assert row.error_category == "INTERNAL"


async def test_a_dispatcher_that_leaves_hands_its_tasks_back_without_a_penalty(database: Database) -> None:
    task = await add(database)
    pool = LocalPool(hang)
    async with dispatching(database, pool):
        await until(database, task, "EXECUTING")
    row = await reload(database, task)
    assert (row.status, row.retry_count, row.errors) == ("PENDING", 0, [])
    assert len(pool.stopped) == 1


async def test_dispatching_goes_on_after_the_database_dropped_every_connection(database: Database) -> None:
    pool = LocalPool(succeed)
    async with dispatching(database, pool):
        await until(database, await add(database), "COMPLETED")
        async with database.transaction() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await until(database, await add(database), "COMPLETED")


async def test_a_hint_starts_a_task_long_before_the_next_poll(database: Database) -> None:
    slow = DispatchPolicy(lease=30, poll=NEVER, pulse=0.05)
    found_at_first = await add(database)
    async with dispatching(database, LocalPool(succeed), slow):
        await until(database, found_at_first, "COMPLETED")
        sender = notify.Notifier(database)
        sending = asyncio.create_task(sender.run())
        task = await add(database)
        async with asyncio.timeout(PATIENCE):
            while (await reload(database, task)).status != "COMPLETED":
                # Again and again, because it may only just begin to listen.
                sender.notify(notify.READY, "inference")
                await asyncio.sleep(0.05)
        sending.cancel()


async def test_a_result_that_cannot_be_stored_fails_its_task_and_no_other(database: Database) -> None:
    async def poison_one(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        yield Done({"text": "\x00" if job.task_id == bad.id else "fine"})

    bad, *good = [await add(database) for _ in range(4)]
    async with dispatching(database, LocalPool(poison_one, hands=4)):
        row = await until(database, bad, "FAILED")
        for task in good:
            await until(database, task, "COMPLETED")
    assert row.retry_count == QUICK.retry.max_retries


async def test_an_end_is_written_though_the_dispatcher_leaves_during_its_flush(database: Database) -> None:
    finish, finished = asyncio.Event(), asyncio.Event()

    async def finish_when_told(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        async with asyncio.timeout(PATIENCE):
            while not finish.is_set():
                yield Alive()
                await asyncio.sleep(0.01)
        yield Done()
        finished.set()

    task = await add(database)
    pool = LocalPool(finish_when_told)
    dispatcher = asyncio.create_task(Dispatcher(PostgresDispatchStore(database), [pool], QUICK, "leaving").run())
    await until(database, task, "EXECUTING")
    async with database.transaction() as session:
        await session.execute(text("SELECT FROM tasks FOR UPDATE"))
        finish.set()
        async with asyncio.timeout(PATIENCE):
            await finished.wait()
        await asyncio.sleep(0.2)
        dispatcher.cancel()
        await asyncio.sleep(0.2)
        assert not dispatcher.done()
    with pytest.raises(asyncio.CancelledError):
        await dispatcher
    assert (await reload(database, task)).status == "COMPLETED"
    assert pool.stopped == []
