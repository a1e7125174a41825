"""Start, pause, resume, approve, cancel, limits and failures of workflows."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import Task, WorkflowEvent
from compute.tasks.states import TERMINAL
from tests.integration.api.workflows.conftest import (
    SubjectPainter,
    by_id,
    draw,
    mapping,
    post,
    run,
    statuses,
    wait_for,
)
from tests.patience import PATIENCE

ADJUST = {"task_type": "IMAGE_ADJUSTER", "config": {"brightness": 0.1}}
LONG = "a picture that takes long"


async def until_running(api: httpx.AsyncClient, workflow_id: str, step: str) -> dict[str, Any]:
    """The workflow once a task of the step is being drawn."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = (await api.get(f"/workflows/{workflow_id}")).json()
            if by_id(found)[step]["status"] == "RUNNING" and by_id(found)[step]["progress"] > 0:
                return found
            await asyncio.sleep(0.02)


async def act(api: httpx.AsyncClient, workflow_id: str, action: str, **params: Any) -> dict[str, Any]:
    answer = await api.post(f"/workflows/{workflow_id}/{action}", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def tasks_of(database: Database, workflow_id: str) -> list[Task]:
    async with database.transaction() as session:
        return list(await session.scalars(select(Task).where(Task.workflow_id == workflow_id)))


async def until_ended(database: Database, workflow_id: str, count: int) -> None:
    """So many of the workflow's tasks have ended."""
    async with asyncio.timeout(PATIENCE):
        while [task.status in TERMINAL for task in await tasks_of(database, workflow_id)].count(True) < count:
            await asyncio.sleep(0.02)


async def another_ends(api: httpx.AsyncClient) -> None:
    """The engine has looked at what there is to do, more than once."""
    await wait_for(api, await post(api, draw("first"), draw("then", "first")), "COMPLETED")


async def test_a_workflow_waits_to_be_started_if_that_is_wanted(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    workflow_id = await post(api, draw("a"), start=False)
    await another_ends(api)
    assert (await api.get(f"/workflows/{workflow_id}")).json()["status"] == "PENDING"
    await act(api, workflow_id, "start")
    ended = await wait_for(api, workflow_id, "COMPLETED")
    assert (ended["progress"], ended["completed_steps"], ended["current_step"]) == (100.0, 1, None)
    again = await api.post(f"/workflows/{workflow_id}/start")
    assert (again.status_code, again.json()["code"]) == (409, "CONFLICT")


async def test_a_paused_workflow_finishes_what_runs_and_begins_nothing(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None
) -> None:
    worker.held = {LONG}
    workflow_id = await post(api, draw("a", prompt=LONG, config={"steps": 20}), draw("b", "a"))
    await until_running(api, workflow_id, "a")
    assert (await act(api, workflow_id, "pause"))["status"] == "PAUSED"
    worker.held.clear()
    async with asyncio.timeout(PATIENCE):
        while statuses(found := (await api.get(f"/workflows/{workflow_id}")).json())["a"] != "COMPLETED":
            await asyncio.sleep(0.05)
    await another_ends(api)
    found = (await api.get(f"/workflows/{workflow_id}")).json()
    assert (found["status"], statuses(found)["b"]) == ("PAUSED", "PENDING")
    assert (await act(api, workflow_id, "resume"))["status"] == "RUNNING"
    ended = await wait_for(api, workflow_id, "COMPLETED", "FAILED")
    assert statuses(ended) == {"a": "COMPLETED", "b": "COMPLETED"}
    assert by_id(ended)["a"]["task_ids"] == by_id(found)["a"]["task_ids"]


async def test_a_step_waits_for_approval_while_the_others_go_on(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    workflow_id = await post(
        api, draw("a"), draw("gate", "a", requires_approval=True), draw("b", "gate"), draw("other")
    )
    async with asyncio.timeout(PATIENCE):
        while not by_id(found := (await api.get(f"/workflows/{workflow_id}")).json())["gate"]["awaits_approval"]:
            await asyncio.sleep(0.05)
    assert found["status"] == "RUNNING"
    await act(api, workflow_id, "steps/gate/approve")
    ended = await wait_for(api, workflow_id, "COMPLETED", "FAILED")
    assert set(statuses(ended).values()) == {"COMPLETED"}
    assert by_id(ended)["gate"]["approved_at"] is not None


async def test_approving_early_means_that_nothing_waits(api: httpx.AsyncClient, worker: object, engine: None) -> None:
    workflow_id = await post(api, draw("a"), draw("gate", "a", requires_approval=True), start=False)
    await act(api, workflow_id, "steps/gate/approve")
    await act(api, workflow_id, "steps/gate/approve")
    await act(api, workflow_id, "start")
    assert statuses(await wait_for(api, workflow_id, "COMPLETED"))["gate"] == "COMPLETED"
    for path, code in (("steps/a/approve", 409), ("steps/nobody/approve", 404)):
        assert (await api.post(f"/workflows/{workflow_id}/{path}")).status_code == code


async def test_cancelling_stops_running_tasks_and_ends_every_step(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None, database: Database
) -> None:
    worker.held = {LONG}
    workflow_id = await post(api, draw("a"), draw("b", "a", prompt=LONG, config={"steps": 100}), draw("c", "b"))
    await until_running(api, workflow_id, "b")
    cancelled = await api.delete(f"/workflows/{workflow_id}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    assert statuses(cancelled.json()) == {"a": "COMPLETED", "b": "CANCELLED", "c": "CANCELLED"}
    worker.held.clear()
    await another_ends(api)
    assert worker.steps_done < 100
    assert sorted(task.status for task in await tasks_of(database, workflow_id)) == ["CANCELLED", "COMPLETED"]
    assert (await api.delete(f"/workflows/{workflow_id}")).status_code == 409
    assert (await api.post(f"/workflows/{workflow_id}/resume")).status_code == 409


async def test_a_failure_spares_the_other_branches_and_a_resume_runs_only_what_is_left(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None, database: Database
) -> None:
    ended = await run(
        api,
        draw("fine"),
        draw("broken", prompt="impossible", max_retries=1),
        draw("behind", "broken"),
        draw("beside", "fine"),
    )
    assert (ended["status"], ended["errors"]) == ("FAILED", ["broken: ValueError: it cannot be drawn"])
    assert statuses(ended) == {"fine": "COMPLETED", "broken": "FAILED", "behind": "SKIPPED", "beside": "COMPLETED"}
    broken = by_id(ended)["broken"]
    assert (broken["retry_count"], broken["error_category"]) == (1, "INTERNAL")
    assert by_id(ended)["behind"]["error_message"] == "Not run, because of broken."

    worker.broken = False
    await act(api, ended["id"], "resume")
    resumed = await wait_for(api, ended["id"], "COMPLETED", "FAILED")
    assert set(statuses(resumed).values()) == {"COMPLETED"}
    assert (resumed["errors"], resumed["error_message"]) == ([], None)
    assert by_id(resumed)["fine"]["task_ids"] == by_id(ended)["fine"]["task_ids"]
    assert len(await tasks_of(database, ended["id"])) == 5


async def test_a_resume_leaves_tolerated_failures_as_they_are(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None
) -> None:
    broken = {"prompt": "impossible", "max_retries": 0}
    ended = await run(
        api, draw("spared", continue_on_error=True, **broken), draw("after", "spared"), draw("x", **broken)
    )
    assert (ended["status"], ended["errors"]) == ("FAILED", ["x: ValueError: it cannot be drawn"])
    worker.broken = False
    await act(api, ended["id"], "resume")
    resumed = await wait_for(api, ended["id"], "COMPLETED")
    assert statuses(resumed) == {"spared": "FAILED", "after": "COMPLETED", "x": "COMPLETED"}
    assert by_id(resumed)["after"]["task_ids"] == by_id(ended)["after"]["task_ids"]


async def test_a_resume_keeps_the_completed_tasks_of_a_step_that_failed(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None
) -> None:
    step = {
        "id": "draw",
        "task_type": "GENERATION",
        "config": {"width": 64, "height": 64, "steps": 1},
        "max_retries": 0,
        "input_mappings": [mapping("$input", "prompts", "prompt")],
    }
    ended = await run(api, step, input={"prompts": ["one", "impossible", "three"]})
    assert ended["status"] == "FAILED"
    before = by_id(ended)["draw"]["task_ids"]
    worker.broken = False
    await act(api, ended["id"], "resume")
    after = by_id(await wait_for(api, ended["id"], "COMPLETED"))["draw"]
    assert [new == old for new, old in zip(after["task_ids"], before, strict=True)] == [True, False, True]
    assert after["result"]["prompt"] == ["one", "impossible", "three"]


async def test_a_tolerated_failure_is_not_the_workflows(api: httpx.AsyncClient, worker: object, engine: None) -> None:
    ended = await run(
        api,
        draw("broken", prompt="impossible", max_retries=0, continue_on_error=True),
        draw("after", "broken"),
        {"id": "needs", **ADJUST, "input_mappings": [mapping("broken", "result_image_path", "input_image")]},
    )
    assert ended["status"] == "COMPLETED", ended["errors"]
    assert statuses(ended) == {"broken": "FAILED", "after": "COMPLETED", "needs": "SKIPPED"}


async def test_a_step_that_tolerates_failures_hands_on_what_was_done(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    step = {
        "id": "draw",
        "task_type": "GENERATION",
        "config": {"width": 64, "height": 64, "steps": 1},
        "max_retries": 0,
        "continue_on_error": True,
        "input_mappings": [mapping("$input", "prompts", "prompt")],
    }
    behind = {"id": "adjust", **ADJUST, "input_mappings": [mapping("draw", "result_image_path", "input_image")]}
    ended = await run(api, step, behind, input={"prompts": ["one", "impossible", "three"]})
    assert ended["status"] == "COMPLETED", ended["errors"]
    assert by_id(ended)["draw"]["result"]["prompt"] == ["one", "three"]
    assert len(by_id(ended)["adjust"]["task_ids"]) == 2


async def test_a_step_that_takes_too_long_fails_and_its_task_stops(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None, database: Database
) -> None:
    worker.held = {LONG}
    ended = await run(api, draw("slow", prompt=LONG, config={"steps": 20}, timeout_seconds=0.5), draw("behind", "slow"))
    step = by_id(ended)["slow"]
    assert (step["status"], step["error_category"]) == ("FAILED", "PROVIDER_TIMEOUT")
    assert step["error_message"] == "It took longer than its 0.5 s."
    assert [task.status for task in await tasks_of(database, ended["id"])] == ["CANCELLED"]


async def test_cancelling_a_steps_task_ends_the_step_and_the_workflow(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None
) -> None:
    worker.held = {LONG}
    workflow_id = await post(api, draw("a", prompt=LONG, config={"steps": 20}))
    running = await until_running(api, workflow_id, "a")
    await api.post(f"/tasks/{by_id(running)['a']['task_id']}/cancel")
    ended = await wait_for(api, workflow_id, "FAILED")
    assert (statuses(ended)["a"], ended["error_message"]) == ("CANCELLED", "a: A task of it was cancelled.")


async def test_running_again_from_a_step_runs_it_and_what_is_behind_it(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    first = await run(api, draw("a"), draw("b", "a"), draw("c", "b"), draw("d"))
    again = await act(api, first["id"], "resume", from_step="b")
    assert again["status"] == "RUNNING"
    second = await wait_for(api, first["id"], "COMPLETED")
    old, new = by_id(first), by_id(second)
    assert {name: new[name]["task_ids"] == old[name]["task_ids"] for name in old} == {
        "a": True,
        "b": False,
        "c": False,
        "d": True,
    }
    assert (await api.post(f"/workflows/{first['id']}/resume")).status_code == 409
    assert (await api.post(f"/workflows/{first['id']}/resume", params={"from_step": "x"})).status_code == 404


async def test_a_step_that_is_to_be_run_again_is_stopped_first(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None, database: Database
) -> None:
    worker.held = {LONG}
    workflow_id = await post(api, draw("a", prompt=LONG, config={"steps": 20}))
    await until_running(api, workflow_id, "a")
    await act(api, workflow_id, "pause")
    await act(api, workflow_id, "resume", from_step="a")
    await until_ended(database, workflow_id, 1)
    worker.held.clear()
    assert statuses(await wait_for(api, workflow_id, "COMPLETED")) == {"a": "COMPLETED"}
    assert sorted(task.status for task in await tasks_of(database, workflow_id)) == ["CANCELLED", "COMPLETED"]
    async with database.transaction() as session:
        log = await session.scalars(
            select(WorkflowEvent.status)
            .where(WorkflowEvent.workflow_id == workflow_id, WorkflowEvent.step_id == "a")
            .order_by(WorkflowEvent.id)
        )
        assert list(log) == ["RUNNING", "CANCELLED", "PENDING", "RUNNING", "COMPLETED"]


async def test_unchanged_steps_are_taken_over_if_that_is_wanted(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None
) -> None:
    def steps(brightness: float) -> list[dict[str, Any]]:
        adjust = {"id": "adjust", "task_type": "IMAGE_ADJUSTER", "config": {"brightness": brightness}}
        return [draw("a"), {**adjust, "input_mappings": [mapping("a", "result_image_path", "input_image")]}]

    first = await run(api, *steps(0.1))
    plain = await run(api, *steps(0.1))
    assert by_id(plain)["a"]["reused_from"] is None
    same = await run(api, *steps(0.1), reuse=True)
    changed = await run(api, *steps(0.2), reuse=True)
    elsewhere = await run(api, *steps(0.1), reuse=True, origin_tenant_id="another")
    assert len(worker.requests) == 3
    assert by_id(same)["a"]["reused_from"] in (by_id(first)["a"]["id"], by_id(plain)["a"]["id"])
    assert by_id(same)["adjust"]["result"] == by_id(plain)["adjust"]["result"]
    assert by_id(changed)["a"]["reused_from"] is not None
    assert by_id(changed)["adjust"]["reused_from"] is None
    assert by_id(elsewhere)["a"]["reused_from"] is None

    # Run again from a step, that one is really run; those behind it are given the same picture, and stay.
    await act(api, same["id"], "resume", from_step="a")
    again = await wait_for(api, same["id"], "COMPLETED")
    assert by_id(again)["a"]["reused_from"] is None
    assert by_id(again)["a"]["task_ids"] != by_id(same)["a"]["task_ids"]
    assert by_id(again)["adjust"]["task_ids"] == by_id(same)["adjust"]["task_ids"]


async def test_every_change_is_in_the_event_log_once(
    api: httpx.AsyncClient, worker: object, engine: None, database: Database
) -> None:
    ended = await run(api, draw("a"), draw("b", "a"))
    await act(api, ended["id"], "resume", from_step="b")
    await wait_for(api, ended["id"], "COMPLETED")
    async with database.transaction() as session:
        rows = await session.scalars(
            select(WorkflowEvent).where(WorkflowEvent.workflow_id == ended["id"]).order_by(WorkflowEvent.id)
        )
        assert [(row.step_id, row.status) for row in rows] == [
            (None, "PENDING"),
            (None, "RUNNING"),
            ("a", "RUNNING"),
            ("a", "COMPLETED"),
            ("b", "RUNNING"),
            ("b", "COMPLETED"),
            (None, "COMPLETED"),
            ("b", "PENDING"),
            (None, "RUNNING"),
            ("b", "RUNNING"),
            ("b", "COMPLETED"),
            (None, "COMPLETED"),
        ]


@pytest.mark.parametrize("priority", [0, 3])
async def test_what_a_step_says_of_its_tasks_holds_for_them(
    api: httpx.AsyncClient, worker: object, engine: None, database: Database, priority: int
) -> None:
    step = draw("a", config={"priority": priority}, max_retries=7)
    ended = await run(api, step, origin_tenant_id="shop", origin_zone="eu", origin_reference="o" * 500)
    (task,) = await tasks_of(database, ended["id"])
    assert (task.priority, task.max_retries, task.tenant, task.origin_zone) == (priority, 7, "shop", "eu")
    assert (task.origin_instance, task.origin_reference) == ("tests", "o" * 500)
