"""Engines are killed at every checkpoint, one after the other; connections break; two engines share the work."""

import asyncio
import re
from collections import Counter
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from compute.db.session import Database
from compute.db.tables import Task, WorkflowEvent
from compute.settings import Settings
from tests.integration.api.workflows.conftest import draw, mapping, post, running_engine, wait_for
from tests.integration.api.workflows.deadly import DeadlyWire, engine_behind
from tests.patience import PATIENCE

CHECKPOINTS = 8
"""A claim; three steps that begin and end; the end."""
UUIDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
STEPS = (
    draw("draw", config={"num_outputs": 2}),
    {
        "id": "adjust",
        "task_type": "IMAGE_ADJUSTER",
        "config": {"brightness": 0.1},
        "input_mappings": [mapping("draw", "result_image_paths", "input_image")],
    },
    {
        "id": "cut",
        "task_type": "BACKGROUND_REMOVAL",
        "input_mappings": [mapping("adjust", "result_image_path", "input_image_paths")],
    },
)


def _essence(value: Any) -> Any:
    """What does not depend on when a workflow ran, and under which ids."""
    if isinstance(value, dict):
        return {
            name: _essence(item)
            for name, item in value.items()
            if not name.endswith(("_at", "metadata", "_url", "canvas_task_id"))
        }
    if isinstance(value, list):
        return [_essence(item) for item in value]
    return UUIDS.sub("id", value) if isinstance(value, str) else value


async def story(api: httpx.AsyncClient, database: Database, workflow_id: str) -> dict[str, Any]:
    """Everything there is to compare of a workflow that has ended."""
    found = (await api.get(f"/workflows/{workflow_id}")).json()
    async with database.transaction() as session:
        tasks = list(await session.scalars(select(Task).where(Task.workflow_id == workflow_id)))
        events = await session.execute(
            select(WorkflowEvent.step_id, WorkflowEvent.status)
            .where(WorkflowEvent.workflow_id == workflow_id)
            .order_by(WorkflowEvent.id)
        )
        log = [tuple(row) for row in events]
    linked = {task_id for step in found["steps"] for task_id in step["task_ids"]}
    assert {str(task.id) for task in tasks} == linked
    return {
        "workflow": _essence(found),
        "tasks": Counter((task.step_id, task.status, task.retry_count) for task in tasks),
        "events": log,
    }


async def undisturbed(api: httpx.AsyncClient, database: Database, settings: Settings) -> dict[str, Any]:
    wire = DeadlyWire(settings.database_url or "")
    async with wire.open(), engine_behind(wire, settings):
        workflow_id = await post(api, *STEPS)
        await wait_for(api, workflow_id, "COMPLETED", "FAILED")
    # A machine that is busy may lose a lease, and claim again.
    assert wire.checkpoints >= CHECKPOINTS
    return await story(api, database, workflow_id)


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
async def test_an_engine_that_is_killed_at_any_checkpoint_changes_nothing(
    api: httpx.AsyncClient, worker: object, settings: Settings, database: Database, afterwards: bool
) -> None:
    expected = await undisturbed(api, database, settings)
    assert expected["workflow"]["status"] == "COMPLETED"
    for checkpoint in range(1, CHECKPOINTS + 1):
        wire = DeadlyWire(settings.database_url or "", fatal=checkpoint, afterwards=afterwards)
        async with wire.open(), engine_behind(wire, settings) as victim:
            workflow_id = await post(api, *STEPS)
            assert await asyncio.to_thread(victim.wait, PATIENCE) == -9, f"it survived checkpoint {checkpoint}"
        async with running_engine(settings, database):
            await wait_for(api, workflow_id, "COMPLETED", "FAILED")
        assert await story(api, database, workflow_id) == expected, f"killed at checkpoint {checkpoint}"


async def test_two_engines_share_workflows_and_run_each_once(
    api: httpx.AsyncClient, worker: object, settings: Settings, database: Database
) -> None:
    async with running_engine(settings, database, "one"), running_engine(settings, database, "two"):
        ids = [await post(api, draw("a"), draw("b", "a")) for _ in range(20)]
        for workflow_id in ids:
            await wait_for(api, workflow_id, "COMPLETED")
    async with database.transaction() as session:
        tasks = list(await session.scalars(select(Task.status)))
    assert Counter(tasks) == {"COMPLETED": 40}


async def test_broken_connections_are_waited_out(
    api: httpx.AsyncClient, worker: object, engine: None, database: Database
) -> None:
    ids = [await post(api, *STEPS) for _ in range(3)]
    for _ in range(6):
        await asyncio.sleep(0.3)
        async with database.transaction() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            )
    async with asyncio.timeout(PATIENCE):
        for workflow_id in ids:
            while (answer := await api.get(f"/workflows/{workflow_id}")).json().get("status") != "COMPLETED":
                assert answer.json().get("status") != "FAILED", answer.text
                await asyncio.sleep(0.2)
    async with database.transaction() as session:
        rows = await session.execute(select(Task.step_id, Task.status))
        assert Counter(tuple(row) for row in rows) == {
            ("draw", "COMPLETED"): 3,
            ("adjust", "COMPLETED"): 6,
            ("cut", "COMPLETED"): 3,
        }
