"""The counts are what counting the rows would give, whoever writes what in whatever order. History outlives rows."""

import asyncio
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import func, select, text

from compute.db import migrations
from compute.db.migrations.upgrade import alembic_config, upgrade
from compute.db.session import Database
from compute.db.tables import Task, Workflow, WorkflowStep, WorkNews, WorkTime
from compute.monitoring.fold import fold
from compute.monitoring.queues import queue_states
from compute.monitoring.scope import Scope
from compute.monitoring.totals import count_tasks, task_totals, workflow_totals
from compute.schemas.enums import ErrorCategory, WorkflowStatus
from compute.tasks import store
from compute.tasks.ids import new_task_id
from compute.tasks.leases import Fail, FallBack, fail_batch, fall_back_batch
from compute.tasks.states import TERMINAL
from tests.integration.rows import add, claim, direct, lease_of, new_task, release, settle, start
from tests.patience import PATIENCE

TENANTS = (None, "acme", "other")
ZONES = (None, "eu")
QUEUES = ("inference", "image")
(MIGRATION,) = (Path(migrations.__file__).parent / "versions").glob("*_work_counts.py")
BEFORE = f"{int(MIGRATION.name[:4]) - 1:04d}"
FALLBACK = {"queue": "fal", "provider_type": "FAL_STANDARD", "spec": {"num_outputs": 1}}


async def counted_by_hand(database: Database, *conditions: Any) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """What `task_totals` should say: by status, type and provider."""
    found: list[Counter[str]] = []
    async with database.transaction() as session:
        for column in (Task.status, Task.task_type, func.coalesce(Task.provider_type, "LOCAL")):
            wanted = select(column, func.count()).where(Task.deleted_at.is_(None), *conditions).group_by(column)
            found.append(Counter({name: number for name, number in await session.execute(wanted)}))  # noqa: C416
    return found[0], found[1], found[2]


async def assert_exact(database: Database) -> None:
    """Compare every scope with the rows."""
    scopes = [(Scope(), ())] + [(Scope(tenant), (Task.origin_tenant_id == tenant,)) for tenant in TENANTS if tenant]
    scopes += [(Scope(origin_zone="eu"), (Task.origin_zone == "eu",))]
    here = (Task.origin_tenant_id == "acme", Task.origin_instance == "test", Task.origin_zone == "eu")
    scopes += [(Scope("acme", "test", "eu"), here)]
    for scope, conditions in scopes:
        async with database.transaction() as session:
            totals = await task_totals(session, scope)
            pending = await count_tasks(session, scope, ["PENDING"])
            local = await count_tasks(session, scope, None, None, "LOCAL")
        by_status, by_type, by_provider = await counted_by_hand(database, *conditions)
        assert +totals.by_status == by_status
        assert +totals.by_type == by_type
        assert +totals.by_provider == by_provider
        assert totals.total == by_status.total()
        assert pending == by_status["PENDING"]
        is_local = func.coalesce(Task.provider_type, "LOCAL") == "LOCAL"
        assert local == (await counted_by_hand(database, *conditions, is_local))[0].total()
    await assert_depths(database)


async def assert_depths(database: Database) -> None:
    async with database.transaction() as session:
        states = await queue_states(session, None)
        rows = await session.execute(select(Task.queue, Task.status, func.count()).group_by(Task.queue, Task.status))
        counts = {(queue, status): number for queue, status, number in rows}
    for queue, state in states.items():
        assert state.depth == counts.get((queue, "PENDING"), 0)
        assert state.reserved == counts.get((queue, "QUEUED"), 0)
        assert state.active == counts.get((queue, "EXECUTING"), 0)


class Life:
    """Random acts on tasks, one of a few at a time as several processes would do them."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.acts = [
            self.submit,
            self.submit,
            self.claim,
            self.claim,
            self.work,
            self.cancel,
            self.relabel,
            self.remove,
        ]

    async def live(self, acts: int) -> None:
        for _ in range(acts):
            await self.random.choice(self.acts)()

    async def submit(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            tenant = self.random.choice(TENANTS)
            spec = {"num_outputs": 1} | ({"fallback": FALLBACK} if self.random.random() < 0.3 else {})
            await add(
                self.database,
                tenant=tenant or "default",
                origin_tenant_id=tenant,
                origin_zone=self.random.choice(ZONES),
                queue=self.random.choice(QUEUES),
                provider_type=self.random.choice((None, "LOCAL", "FAL_STANDARD")),
                spec=spec,
            )

    async def claim(self) -> None:
        for task in await claim(self.database, self.random.randint(1, 4), queue=self.random.choice(QUEUES)):
            if self.random.random() < 0.8:
                await start(self.database, task)

    async def work(self) -> None:
        for task in await self._some("EXECUTING", 2):
            act = self.random.choice(("settle", "fail", "release", "fall back", "lose"))
            lease = lease_of(task)
            if act == "settle":
                await settle(self.database, task)
            elif act == "release":
                await release(self.database, task, error=(ErrorCategory.INTERNAL, "broke"))
            elif act != "lose":
                async with direct(self.database) as connection:
                    if act == "fail":
                        await fail_batch(connection, [Fail(lease, ErrorCategory.INTERNAL, "broke")])
                    elif "fallback" in task.spec:
                        await fall_back_batch(connection, [FallBack(lease, ErrorCategory.PROVIDER_ERROR, "no")])

    async def cancel(self) -> None:
        for task in await self._some("PENDING", 1):
            async with self.database.transaction() as session:
                await store.cancel_all(session, [task.id])

    async def relabel(self) -> None:
        """As clients and operators change labels, of rows in any status, and some of them for ended ones as well."""
        async with self.database.transaction() as session:
            await session.execute(
                text("UPDATE tasks SET queue = :queue, origin_zone = :zone WHERE id IN (SELECT id FROM tasks LIMIT 2)"),
                {"queue": self.random.choice(QUEUES), "zone": self.random.choice(ZONES)},
            )

    async def remove(self) -> None:
        act = self.random.choice(("DELETE FROM tasks", "UPDATE tasks SET deleted_at = now()"))
        async with self.database.transaction() as session:
            one = "SELECT id FROM tasks WHERE status = ANY(:ended) LIMIT 1 FOR UPDATE SKIP LOCKED"
            statement = f"{act} WHERE id IN ({one})"
            await session.execute(text(statement), {"ended": list(map(str, TERMINAL))})

    async def _some(self, status: str, number: int) -> list[Task]:
        async with self.database.transaction() as session:
            rows = await session.scalars(
                select(Task).where(Task.status == status).order_by(func.random()).limit(number)
            )
            return list(rows)


async def fold_now_and_then(database: Database, stop: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        while not stop.is_set():
            await fold(database, forgetting=True)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", [1, 2])
async def test_counts_are_exact_while_several_write_and_two_fold(database: Database, seed: int) -> None:
    stop = asyncio.Event()
    folding = [asyncio.create_task(fold_now_and_then(database, stop)) for _ in range(2)]
    await asyncio.gather(*(Life(database, 10 * seed + n).live(40) for n in range(3)))
    stop.set()
    await asyncio.gather(*folding)
    await assert_exact(database)
    await fold(database)
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(WorkNews)) == 0
    await assert_exact(database)


async def test_a_writer_that_is_killed_leaves_no_count_behind(database: Database, database_url: str) -> None:
    await add(database)
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as other:
        killed = psycopg.connect(database_url.replace("+psycopg", ""))
        killed.execute("UPDATE tasks SET status = 'CANCELLED', completed_at = clock_timestamp()")
        killed.execute("INSERT INTO tasks SELECT * FROM tasks WHERE false")
        other.execute("SELECT pg_terminate_backend(%s)", [killed.info.backend_pid])
        killed.close()
    await assert_exact(database)
    async with database.transaction() as session:
        totals = await task_totals(session, Scope())
    assert (totals.total, totals.by_status["PENDING"]) == (1, 1)


async def test_no_tasks_are_none(database: Database) -> None:
    async with database.transaction() as session:
        totals = await task_totals(session, Scope())
        assert (totals.total, totals.created_last_hour, totals.created_last_day) == (0, 0, 0)
        assert await queue_states(session, None) == {}
        assert (await workflow_totals(session, Scope())).total == 0


async def test_waits_and_ends_are_remembered_when_the_tasks_are_gone(database: Database) -> None:
    created = func.now() - timedelta(seconds=30)
    for _ in range(3):
        await add(database, created_at=created)
    for task in await claim(database, 2):
        await start(database, task)
        await settle(database, task)
    await fold(database)
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM tasks WHERE status = 'COMPLETED'"))
    async with database.transaction() as session:
        state = (await queue_states(session, None))["inference"]
        totals = await task_totals(session, Scope())
    assert (state.depth, state.started, state.completed, state.failed) == (1, 2, 2, 0)
    assert state.average_wait == pytest.approx(30, abs=10)
    assert state.oldest_seconds == pytest.approx(30, abs=10)
    assert (totals.total, totals.created_last_hour, totals.created_last_day) == (1, 3, 3)


@pytest.mark.parametrize("tenant", [None, "shop"])
async def test_a_task_waits_from_when_it_may_run(database: Database, tenant: str | None) -> None:
    """One that ran for long and was put back has just begun to wait, and before its time it does not."""
    long_ago, later = func.now() - timedelta(hours=1), func.now() + timedelta(hours=1)
    for queue, run_after in [("back", func.now()), ("later", later), ("both", func.now()), ("both", later)]:
        await add(
            database, queue=queue, created_at=long_ago, run_after=run_after, tenant="shop", origin_tenant_id="shop"
        )
    await add(
        database, queue="both", created_at=func.now() - timedelta(minutes=10), tenant="shop", origin_tenant_id="shop"
    )
    await fold(database)
    async with database.transaction() as session:
        waits = {name: state.oldest_seconds for name, state in (await queue_states(session, tenant)).items()}
    assert waits["later"] is None
    assert waits["back"] is not None
    assert waits["back"] < 3600 - 60
    assert waits["both"] is not None
    assert 600 <= waits["both"] < 3600 - 60


async def test_lately_is_to_the_minute_and_old_history_is_forgotten(database: Database) -> None:
    ages = (timedelta(minutes=1), timedelta(minutes=58), timedelta(minutes=62), timedelta(hours=23, minutes=58))
    for age in (*ages, timedelta(hours=24, minutes=3), timedelta(days=40)):
        await add(database, created_at=func.now() - age)
    for _ in range(2):
        async with database.transaction() as session:
            totals = await task_totals(session, Scope())
        assert (totals.total, totals.created_last_hour, totals.created_last_day) == (6, 2, 4)
        await fold(database, forgetting=True)
    async with database.transaction() as session:
        oldest = await session.scalar(select(func.min(WorkTime.at)))
        now = await session.scalar(select(func.now()))
    assert now - oldest < timedelta(days=2)


async def test_a_tenant_has_its_own_queues(database: Database) -> None:
    await add(database, origin_tenant_id="acme", tenant="acme")
    await add(database, origin_tenant_id="other", tenant="other", queue="image")
    await add(database)
    async with database.transaction() as session:
        states = await queue_states(session, "acme")
    assert {name: (state.depth, state.oldest_seconds is not None) for name, state in states.items()} == {
        "inference": (1, True)
    }


def workflow(**values: Any) -> Workflow:
    defaults = {"id": new_task_id(), "name": "a", "status": "PENDING", "origin_instance": "test"}
    return Workflow(**(defaults | values))


def step(of: Workflow, position: int) -> WorkflowStep:
    return WorkflowStep(
        id=new_task_id(),
        workflow_id=of.id,
        position=position,
        step_id=f"s{position}",
        task_type="GENERATION",
        definition={},
        dependencies=[],
        status="PENDING",
    )


async def test_workflows_and_their_steps_are_counted_until_they_are_cleaned_up_or_deleted(database: Database) -> None:
    made = [workflow(origin_tenant_id="acme" if n else None) for n in range(4)]
    async with database.transaction() as session:
        session.add_all(made)
        await session.flush()
        session.add_all([step(one, position) for n, one in enumerate(made) for position in range(n + 1)])
    moves = (
        "UPDATE workflows SET status = 'COMPLETED', started_at = now(), completed_at = now() WHERE id = :one",
        "UPDATE workflows SET deleted_at = now() WHERE id = :one",
        "DELETE FROM workflows WHERE id = :one",
    )
    expected = [(4, 10, 1), (3, 6, 0), (3, 6, 0)]
    for move, (total, steps, completed) in zip(moves, expected, strict=True):
        async with database.transaction() as session:
            await session.execute(text(move), {"one": made[3].id})
        async with database.transaction() as session:
            totals = await workflow_totals(session, Scope())
            theirs = await workflow_totals(session, Scope("acme"))
            # Of news that are not added to the sums yet no other word is among them.
            assert set(totals.by_status) == set(theirs.by_status) == set(WorkflowStatus)
        assert (totals.total, totals.steps, totals.by_status["COMPLETED"]) == (total, steps, completed)
        assert (theirs.total, theirs.steps) == (total - 1, steps - 1)
        await fold(database)
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM workflows WHERE id = :one"), {"one": made[2].id})
    async with database.transaction() as session:
        totals = await workflow_totals(session, Scope())
    assert (totals.total, totals.steps, totals.created_last_hour) == (2, 3, 4)


async def test_trainings_have_a_queue_of_their_own(database: Database) -> None:
    insert = """INSERT INTO trainings (id, tenant, status, priority, spec, request, origin_instance, started_at)
                VALUES (gen_random_uuid(), 'default', :status, :priority, '{}', '{}', 'test', NULL)"""
    async with database.transaction() as session:
        for priority, status in enumerate(("PENDING", "TRAINING", "PENDING", "COMPLETED")):
            await session.execute(text(insert), {"status": status, "priority": priority})
        for move in (
            "'FAILED', completed_at = now() WHERE status = 'TRAINING'",
            "'PREPROCESSING', started_at = now() WHERE status = 'PENDING' AND priority = 2",
        ):
            await session.execute(text(f"UPDATE trainings SET status = {move}"))  # noqa: S608
    async with database.transaction() as session:
        state = (await queue_states(session, None))["training"]
    assert (state.depth, state.active, state.started, state.failed) == (1, 1, 1, 1)
    assert state.oldest_seconds is not None


def test_an_older_database_is_counted_while_it_is_written(database_url: str) -> None:
    """Whoever writes while the migrations run is counted once, and is held up by none of them."""
    url = database_url.replace("+psycopg", "")
    command.downgrade(alembic_config(database_url), BEFORE)
    stop = False

    def write(number: int) -> int:
        written = 0
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '10s'")
            while not stop:
                connection.execute(
                    """INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance)
                       VALUES (gen_random_uuid(), 'GENERATION', 'inference', 'default', 1, 'PENDING', '{}', 'test')"""
                )
                connection.execute(
                    """UPDATE tasks SET status = 'CANCELLED', completed_at = clock_timestamp()
                        WHERE id IN (SELECT id FROM tasks WHERE status = 'PENDING' LIMIT 1 FOR UPDATE SKIP LOCKED)"""
                )
                written += 1
        return written

    with ThreadPoolExecutor() as threads:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                """INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance, created_at)
                   SELECT gen_random_uuid(), 'EDITING', 'image', 'default', 1, 'PENDING', '{}', 'test',
                          now() - interval '9 minutes' FROM generate_series(1, 5000)"""
            )
        writers = [threads.submit(write, number) for number in range(2)]
        try:
            upgrade(database_url)
        finally:
            stop = True
        written = sum(writer.result() for writer in writers)

    async def compare() -> None:
        database = Database(database_url)
        await assert_exact(database)
        async with database.transaction() as session:
            totals = await task_totals(session, Scope())
        await database.close()
        assert totals.total == 5000 + written
        assert totals.created_last_hour == pytest.approx(totals.total, rel=0.2)

    assert written > 0
    asyncio.run(compare())


async def test_truncated_tasks_are_not_counted(database: Database) -> None:
    for _ in range(2):
        await add(database)
    await fold(database)
    async with database.transaction() as session:
        session.add(new_task(status="PENDING"))
        await session.flush()
        await session.execute(text("TRUNCATE tasks"))
    await assert_exact(database)
