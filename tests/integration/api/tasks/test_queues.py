"""Queues of tasks, and those that cannot take a task."""

import httpx
from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import Task

ASKED = {"task_type": "GENERATION", "prompt": "a dress", "width": 64, "height": 64, "steps": 1}


async def test_a_task_for_a_queue_without_a_pool_of_its_own_waits_where_its_pool_looks(
    api: httpx.AsyncClient, database: Database
) -> None:
    accepted = await api.post("/tasks/", json=ASKED | {"queue_name": "refine"})
    assert accepted.status_code == 201
    async with database.transaction() as session:
        assert await session.scalar(select(Task.queue)) == "inference"


async def test_a_queue_whose_workers_have_no_model_refuses_work_that_needs_one(api: httpx.AsyncClient) -> None:
    refused = await api.post("/tasks/", json=ASKED | {"queue_name": "image"})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "queue_name"]
    assert "no model" in refused.json()["detail"][0]["msg"]


async def test_a_waiting_task_can_move_only_to_a_queue_that_can_run_it(
    api: httpx.AsyncClient, database: Database
) -> None:
    task_id = (await api.post("/tasks/", json=ASKED)).json()["id"]
    refused = await api.put(f"/tasks/generation/{task_id}", json={"queue_name": "image"})
    assert refused.status_code == 422
    assert "no model" in refused.json()["detail"][0]["msg"]
    moved = await api.put(f"/tasks/generation/{task_id}", json={"queue_name": "refine"})
    assert moved.status_code == 200
    async with database.transaction() as session:
        assert await session.scalar(select(Task.queue)) == "inference"
