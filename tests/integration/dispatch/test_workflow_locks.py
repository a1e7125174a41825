"""A locked workflow, or a database that takes no writes for a moment, holds up what it must and fails nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text

from compute.db.session import Database
from compute.db.tables import Task, Workflow, WorkflowStep
from compute.schemas.enums import StepStatus
from compute.tasks.ids import new_task_id
from compute.workflows.rows.engine import PostgresEngineStore
from compute.workflows.rows.journal import Checkpoint, PostgresJournalStore, Refused, Written
from compute.workflows.rows.statements import Begin, End, Hold, WorkflowLease
from compute.workflows.steps.journal import Journal, Lost
from tests.integration.locks import locked
from tests.integration.rows import new_task
from tests.patience import PATIENCE


async def add_running(database: Database, count: int) -> list[tuple[Workflow, WorkflowStep]]:
    """Workflows that an engine holds, with a step each."""
    rows = []
    for _ in range(count):
        flow = Workflow(id=new_task_id(), name="flow", status="RUNNING", origin_instance="test", fence=1)
        flow.lease_owner, flow.lease_expires_at = "engine", datetime.now(UTC)
        step = WorkflowStep(id=new_task_id(), workflow_id=flow.id, position=0, step_id="draw", task_type="GENERATION")
        step.definition, step.dependencies, step.status = {}, [], StepStatus.PENDING
        rows.append((flow, step))
    async with database.transaction() as session:
        session.add_all(flow for flow, _ in rows)
        await session.flush()
        session.add_all(step for _, step in rows)
    return rows


@asynccontextmanager
async def keeping(database: Database) -> AsyncIterator[Journal]:
    journal = Journal(PostgresJournalStore(database))
    work = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def lease(flow: Workflow) -> WorkflowLease:
    return WorkflowLease(flow.id, 1)


def begin(flow: Workflow, step: WorkflowStep) -> Begin:
    return Begin(lease(flow), step.id, [])


def end(flow: Workflow, step: WorkflowStep) -> End:
    return End(lease(flow), step.id, StepStatus.COMPLETED)


async def statuses(database: Database) -> dict[object, str]:
    async with database.transaction() as session:
        return {step.id: step.status for step in await session.scalars(select(WorkflowStep))}


async def test_a_locked_workflow_keeps_its_lease_and_costs_the_others_none(database: Database) -> None:
    (stays, _), (gone, _), *others = await add_running(database, 20)
    async with database.transaction() as session:
        await session.execute(text("UPDATE workflows SET fence = 2 WHERE id = :id"), {"id": gone.id})
    held = [lease(flow) for flow in (stays, gone, *(flow for flow, _ in others))]
    store = PostgresEngineStore(database)
    async with locked(database, stays), asyncio.timeout(PATIENCE):
        renewal = await store.renew(held, lease_seconds=60)
        assert renewal == ({lease(gone)}, {lease(stays)})
        assert await store.name_graphs({lease(stays): "a", lease(others[0][0]): "b"}) == {lease(stays)}
        await store.release([lease(stays), lease(others[0][0])])
    assert await store.renew([lease(stays)], lease_seconds=60) == (set(), set())
    await store.close()
    async with database.transaction() as session:
        now = datetime.now(UTC)
        leased = await session.scalars(select(Workflow.id).where(Workflow.lease_expires_at > now))
        assert set(leased) == {flow.id for flow, _ in others[1:]} | {stays.id}


async def test_a_locked_workflow_holds_up_its_own_checkpoints_alone(database: Database) -> None:
    stays, *others = await add_running(database, 5)
    async with keeping(database) as journal:
        async with locked(database, stays[0]):
            waits = asyncio.create_task(journal.begin(begin(*stays), []))
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(journal.begin(begin(*other), []) for other in others))
                await asyncio.gather(*(journal.end(end(*other)) for other in others))
            assert not waits.done()
        await waits
        await journal.end(end(*stays))
    assert set((await statuses(database)).values()) == {"COMPLETED"}


async def test_a_locked_step_holds_up_its_own_workflow_alone(database: Database) -> None:
    stays, *others = await add_running(database, 5)
    later = WorkflowStep(id=new_task_id(), workflow_id=stays[0].id, position=1, step_id="more", task_type="GENERATION")
    later.definition, later.dependencies, later.status = {}, [], StepStatus.PENDING
    async with database.transaction() as session:
        session.add(later)
    flows = [stays, *others, (stays[0], later)]
    store = PostgresJournalStore(database)
    checkpoints = [Checkpoint(begin(*flow)) for flow in flows] + [Checkpoint(Hold(lease(stays[0]), later.id))]
    async with locked(database, stays[1]):
        # One try, in which nothing waited for the lock: that would be told as an error.
        told = await store.write(checkpoints)
        assert told == [None, *[Written([])] * 4, None, None]
        assert set((await statuses(database)).values()) == {"PENDING", "RUNNING"}
    assert await store.write(checkpoints[:6]) == [Written([])] * 6
    await store.close()
    assert set((await statuses(database)).values()) == {"RUNNING"}


async def test_a_step_that_was_deleted_is_lost_and_not_taken_for_locked(database: Database) -> None:
    (flow, step), other = await add_running(database, 2)
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM workflow_steps WHERE id = :id"), {"id": step.id})
    store = PostgresJournalStore(database)
    assert await store.write([Checkpoint(end(flow, step)), Checkpoint(begin(*other))]) == [Refused.LOST, Written([])]
    await store.close()


async def test_of_two_runners_that_begin_a_step_in_one_batch_the_one_that_lost_it_stores_nothing(
    database: Database,
) -> None:
    ((flow, step),) = await add_running(database, 1)
    tasks = [new_task(workflow_id=str(flow.id)) for _ in range(3)]
    begins = [
        Checkpoint(Begin(WorkflowLease(flow.id, fence), step.id, [str(task.id)]), [task])
        for fence, task in zip((0, 1, 1), tasks, strict=True)
    ]
    store = PostgresJournalStore(database)
    stale, *ours = await store.write(begins)
    await store.close()
    assert stale is Refused.LOST
    assert ours[0] == ours[1]
    async with database.transaction() as session:
        stored = {str(found) for found in await session.scalars(select(Task.id))}
    assert ours[0] == Written(sorted(stored))
    assert len(stored) == 1


async def test_a_workflow_that_is_deleted_is_lost(database: Database) -> None:
    ((flow, step),) = await add_running(database, 1)
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM workflows"))
    async with keeping(database) as journal:
        with pytest.raises(Lost):
            await journal.end(end(flow, step))


async def test_a_moment_without_writes_fails_no_step_that_begins(database: Database) -> None:
    ((flow, step),) = await add_running(database, 1)
    name = database.url.database
    async with keeping(database) as journal, database.engine.connect() as connection:
        admin = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await admin.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
        begins = asyncio.create_task(journal.begin(begin(flow, step), [new_task()]))
        # Long enough for a try.
        async with asyncio.timeout(PATIENCE):
            while not begins.done() and not await tried(database):
                await asyncio.sleep(0.01)
        assert not begins.done()
        await admin.execute(text("SET default_transaction_read_only = off"))
        await admin.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        async with asyncio.timeout(PATIENCE):
            assert await begins == []
    assert await statuses(database) == {step.id: "RUNNING"}


async def tried(database: Database) -> bool:
    """Whether the journal has rolled a transaction back."""
    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
        found = await connection.scalar(
            text("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        )
    return bool(found)
