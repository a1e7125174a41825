"""Requests to /workflows: accepted, refused, listed, changed, cleaned up."""

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from compute.db.session import Database
from tests.integration.api.workflows.conftest import by_id, draw, mapping, post, run, wait_for, workflow
from tests.integration.api.workflows.test_quickstart import sample
from tests.integration.webhooks.receiver import Receiver, receiving, sending, until_received

ADJUST = {"task_type": "IMAGE_ADJUSTER", "config": {"brightness": 0.1}}


async def refused(api: httpx.AsyncClient, body: Any, **params: Any) -> list[dict[str, Any]]:
    """The faults of a body, which leaves nothing behind."""
    answer = await api.post("/workflows/", json=body, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_INPUT"), answer.text
    assert (await api.get("/workflows/")).json()["total"] == 0
    faults: list[dict[str, Any]] = answer.json()["detail"]
    return faults


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "name"]),
        (workflow(), ["body", "steps"]),
        (workflow({"id": "a"}), ["body", "steps", 0, "task_type"]),
        (workflow(draw("a"), colour="red"), ["body", "colour"]),
        (workflow(draw("a", config={"width": 17})), ["body", "steps", 0, "config", "width"]),
        (workflow(draw("a", config={"colour": 1})), ["body", "steps", 0, "config", "colour"]),
        (workflow(draw("a", "b")), ["body", "steps", 0, "depends_on", 0]),
        (workflow(draw("a", "a")), ["body", "steps"]),
        (workflow(draw("a", config={"workflow_id": "x"})), ["body", "steps", 0, "config", "workflow_id"]),
        (
            workflow(draw("a", fallback_provider_type="VERTEX")),
            ["body", "steps", 0, "fallback_provider_type"],
        ),
        (workflow(draw("a"), webhook_url="http://10.0.0.1/hook"), ["body", "webhook_url"]),
        (
            workflow(draw("a", config={"reference_image_url": "http://127.0.0.1:1/x.png"})),
            ["body", "steps", 0, "config", "reference_image_url"],
        ),
        (
            workflow(draw("a", config={"subject_model_path": "faces/none.safetensors"})),
            ["body", "steps", 0, "config", "subject_model_path"],
        ),
        (
            workflow(
                draw("a", input_mappings=[mapping("$input", "pic", "reference_image_url")]), input={"pic": "none.png"}
            ),
            ["body", "input", "pic"],
        ),
        ({"name": "x", "steps": [{"name": "a", "type": "dance"}]}, ["body", "steps", 0, "type"]),
        (
            {"name": "x", "steps": [{"name": "a", "type": "processing", "config": {"operation": "fold"}}]},
            ["body", "steps", 0, "config", "operation"],
        ),
        ({"name": "x", "steps": ["a"]}, ["body", "steps", 0]),
        ({"name": "x", "steps": {"a": 1}}, ["body", "steps"]),
    ],
)
async def test_a_definition_that_cannot_run_is_refused_by_its_place(
    api: httpx.AsyncClient, body: dict[str, Any], loc: list[str | int]
) -> None:
    assert loc in [fault["loc"] for fault in await refused(api, body)]


async def test_too_many_steps_and_cycles_are_named(api: httpx.AsyncClient) -> None:
    (fault,) = await refused(api, workflow(*[draw(f"s{index}") for index in range(501)]))
    assert "at most 500" in fault["msg"]
    (fault,) = await refused(api, workflow(draw("a", "c"), draw("b", "a"), draw("c", "b"), draw("d")))
    assert fault["msg"].endswith("a, b, c.")


async def test_input_that_does_not_fit_is_refused_at_the_start(api: httpx.AsyncClient) -> None:
    workflow_id = await post(api, draw("a", input_mappings=[mapping("$input", "size", "width")]), start=False)
    for given, message in (({}, "$input has no value `size`."), ({"size": "wide"}, "width takes number")):
        answer = await api.post(f"/workflows/{workflow_id}/start", json={"input": given})
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"][0]["loc"] == ["body", "input", "size"]
        assert message in answer.json()["detail"][0]["msg"]
    assert (await api.post(f"/workflows/{workflow_id}/start", json={"size": 64})).status_code == 422
    assert (await api.get(f"/workflows/{workflow_id}")).json()["status"] == "PENDING"
    assert (await api.post(f"/workflows/{workflow_id}/start", json={"input": {"size": 64}})).status_code == 200


@pytest.mark.parametrize("path", ["wf_x", "task_" + "0" * 32, "not-an-id"])
async def test_an_id_that_is_none_is_a_bad_request(api: httpx.AsyncClient, path: str) -> None:
    assert (await api.get(f"/workflows/{path}")).status_code == 400


async def test_an_unknown_workflow_is_not_found(api: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/pause"), ("POST", "/cleanup")):
        assert (await api.request(method, f"/workflows/{uuid4()}{path}")).status_code == 404, path


async def test_without_a_key_nothing_is_answered(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/api/v1/workflows/")).status_code == 401


async def test_a_repeated_key_makes_one_workflow(api: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await api.post("/workflows/", json=sample(), headers=headers)
    again = await api.post("/workflows/", json=sample(), headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await api.post("/workflows/", json=workflow(draw("a")), headers=headers)).status_code == 422
    assert (await api.get("/workflows/")).json()["total"] == 1


async def test_both_spellings_of_an_id_name_the_same_workflow(api: httpx.AsyncClient) -> None:
    quick = (await api.post("/workflows/", json=sample())).json()
    listed = (await api.get("/workflows/")).json()["workflows"][0]
    assert listed["id"].replace("-", "") == quick["id"].removeprefix("wf_")
    assert (listed["status"], quick["status"], quick["current_step"]) == ("PENDING", "pending", 0)
    assert [step["step_id"] for step in listed["steps"]] == [step["name"] for step in quick["steps"]]


async def test_lists_are_filtered_counted_and_cut(api: httpx.AsyncClient) -> None:
    ids = [
        await post(api, draw("a"), start=False, name=f"n{index}", origin_tenant_id="even" if index % 2 == 0 else "odd")
        for index in range(5)
    ]
    everything = (await api.get("/workflows/")).json()
    assert [one["id"] for one in everything["workflows"]] == ids[::-1]
    assert (everything["total"], everything["skip"], everything["limit"]) == (5, 0, 50)
    some = (await api.get("/workflows/", params={"origin_tenant_id": "even", "skip": 1, "limit": 1})).json()
    assert ([one["id"] for one in some["workflows"]], some["total"]) == ([ids[2]], 3)
    assert (await api.get("/workflows/", params={"status": "RUNNING"})).json()["total"] == 0
    assert (await api.get("/workflows/", params={"status": "pending", "origin_instance": "tests"})).json()["total"] == 5
    for query in ({"status": "LOST"}, {"limit": 0}, {"skip": -1}):
        assert (await api.get("/workflows/", params=query)).status_code == 400


async def test_name_description_and_webhook_can_be_changed(api: httpx.AsyncClient) -> None:
    workflow_id = await post(api, draw("a"), start=False, description="old")
    changed = await api.patch(f"/workflows/{workflow_id}", json={"name": "new", "description": None})
    assert (changed.json()["name"], changed.json()["description"]) == ("new", None)
    for body in ({"name": ""}, {"name": None}, {"status": "RUNNING"}, {"webhook_url": "http://10.0.0.1/"}):
        assert (await api.patch(f"/workflows/{workflow_id}", json=body)).status_code == 422, body
    assert (await api.get(f"/workflows/{workflow_id}")).json()["name"] == "new"


async def test_cleaning_up_removes_the_files_and_hides_the_workflow(
    api: httpx.AsyncClient, worker: object, engine: None
) -> None:
    adjust = {"id": "adjust", **ADJUST, "input_mappings": [mapping("a", "result_image_path", "input_image")]}
    ended = await run(api, draw("a"), adjust)
    paths = [step["result"]["result_image_path"] for step in ended["steps"]]
    answer = (await api.post(f"/workflows/{ended['id']}/cleanup")).json()
    assert answer["cleanup"] == {
        "tasks_processed": 2,
        "tasks_cleaned": 2,
        "deleted_paths": paths,
        "errors": [],
    }
    assert (answer["workflow"]["is_deleted"], answer["workflow"]["deleted_at"] is not None) == (True, True)
    for path in paths:
        assert (await api.get(f"/storage/images/{path}")).status_code == 404
    assert (await api.get("/workflows/")).json()["total"] == 0
    assert (await api.get("/workflows/", params={"include_deleted": True})).json()["total"] == 1
    assert (await api.get("/tasks/")).json() == []
    assert (await api.post(f"/workflows/{ended['id']}/resume", params={"from_step": "a"})).status_code == 409
    again = (await api.post(f"/workflows/{ended['id']}/cleanup")).json()["cleanup"]
    assert (again["deleted_paths"], again["errors"]) == ([], [])


async def test_cleaning_up_can_leave_the_tasks_alone(api: httpx.AsyncClient, worker: object, engine: None) -> None:
    ended = await run(api, draw("a"))
    answer = await api.post(f"/workflows/{ended['id']}/cleanup", params={"cleanup_tasks": False})
    assert answer.json()["cleanup"]["tasks_processed"] == 0
    assert len((await api.get("/tasks/")).json()) == 1


async def test_what_runs_cannot_be_cleaned_up(api: httpx.AsyncClient) -> None:
    workflow_id = await post(api, draw("a"))
    assert (await api.post(f"/workflows/{workflow_id}/cleanup")).status_code == 409


@pytest.mark.parametrize("suppressed", [True, False])
async def test_the_webhook_is_called_at_the_end_and_if_wanted_for_tasks(
    api: httpx.AsyncClient, worker: object, engine: None, database: Database, suppressed: bool
) -> None:
    expected = ["WORKFLOW_STATUS"] if suppressed else ["TASK_STATUS", "TASK_STATUS", "WORKFLOW_STATUS"]
    async with receiving(Receiver()) as receiver, sending(database):
        ended = await run(api, draw("a"), draw("b", "a"), webhook_url=receiver.url, suppress_subtask_events=suppressed)
        await until_received(receiver, len(expected))
    events = [json.loads(one.body) for one in receiver.received]
    assert sorted(event["event_type"] for event in events) == expected
    told = next(event for event in events if event["event_type"] == "WORKFLOW_STATUS")
    assert (told["workflow_id"], told["status"], told["final_step_id"]) == (ended["id"], "COMPLETED", "b")
    assert told["final_step_result"] == by_id(ended)["b"]["result"]


async def test_an_estimate_follows_from_how_long_steps_took(api: httpx.AsyncClient, worker: Any, engine: None) -> None:
    worker.seconds_per_step = 0.02
    before = by_id(await run(api, draw("a", config={"steps": 30})))["a"]
    began, ended = (datetime.fromisoformat(before[name]) for name in ("started_at", "completed_at"))
    took = (ended - began).total_seconds()
    workflow_id = await post(api, draw("a", config={"steps": 30}), draw("b", "a", config={"steps": 30}))
    running = await wait_for(api, workflow_id, "RUNNING")
    assert 0.5 < running["eta_seconds"] < 4 * took
    assert (await wait_for(api, workflow_id, "COMPLETED"))["eta_seconds"] is None
