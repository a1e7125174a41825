"""Workflows of a tenant's key: their steps run later, in another process, and still see that tenant's files alone."""

import base64
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from compute.db.session import Database
from compute.settings import Settings
from compute.storage.tenants import tenant_folder
from tests.integration.api.access.conftest import SMALL, GiveKey
from tests.integration.api.access.scene import MINE, THEIRS, client, flow_of, key_of, made
from tests.integration.api.conftest import Painter
from tests.integration.api.images.test_storage import picture
from tests.integration.api.workflows.conftest import mapping, running_engine, wait_for


@pytest.fixture
async def apis(
    base_url: str, give: GiveKey, settings: Settings, database: Database, worker: Painter
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of two tenants, beside a running engine."""
    async with (
        running_engine(settings, database),
        client(base_url, await key_of(give, MINE)) as mine,
        client(base_url, await key_of(give, THEIRS)) as theirs,
    ):
        yield mine, theirs


def second(**config: object) -> dict[str, object]:
    """A step whose inputs are looked at only when the one before has ended."""
    step = {"id": "again", "task_type": "GENERATION", "config": SMALL | config, "depends_on": ["draw"]}
    return step | {"input_mappings": [mapping("$config", "picture", "reference_image_url")]}


async def test_a_later_step_finds_no_file_of_another_tenant(
    apis: tuple[httpx.AsyncClient, httpx.AsyncClient], api: httpx.AsyncClient
) -> None:
    mine, theirs = apis
    draw = {"id": "draw", "task_type": "GENERATION", "config": SMALL}
    foreign = (await made(theirs, "/storage/images", files={"file": ("a.png", picture("blue"))}))["path"]
    own = (await made(mine, "/storage/images", files={"file": ("a.png", picture("red"))}))["path"]
    unknown = f"{foreign.rpartition('/')[0]}/{uuid.uuid4().hex}.png"
    said = {}
    for path, transform in ((foreign, None), (foreign, "URL"), (foreign, "BASE64"), (unknown, None), (unknown, "URL")):
        step = second()
        step["input_mappings"] = [mapping("$config", "picture", "reference_image_url", transform=transform)]
        body = flow_of(draw, step) | {"config": {"picture": path}}
        answer = await mine.post("/workflows/", json=body)
        assert answer.status_code == 201, answer.text
        ended = await wait_for(mine, answer.json()["id"], "COMPLETED", "FAILED")
        assert [one["status"] for one in ended["steps"]] == ["COMPLETED", "FAILED"], (path, transform)
        said[path, transform] = ended["steps"][1]["error_message"].replace(path, "{}")
    assert said[foreign, None] == said[unknown, None]
    assert said[foreign, "URL"] == said[unknown, "URL"]

    for who, path in ((mine, own), (api, foreign)):
        answer = await who.post("/workflows/", json=flow_of(draw, second()) | {"config": {"picture": path}})
        ended = await wait_for(who, answer.json()["id"], "COMPLETED", "FAILED")
        assert ended["status"] == "COMPLETED", ended


async def test_tasks_of_a_workflow_are_the_tenants_and_what_they_take_in_lies_in_its_folder(
    apis: tuple[httpx.AsyncClient, httpx.AsyncClient], database: Database
) -> None:
    mine, theirs = apis
    inline = "data:image/png;base64," + base64.b64encode(picture("green")).decode()
    draw = {"id": "draw", "task_type": "GENERATION", "config": SMALL | {"reference_image_url": inline}}
    answer = await mine.post("/workflows/", json=flow_of(draw))
    assert answer.status_code == 201, answer.text
    ended = await wait_for(mine, answer.json()["id"], "COMPLETED", "FAILED")
    assert ended["status"] == "COMPLETED"
    (task,) = (await mine.get("/tasks/generation", params={"workflow_id": ended["id"]})).json()
    assert task["origin_tenant_id"] == MINE
    assert (await theirs.get(f"/tasks/{task['id']}")).status_code == 404
    kept = (await mine.get("/storage/images", params={"prefix": f"{tenant_folder(MINE)}inputs/"})).json()
    assert kept["count"] == 1


async def test_unchanged_steps_are_reused_within_a_tenant_and_not_across(
    apis: tuple[httpx.AsyncClient, httpx.AsyncClient], worker: Painter
) -> None:
    mine, theirs = apis
    draw = {"id": "draw", "task_type": "GENERATION", "config": SMALL}
    made_by = []
    for who in (mine, theirs, mine):
        answer = await who.post("/workflows/", json=flow_of(draw) | {"reuse": True})
        ended = await wait_for(who, answer.json()["id"], "COMPLETED", "FAILED")
        made_by.append(ended["steps"][0]["task_ids"])
    assert made_by[0] == made_by[2] != made_by[1]
    assert len(worker.requests) == 2
