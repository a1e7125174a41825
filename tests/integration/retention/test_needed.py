"""Whatever stays, for whichever reason, keeps the files that it names, wherever it names them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import JSON, select, update

from compute.db.direct import DirectConnection
from compute.db.session import Database
from compute.db.tables import Task, Training, Workflow, WorkflowStep
from compute.retention import needed as module
from compute.retention.due import REASONS, Cutoff
from compute.retention.needed import NAMES_IN, STEP_NAMES_IN, Needed
from compute.retention.pruner import PruneCount
from tests.integration.retention.old import (
    Files,
    counts,
    days_ago,
    delivery,
    old_task,
    old_training,
    old_workflow,
    pruner,
    result_of,
    step_of,
)
from tests.integration.rows import add, new_task

OWN = {
    Task: {"result", "config", "sent", "errors"},
    Workflow: {"errors", "sent"},
    WorkflowStep: {"dependencies", "spread", "sent"},
    Training: {"rejected_files", "metrics", "samples"},
}
"""Columns in which nothing of others is named."""


def test_every_column_that_may_name_a_file_is_known() -> None:
    for table, own in OWN.items():
        names = STEP_NAMES_IN if table is WorkflowStep else NAMES_IN[table.__tablename__]
        columns = {column.name for column in table.__table__.columns if isinstance(column.type, JSON)}
        assert columns == own | set(names), f"does a new column of {table.__tablename__} name files?"


async def staying_task(database: Database, files: Files, reason: str, **named: Any) -> UUID:
    kind = "NOT_INSTALLED" if reason == "type is not installed" else "GENERATION"
    ended = {"has not ended": None, "ended lately": 1.0}.get(reason, 60.0)
    task = await old_task(database, files, ended=ended, task_type=kind, **named)
    if reason == "webhook is due":
        await delivery(database, task.id, "PENDING")
    return task.id


async def staying_training(database: Database, files: Files, reason: str, **named: Any) -> UUID:
    values = {
        "has not ended": {"status": "TRAINING", "completed_at": None},
        "ended lately": {"completed_at": days_ago(1)},
        "webhook is due": {},
        "job is open": {"job_open": True},
    }[reason]
    training = await old_training(database, files, **named, **values)
    if reason == "webhook is due":
        await delivery(database, training.id, "PENDING")
    return training.id


async def staying_workflow(database: Database, files: Files, reason: str, **named: Any) -> UUID:
    ended = {"has not ended": None, "ended lately": 1.0}.get(reason, 60.0)
    status = "PAUSED" if ended is None else "COMPLETED"
    of_steps = {name: value for name, value in named.items() if name in STEP_NAMES_IN}
    of_itself = {name: value for name, value in named.items() if name not in STEP_NAMES_IN}
    workflow, (task,) = await old_workflow(database, files, ended=ended, status=status, tasks=1, **of_itself)
    if of_steps:
        step = step_of(workflow, [], position=1, step_id="named", reused_from=uuid4(), **of_steps)
        async with database.transaction() as session:
            session.add(step)
    if reason == "webhook is due":
        await delivery(database, workflow.id, "PENDING")
    if reason == "task's webhook is due":
        await delivery(database, task.id, "PENDING")
    changes: dict[str, dict[str, Any]] = {
        "task has not ended": {"status": "EXECUTING", "completed_at": None},
        "task's type is not installed": {"task_type": "NOT_INSTALLED"},
    }
    if reason in changes:
        async with database.transaction() as session:
            await session.execute(update(Task).where(Task.id == task.id).values(**changes[reason]))
    return workflow.id


@pytest.mark.parametrize(
    ("table", "staying", "columns"),
    [
        ("tasks", staying_task, NAMES_IN["tasks"]),
        ("trainings", staying_training, NAMES_IN["trainings"]),
        ("workflows", staying_workflow, (*NAMES_IN["workflows"], *STEP_NAMES_IN)),
    ],
)
async def test_every_reason_to_stay_keeps_what_is_named_in_every_way(
    database: Database, files: Files, table: str, staying: Callable[..., Any], columns: tuple[str, ...]
) -> None:
    ways = [(reason, column) for reason in REASONS[table] for column in columns]
    for reason, column in ways:
        named = await old_task(database, files)
        value = [str(named.id)] if column == "task_ids" else {"image": result_of(named)}
        await staying(database, files, reason, **{column: value})
    lone = await old_task(database, files)
    stored, before = await files.paths(), await counts(database)

    found = await pruner(database, files).prune()
    assert found == [
        PruneCount("tasks", forgotten=1, needed=len(ways)),
        PruneCount("workflows"),
        PruneCount("trainings"),
        PruneCount("deliveries"),
        PruneCount("calls"),
    ]
    assert await files.paths() == stored - {result_of(lone)}
    after = await counts(database)
    assert after == before | {"tasks": before["tasks"] - 1, "task_events": before["task_events"] - 1}


async def many_old_tasks(database: Database) -> None:
    """More than one batch, older than those of `old_task`."""
    ended = {"status": "COMPLETED", "completed_at": days_ago(60), "created_at": days_ago(100)}
    async with database.transaction() as session:
        session.add_all([new_task(**ended) for _ in range(600)])


async def test_a_workflow_started_on_the_way_keeps_what_it_is_given(database: Database, files: Files) -> None:
    last = await old_task(database, files)
    waiting, _ = await old_workflow(database, files, ended=None, status="PENDING", tasks=0)
    await many_old_tasks(database)

    async def start(prefix: str) -> None:
        files.before_removal = None
        async with database.transaction() as session:
            row = await session.get_one(Workflow, waiting.id)
            row.status, row.input = "RUNNING", {"image": result_of(last)}

    files.before_removal = start
    assert (await pruner(database, files).prune())[0] == PruneCount("tasks", forgotten=600, needed=1)
    assert await files.paths() == {result_of(last)}


async def test_what_a_step_took_over_on_the_way_is_kept_though_its_workflow_has_ended(
    database: Database, files: Files
) -> None:
    last = await old_task(database, files)
    running, _ = await old_workflow(database, files, ended=None, status="RUNNING", tasks=0)
    await many_old_tasks(database)

    async def take_over(prefix: str) -> None:
        files.before_removal = None
        async with database.transaction() as session:
            step = await session.scalar(select(WorkflowStep).where(WorkflowStep.workflow_id == running.id))
            assert step is not None
            step.result, step.reused_from = {"outputs": [{"path": result_of(last)}]}, uuid4()
            step.completed_at = days_ago(0)
            row = await session.get_one(Workflow, running.id)
            row.status, row.completed_at = "COMPLETED", days_ago(0)

    files.before_removal = take_over
    assert (await pruner(database, files).prune())[0] == PruneCount("tasks", forgotten=600, needed=1)
    assert await files.paths() == {result_of(last)}


async def test_a_workflow_that_runs_again_after_a_long_reading_stays(
    database: Database, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow, tasks = await old_workflow(database, files)
    look = Needed.look

    async def look_long(self: Needed, run: module.Run) -> bool:
        async with database.transaction() as session:
            row = await session.get_one(Workflow, workflow.id)
            row.status, row.completed_at = "RUNNING", None
        return await look(self, run)

    monkeypatch.setattr(Needed, "look", look_long)
    assert (await pruner(database, files).prune())[1] == PruneCount("workflows")
    assert await files.paths() == {result_of(task) for task in tasks}


async def test_what_waits_is_looked_at_for_a_share_of_the_time(
    database: Database, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of thousands of tasks may wait."""
    old = await old_task(database, files)
    waiting = await add(database, spec={}, created_at=days_ago(1))
    connection = DirectConnection(database)
    needed = Needed(Cutoff(days_ago(30)))
    assert await needed.look(connection.run)
    assert not await needed.look(connection.run)
    async with database.transaction() as session:
        named = {"image": result_of(old)}
        await session.execute(update(Task).where(Task.id == waiting.id).values(spec=named, updated_at=days_ago(0)))

    monkeypatch.setattr(module, "_CHANGED_TIMES", 1e12)
    await needed.look(connection.run)
    assert needed.units == set()
    monkeypatch.setattr(module, "_CHANGED_TIMES", 0)
    await needed.look(connection.run)
    assert needed.units == {old.id}
    await connection.close()
