"""Many tasks with one request: all or none, in order, each in its own dialect."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiohttp import web
from PIL import Image
from sqlalchemy import text

from compute.db.session import Database
from tests.integration.api.conftest import Painter, wait_for

GOOD = {"prompt": "a hat", "width": 64, "height": 32, "steps": 1}


def picture(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), color).save(buffer, "PNG")
    return buffer.getvalue()


async def stored(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await api.get("/tasks/", params={"limit": 1000})
    return list(answer.json())


async def test_tasks_are_answered_and_run_in_order_each_in_its_dialect(api: httpx.AsyncClient, worker: Painter) -> None:
    bodies = [
        GOOD | {"task_type": "GENERATION", "seed": 1},
        GOOD | {"type": "generation", "seed": 2, "num_outputs": 2},
        GOOD | {"seed": 3, "config": {"mine": True}},
    ]
    answer = await api.post("/tasks/bulk", json={"tasks": bodies})
    assert answer.status_code == 201, answer.text
    canonical, quick, plain = answer.json()
    assert (canonical["status"], canonical["seed"]) == ("PENDING", 1)
    assert (quick["status"], quick["type"]) == ("pending", "generation")
    assert quick["id"].startswith("task_")
    assert (plain["status"], plain["seed"], plain["config"]) == ("PENDING", 3, {"mine": True})
    for task in (canonical, quick, plain):
        done = await wait_for(api, task["id"], "COMPLETED", "completed")
        assert done["created_at"] == task["created_at"]
    assert sorted(request.seed for request in worker.requests) == [1, 2, 3, 3]


async def test_a_thousand_tasks_are_one_transaction(api: httpx.AsyncClient, database: Database) -> None:
    answer = await api.post("/tasks/bulk", json={"tasks": [GOOD | {"seed": seed} for seed in range(1000)]})
    assert answer.status_code == 201, answer.text
    assert [task["seed"] for task in answer.json()] == list(range(1000))
    assert [task["seed"] for task in await stored(api)] == list(reversed(range(1000)))
    async with database.transaction() as session:
        made = (await session.execute(text("SELECT count(DISTINCT xmin::text), count(*) FROM tasks"))).one()
    assert tuple(made) == (1, 1000)


@pytest.mark.parametrize(
    ("element", "loc"),
    [
        ({"width": 7}, ["width"]),
        ({"width": 72}, ["width"]),
        ({"promt": "typo"}, ["promt"]),
        ({"prompt": "nul \x00"}, ["prompt"]),
        ({"config": {"deep": ["x\x00"]}}, ["config", "deep", 0]),
        ({"task_type": "PAINTING"}, ["task_type"]),
        ({"queue_name": "nowhere"}, ["queue_name"]),
        ({"provider_type": "FAL_STANDARD"}, ["provider_type"]),
        ({"webhook_url": "http://10.0.0.1/hook"}, ["webhook_url"]),
        ({"style_model_path": "styles/none.safetensors"}, ["style_model_path"]),
        ({"reference_image_url": "http://10.0.0.1/a.png"}, ["reference_image_url"]),
        ({"tasks": [GOOD]}, ["tasks"]),
    ],
)
async def test_one_bad_element_is_named_and_nothing_is_stored(
    api: httpx.AsyncClient, element: dict[str, Any], loc: list[str]
) -> None:
    upload = "data:image/png;base64," + base64.b64encode(picture("teal")).decode()
    bodies = [GOOD, GOOD | {"reference_image_data": upload}, GOOD, GOOD | element, GOOD]
    answer = await api.post("/tasks/bulk", json={"tasks": bodies})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "INVALID_INPUT"
    assert ["body", "tasks", 3, *loc] in [item["loc"] for item in answer.json()["detail"]]
    assert await stored(api) == []
    assert (await api.get("/storage/images")).json()["count"] == 0


async def test_every_bad_element_is_named_at_once(api: httpx.AsyncClient) -> None:
    bodies = [GOOD | {"width": 7}, GOOD, {}, GOOD | {"task_type": 5}]
    answer = await api.post("/tasks/bulk", json={"tasks": bodies})
    assert [item["loc"] for item in answer.json()["detail"]] == [
        ["body", "tasks", 0, "width"],
        ["body", "tasks", 2, "prompt"],
        ["body", "tasks", 3, "task_type"],
    ]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"tasks": []}, ["body", "tasks"]),
        ({"tasks": [GOOD] * 1001}, ["body", "tasks"]),
        ({"tasks": GOOD}, ["body", "tasks"]),
        ({"tasks": [GOOD, "a hat"]}, ["body", "tasks", 1]),
        ({}, ["body", "tasks"]),
        ({"tasks": [GOOD], "priority": 3}, ["body", "priority"]),
    ],
)
async def test_a_body_of_another_shape_is_refused(api: httpx.AsyncClient, body: dict[str, Any], loc: list[Any]) -> None:
    answer = await api.post("/tasks/bulk", json=body)
    assert answer.status_code == 422, answer.text
    assert [item["loc"] for item in answer.json()["detail"]] == [loc]
    assert await stored(api) == []


@pytest.mark.parametrize("depth", [60, 900, 100_000])
async def test_an_element_that_is_nested_too_deeply_is_refused(api: httpx.AsyncClient, depth: int) -> None:
    content = b'{"tasks": [{"prompt": "a hat", "config": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}]}"
    headers = {"Content-Type": "application/json", "Idempotency-Key": "deep"}
    answer = await api.post("/tasks/bulk", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert await stored(api) == []


async def test_a_key_covers_the_whole_request(api: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "order-18"}
    body = {"tasks": [GOOD | {"seed": seed} for seed in range(3)]}
    answers = await asyncio.gather(*(api.post("/tasks/bulk", json=body, headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 4
    assert [UUID(task["id"]) for task in answers[0].json()] == [
        UUID(task["id"]) for task in reversed(await stored(api))
    ]
    other = await api.post("/tasks/bulk", json={"tasks": body["tasks"][:2]}, headers=headers)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.text
    assert len(await stored(api)) == 3


@pytest.fixture
async def gallery() -> AsyncIterator[tuple[str, list[str]]]:
    """A server of one picture, and what was asked of it."""
    asked: list[str] = []

    async def show(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=picture("teal"), content_type="image/png")

    app = web.Application()
    app.router.add_get("/{name}", show)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


async def test_an_input_that_many_elements_name_is_fetched_once(
    api: httpx.AsyncClient, gallery: tuple[str, list[str]]
) -> None:
    address, asked = gallery
    bodies = [GOOD | {"input_image_url": f"{address}/{name}.png"} for name in ("a", "b", "a", "a")]
    answer = await api.post("/tasks/bulk", json={"tasks": bodies})
    assert answer.status_code == 201, answer.text
    assert asked == ["/a.png", "/b.png"]
    assert len({task["reference_image_path"] for task in answer.json()}) == 1
    assert all(task["reference_image_path"] for task in answer.json())


async def test_a_key_is_needed(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.post("/api/v1/tasks/bulk", json={"tasks": [GOOD]})).status_code == 401
