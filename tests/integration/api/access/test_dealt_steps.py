"""Limits of keys and tenants hold for workflows, too: for steps that are many tasks, and for those that run again."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select

from compute.db.session import Database, connection_of
from compute.db.tables import QuotaUse, Task
from compute.settings import Settings
from compute.tasks.submission.quotas import Charge, Quota, charge
from tests.integration.api.access.conftest import SMALL, GiveKey, bearer
from tests.integration.api.conftest import Painter
from tests.integration.api.workflows.conftest import by_id, draw, mapping, post, running_engine, wait_for
from tests.patience import PATIENCE

LONG = "a picture that takes long"


@pytest.fixture(autouse=True)
async def engine(settings: Settings, database: Database, worker: Painter) -> AsyncIterator[None]:
    async with running_engine(settings, database):
        yield


@pytest.fixture
async def shop(api: httpx.AsyncClient, give: GiveKey, limits: dict[str, int]) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key that has these limits."""
    key = await give(scope="operate", limits=limits)
    async with httpx.AsyncClient(base_url=api.base_url, headers=bearer(key["key"]), timeout=PATIENCE) as client:
        yield client


async def start(api: httpx.AsyncClient, number: int) -> str:
    """A workflow of one step that is so many tasks; its id."""
    step = draw("s", input_mappings=[mapping("$config", "prompts", "prompt")])
    del step["config"]["prompt"]
    return await post(api, step, config={"prompts": [f"picture {index}" for index in range(number)]})


async def task_count(database: Database) -> int:
    async with database.transaction() as session:
        return await session.scalar(select(func.count()).select_from(Task)) or 0


@pytest.mark.parametrize("limits", [{"concurrent_tasks": 2}, {"tasks_per_day": 2}])
async def test_a_step_that_is_more_tasks_than_a_limit_fails_before_it_has_any(
    shop: httpx.AsyncClient, database: Database
) -> None:
    ended = await wait_for(shop, await start(shop, 40), "COMPLETED", "FAILED")
    step = by_id(ended)["s"]
    assert (step["status"], step["error_category"]) == ("FAILED", "INVALID_INPUT")
    assert "The step is 40 tasks, and the limit of the key is 2." in step["error_message"]
    assert await task_count(database) == 0


@pytest.mark.parametrize("limits", [{"tasks_per_day": 5}])
async def test_every_task_of_a_dealt_step_counts_for_the_day(shop: httpx.AsyncClient) -> None:
    ended = await wait_for(shop, await start(shop, 4), "COMPLETED", "FAILED")
    assert ended["status"] == "COMPLETED", ended["errors"]
    assert [(await shop.post("/tasks/", json=SMALL)).status_code for _ in range(2)] == [201, 429]


@pytest.mark.parametrize("limits", [{"concurrent_tasks": 3}])
async def test_a_dealt_step_waits_until_others_have_made_room(
    shop: httpx.AsyncClient, database: Database, worker: Painter
) -> None:
    worker.held.add(LONG)
    assert (await shop.post("/tasks/", json=SMALL | {"prompt": LONG})).status_code == 201
    workflow = await start(shop, 3)
    refused = await shop.post(
        "/workflows/", json={"name": "w", "origin_instance": "t", "steps": [draw("a"), draw("b")]}
    )
    assert refused.status_code == 429
    assert await task_count(database) == 1
    worker.held.clear()
    ended = await wait_for(shop, workflow, "COMPLETED", "FAILED")
    assert ended["status"] == "COMPLETED", ended["errors"]
    assert await task_count(database) == 4
    # What has ended takes no room.
    assert (await shop.post("/tasks/bulk", json={"tasks": [SMALL] * 3})).status_code == 201


@pytest.mark.parametrize("limits", [{"tasks_per_day": 3}])
async def test_a_step_that_is_run_again_counts_for_the_day_again(shop: httpx.AsyncClient, database: Database) -> None:
    workflow = await post(shop, draw("a"))
    await wait_for(shop, workflow, "COMPLETED")
    for status in (200, 200, 429):
        answer = await shop.post(f"/workflows/{workflow}/resume", params={"from_step": "a"})
        assert answer.status_code == status, answer.text
        await wait_for(shop, workflow, "COMPLETED")
    assert await task_count(database) == 3


async def test_a_step_that_is_begun_twice_is_counted_once(database: Database) -> None:
    step = Charge([Quota("key:x", "the key", 10, 10)], [uuid4()], "step", 4)
    for _ in range(2):
        async with database.transaction() as session:
            await charge(await connection_of(session), step, once=True)
    async with database.transaction() as session:
        assert await session.scalar(select(QuotaUse.units)) == 4
