"""Pruning: old ended work is forgotten with all that belongs to it; what is needed, or has not ended, stays."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.db.tables import ProviderCall, Task, WebhookDelivery, WorkflowStep
from compute.errors import StorageFailed
from compute.retention.due import Cutoff
from compute.retention.needed import Needed
from compute.retention.pruner import NotLeader, PruneCount
from compute.retention.tidy import tidy
from tests.integration.retention.old import (
    Files,
    counts,
    days_ago,
    delivery,
    ids,
    old_task,
    old_training,
    old_workflow,
    pruner,
    result_of,
    step_of,
)
from tests.integration.rows import add, new_task
from tests.patience import PATIENCE


async def test_an_old_task_goes_with_all_that_belongs_to_it(database: Database, files: Files) -> None:
    old = await old_task(database, files)
    failed = await old_task(database, files, status="FAILED")
    await delivery(database, old.id, "DELIVERED")
    kept = {
        # Its age counts from its end.
        (await old_task(database, files, ended=1)).id,
        (await old_task(database, files, ended=None)).id,
        # Its receiver has yet to hear of it.
        (undelivered := await old_task(database, files)).id,
    }
    await delivery(database, undelivered.id, "PENDING")
    before, stored = await counts(database), await files.paths()

    found = await pruner(database, files).count()
    assert found == [
        PruneCount("tasks", forgotten=2),
        PruneCount("workflows"),
        PruneCount("trainings"),
        PruneCount("deliveries"),
        PruneCount("calls"),
    ]
    assert (await counts(database), await files.paths()) == (before, stored)

    assert await pruner(database, files).prune() == found
    assert await ids(database, "tasks") == kept
    assert await files.paths() == stored - {result_of(old), result_of(failed)}
    assert await counts(database) == {"tasks": 3, "task_events": 3, "webhook_deliveries": 1, "webhook_attempts": 1}


async def test_a_workflow_goes_with_its_tasks(database: Database, files: Files) -> None:
    _, tasks = await old_workflow(database, files, tasks=3)
    kept, _ = await old_workflow(database, files, ended=None, status="RUNNING")
    young, _ = await old_workflow(database, files, ended=1, status="FAILED")
    busy, (task, _) = await old_workflow(database, files)
    async with database.transaction() as session:
        await session.execute(update(Task).where(Task.id == task.id).values(status="EXECUTING", completed_at=None))
    stored = await files.paths()

    found = await pruner(database, files).prune()
    assert found[1] == PruneCount("workflows", forgotten=1, tasks=3)
    assert await ids(database, "workflows") == {kept.id, young.id, busy.id}
    assert await files.paths() == stored - {result_of(task) for task in tasks}
    assert await counts(database) == {
        "workflows": 3,
        "workflow_steps": 3,
        "workflow_events": 3,
        "tasks": 6,
        "task_events": 6,
    }


async def test_a_training_goes_and_what_it_made_stays(database: Database, files: Files) -> None:
    lora = await old_training(database, files)
    model = await old_training(database, files)
    await old_training(database, files, job_open=True)
    young = await old_training(database, files, ended=1)
    made = {f"training/{model.id}/model/unet/weights.safetensors", "loras/products/mug.safetensors"}
    for path in made:
        await files.put(path, b"weights", "application/octet-stream")

    found = await pruner(database, files).prune()
    assert found[2] == PruneCount("trainings", forgotten=2)
    assert await counts(database) == {"trainings": 2}
    stored = await files.paths()
    assert made <= stored
    assert not {path for path in stored - made if str(lora.id) in path or str(model.id) in path}
    assert len(await files.paths(f"training/{young.id}/")) == 3


async def test_what_something_else_needs_stays_until_that_goes(database: Database, files: Files) -> None:
    first, second, third = [await old_task(database, files) for _ in range(3)]
    chained = await old_task(database, files, spec={"image": result_of(first)})
    reader = await old_task(database, files, ended=1, spec={"image": result_of(chained)})
    _, (again,) = await old_workflow(database, files, tasks=1)
    reusing, _ = await old_workflow(database, files, ended=1, tasks=0, input={"picture": f"/x/{result_of(second)}?s=1"})
    training = await old_training(database, files)
    async with database.transaction() as session:
        session.add(step_of(reusing, [again], position=1, step_id="again", reused_from=reusing.id))
        session.add(
            step_of(
                reusing, [], position=2, definition={"sample": f"training/{training.id}/samples/0.png"}, step_id="x"
            )
        )
    await old_training(database, files, ended=1, spec={"data": {"images": [result_of(third)]}})
    stored, rows = await files.paths(), await counts(database)

    found = await pruner(database, files).prune()
    assert [(kind.forgotten, kind.needed) for kind in found] == [(0, 4), (0, 1), (0, 1), (0, 0), (0, 0)]
    assert (await files.paths(), await counts(database)) == (stored, rows)

    async with database.transaction() as session:
        await session.execute(update(Task).where(Task.id == reader.id).values(completed_at=days_ago(60)))
    found = await pruner(database, files).prune()
    assert [(kind.forgotten, kind.needed) for kind in found] == [(3, 2), (0, 1), (0, 1), (0, 0), (0, 0)]
    assert await files.paths() == stored - {result_of(task) for task in (first, chained, reader)}


async def test_what_comes_to_be_needed_on_the_way_stays(database: Database, files: Files) -> None:
    last = await old_task(database, files, made=80)
    # More than one batch of older ones.
    async with database.transaction() as session:
        ended = {"status": "COMPLETED", "completed_at": days_ago(60), "created_at": days_ago(90)}
        session.add_all([new_task(**ended) for _ in range(600)])

    async def order_a_task(prefix: str) -> None:
        files.before_removal = None
        await add(database, spec={"image": result_of(last)})

    files.before_removal = order_a_task
    found = await pruner(database, files).prune()
    assert found[0] == PruneCount("tasks", forgotten=600, needed=1)
    assert len(await ids(database, "tasks") - {last.id}) == 1
    assert await files.paths() == {result_of(last)}


async def test_a_row_whose_files_cannot_be_removed_stays_and_is_told(
    database: Database, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn, other = await old_task(database, files), await old_task(database, files)

    async def refuse(prefix: str) -> None:
        if str(stubborn.id) in prefix:
            raise StorageFailed("the disk is read-only")

    files.before_removal = refuse
    with caplog.at_level(logging.WARNING):
        assert (await pruner(database, files).prune())[0] == PruneCount("tasks", forgotten=1, failed=1)
    assert f"{stubborn.id} of tasks stays, its files could not be removed: the disk is read-only" in caplog.text
    assert await ids(database, "tasks") == {stubborn.id}
    assert await files.paths() == {result_of(stubborn)}

    files.before_removal = None
    assert (await pruner(database, files).prune())[0] == PruneCount("tasks", forgotten=1)
    assert await files.paths() == set()
    assert other.id not in await ids(database, "tasks")


class KilledError(Exception):
    pass


@pytest.mark.parametrize("survived", range(3))
async def test_where_one_was_killed_the_next_goes_on(database: Database, files: Files, survived: int) -> None:
    await old_task(database, files)
    await old_workflow(database, files)
    left = survived

    async def die(prefix: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError

    files.before_removal = die
    with pytest.raises(KilledError):
        await pruner(database, files).prune()
    files.before_removal = None
    # No file is without the row that leads to it.
    known = {str(task) for task in await ids(database, "tasks")}
    assert {path.split("/")[1] for path in await files.paths()} <= known
    await pruner(database, files).prune()
    assert (await counts(database), await files.paths()) == ({}, set())


async def test_a_part_that_somebody_keeps_locked_holds_up_its_whole_alone(database: Database, files: Files) -> None:
    """A step or a delivery is not what is asked for, but goes with it."""
    held, _ = await old_workflow(database, files)
    task = await old_task(database, files)
    await delivery(database, task.id, "DELIVERED")
    for _ in range(5):
        await old_workflow(database, files)
    after = await old_training(database, files)
    async with database.transaction() as somebody:
        await somebody.execute(select(WorkflowStep.id).where(WorkflowStep.workflow_id == held.id).with_for_update())
        await somebody.execute(select(WebhookDelivery.id).with_for_update())
        found = {one.kind: one for one in await pruner(database, files).prune()}
    assert (found["workflows"].forgotten, found["workflows"].locked) == (5, 1)
    assert (found["tasks"].forgotten, found["tasks"].locked) == (0, 1)
    assert found["trainings"].forgotten == 1
    assert await ids(database, "workflows") == {held.id}
    assert after.id not in await ids(database, "trainings")
    await pruner(database, files).prune()
    assert await ids(database, "workflows") == await ids(database, "tasks") == set()


async def test_one_process_at_a_time_forgets(database: Database, files: Files) -> None:
    await old_task(database, files)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(prefix: str) -> None:
        begun.set()
        await go_on.wait()

    files.before_removal = wait
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        first = group.create_task(pruner(database, files, "first").prune())
        await begun.wait()
        with pytest.raises(NotLeader):
            await pruner(database, files, "second").prune()
        go_on.set()
    assert first.result()[0] == PruneCount("tasks", forgotten=1)
    assert (await pruner(database, files, "second").prune())[0] == PruneCount("tasks")


async def test_deliveries_of_deleted_tasks_go_as_well(database: Database, files: Files) -> None:
    deleted, there = await old_task(database, files), await old_task(database, files, ended=1)
    for task in (deleted, there):
        await delivery(database, task.id, "FAILED")
    await delivery(database, deleted.id, "PENDING")
    await delivery(database, deleted.id, "DELIVERED", ended=1)
    async with database.transaction() as session:
        await session.delete(await session.get_one(Task, deleted.id))
    assert (await pruner(database, files).prune())[3] == PruneCount("deliveries", forgotten=1)
    async with database.transaction() as session:
        left = await session.stream_scalars(
            WebhookDelivery.__table__.select().with_only_columns(WebhookDelivery.status)
        )
        assert sorted([status async for status in left]) == ["DELIVERED", "FAILED", "PENDING"]


async def test_paid_calls_without_a_task_go_but_for_those_that_somebody_needs(database: Database, files: Files) -> None:
    there = await old_training(database, files, ended=1)
    task = await old_task(database, files, ended=1)
    tasks = {"image/of a task": task.id, "image/that outlived its task": uuid4()}
    gone, lately, unknown = "evaluation/1", "evaluation/2", "evaluation/3"
    captions = [f"training/{training}/caption/ab" for training in (there.id, uuid4())]
    async with database.transaction() as session:
        for part in (gone, lately, unknown, *captions, *tasks):
            state, ended = ("UNCERTAIN", None) if part == unknown else ("COLLECTED", days_ago(40))
            session.add(
                ProviderCall(
                    id=uuid4(),
                    task_id=tasks.get(part),
                    part=part,
                    attempt=1,
                    provider="openai",
                    vendor="openai",
                    account="a",
                    endpoint="x",
                    state=state,
                    ended_at=days_ago(1) if part == lately else ended,
                )
            )
    assert (await pruner(database, files).prune())[4] == PruneCount("calls", forgotten=3)
    async with database.transaction() as session:
        left = await session.scalars(select(ProviderCall.part))
        assert sorted(left) == sorted([lately, unknown, captions[0], "image/of a task"])


async def test_nothing_of_it_outlasts_a_transaction(database_url: str, database: Database, files: Files) -> None:
    """So it works through a pooler of transactions."""
    await old_task(database, files)
    await old_workflow(database, files)
    pooled = Database(database_url, pooled=True)
    found = await pruner(pooled, files).prune()
    assert [kind.forgotten for kind in found] == [1, 1, 0, 0, 0]
    await tidy(pooled)
    await pooled.close()
    assert await counts(database) == {}


async def test_what_was_changed_since_it_was_read_is_read_again(database: Database, files: Files) -> None:
    old = await old_task(database, files)
    waiting = await add(database, spec={}, created_at=days_ago(1))
    connection = DirectConnection(database)
    needed = Needed(Cutoff(days_ago(30)))
    await needed.look(connection.run)
    assert needed.units == set()
    async with database.transaction() as session:
        named = {"image": result_of(old)}
        await session.execute(update(Task).where(Task.id == waiting.id).values(spec=named, updated_at=days_ago(0)))

    async with asyncio.timeout(PATIENCE):
        while needed.units != {old.id}:
            await needed.look(connection.run)
    await connection.close()


async def test_reading_ends_where_more_and_more_comes(database: Database, files: Files) -> None:
    old = await old_task(database, files)
    needed = Needed(Cutoff(days_ago(30)))
    connection = DirectConnection(database)

    async def run(work: Callable[[Connection], Awaitable[Any]]) -> Any:
        await add(database, spec={"image": result_of(old)})
        return await connection.run(work)

    async with asyncio.timeout(PATIENCE):
        await needed.look(run)
    await connection.close()
    assert needed.units == {old.id}
