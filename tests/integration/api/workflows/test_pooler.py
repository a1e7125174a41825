"""API, Dispatcher and engine behind a PgBouncer in transaction mode, with its server's own address and without."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from compute.db.session import Database
from compute.settings import Settings
from compute.training.rows.connection import ReportLink
from tests.integration.api.conftest import Painter
from tests.integration.api.conftest import wait_for as wait_for_task
from tests.integration.api.workflows.conftest import SMALL, draw, mapping, run, statuses
from tests.integration.pooler import pooler


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    with pooler(database_url) as address:
        yield address.render_as_string(hide_password=False)


@pytest.fixture(params=["with hints", "polling"])
def settings(request: pytest.FixtureRequest, settings: Settings, pooled_url: str, database_url: str) -> Settings:
    direct = database_url if request.param == "with hints" else None
    return settings.model_copy(
        update={"database_url": pooled_url, "database_pooled": True, "database_direct_url": direct}
    )


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database.of(settings)
    yield database
    await database.close()


@pytest.mark.usefixtures("worker", "engine")
async def test_tasks_workflows_and_keys_work_behind_a_pooler(api: httpx.AsyncClient) -> None:
    body = {"prompt": "a hat", **SMALL}
    sent = [api.post("/tasks/", json=body, headers={"Idempotency-Key": f"key-{n % 6}"}) for n in range(12)]
    answers = await asyncio.gather(*sent, *(api.post("/tasks/", json=body) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {201}
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 18
    flow = run(api, draw("one"), draw("two", "one", input_mappings=[mapping("one", "prompt", "prompt")]))
    ended, *tasks = await asyncio.gather(flow, *(wait_for_task(api, one, "COMPLETED", "FAILED") for one in ids))
    assert {task["status"] for task in tasks} == {"COMPLETED"}
    assert statuses(ended) == {"one": "COMPLETED", "two": "COMPLETED"}


async def test_a_cancelled_task_stops_and_a_deleted_one_is_gone(api: httpx.AsyncClient, worker: Painter) -> None:
    worker.held.add("slow")
    task = (await api.post("/tasks/", json={"prompt": "slow", **SMALL, "steps": 20})).json()["id"]
    await wait_for_task(api, task, "EXECUTING")
    assert (await api.post(f"/tasks/{task}/cancel")).status_code == 200
    assert (await wait_for_task(api, task, "CANCELLED"))["status"] == "CANCELLED"
    assert (await api.delete(f"/tasks/{task}")).status_code == 200
    assert (await api.get(f"/tasks/{task}")).status_code == 404


def test_a_training_reports_through_it(pooled_url: str) -> None:
    link = ReportLink(pooled_url, patience_seconds=0.0, pooled=True)
    assert link.rows("SELECT %(n)s::int", {"n": 3}) == [(3,)]
    link.close()
