"""Objects that are the caller's own come back as they were sent, wherever they come back."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from compute.db.session import Database
from compute.settings import Settings
from tests.integration.api.conftest import serving_api

OWN: dict[str, Any] = {
    "zeta": 1e22,
    "alpha": -0.0,
    "one": 1.0,
    "whole": 1,
    "large": 2**53 + 1,
    "huge": 2**64 + 1,
    "enormous": 10**100,
    "small": 5e-324,
    "most": 1.7976931348623157e308,
    "tenth": 0.1,
    "e": 1e-7,
    "": "empty key",
    "ü\u2028😀": "é\u0301",
    "b": [[], {}, None, True, {"z": 1, "a": [1e16, 1e15, 123456789.0]}],
}


@pytest.fixture
async def base_url(settings: Settings) -> AsyncIterator[str]:
    """The API before fal, which nobody asks for anything."""
    with_key = settings.model_copy(update={"fal_key": SecretStr("key-of-nobody")})
    async with serving_api(with_key, elsewhere=("fal",)) as url:
        yield url


SMALL = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1}


def same(found: Any) -> bool:
    """Whether it is what was sent, to the last sign and in the same order."""
    return json.dumps(found) == json.dumps(OWN)


async def test_a_tasks_config_comes_back_everywhere(api: httpx.AsyncClient) -> None:
    body = SMALL | {"config": OWN}
    made = (await api.post("/tasks/", json=body, headers={"Idempotency-Key": "a"})).json()
    again = (await api.post("/tasks/", json=body, headers={"Idempotency-Key": "a"})).json()
    many = (await api.post("/tasks/bulk", json={"tasks": [body, SMALL]})).json()
    one = (await api.get(f"/tasks/{made['id']}")).json()
    listed = (await api.get("/tasks/")).json()
    cancelled = (await api.post(f"/tasks/{made['id']}/cancel")).json()
    events = (await api.get(f"/tasks/{made['id']}/events")).text
    last = json.loads(events.strip().rpartition("data: ")[2])
    for task in (made, again, many[0], one, cancelled, last, *(task for task in listed if task["config"])):
        assert same(task["config"]), task["config"]
    assert many[1]["config"] is None


async def test_a_config_that_is_replaced_comes_back_too(api: httpx.AsyncClient) -> None:
    task = (await api.post("/tasks/", json=SMALL | {"config": {"a": -0.0}})).json()["id"]
    for path in ("/tasks", "/tasks/generation"):
        assert same((await api.put(f"{path}/{task}", json={"config": OWN})).json()["config"])
        assert same((await api.get(f"/tasks/{task}")).json()["config"])
    await api.put(f"/tasks/{task}", json={"priority": 3})
    assert same((await api.get(f"/tasks/{task}")).json()["config"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1.0}, {"a": True}),
        ({"a": [{"b": 0}]}, {"a": [{"b": False}]}),
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
async def test_a_config_that_is_nearly_the_same_replaces_the_other(
    api: httpx.AsyncClient, first: Any, second: Any
) -> None:
    task = (await api.post("/tasks/", json=SMALL | {"config": first})).json()["id"]
    changed = await api.put(f"/tasks/{task}", json={"config": second})
    assert changed.status_code == 200, changed.text
    for found in (changed, await api.get(f"/tasks/{task}")):
        assert json.dumps(found.json()["config"]) == json.dumps(second)


async def test_what_an_older_process_replaces_is_not_what_was_sent_first(
    api: httpx.AsyncClient, database: Database
) -> None:
    task = (await api.post("/tasks/", json=SMALL | {"config": OWN})).json()["id"]
    async with database.transaction() as session:
        await session.execute(text("""UPDATE tasks SET config = '{"new": 1}'"""))
    assert (await api.get(f"/tasks/{task}")).json()["config"] == {"new": 1}


async def test_what_a_workflow_has_of_its_callers_comes_back(api: httpx.AsyncClient) -> None:
    step = {"id": "draw", "task_type": "GENERATION", "config": SMALL | {"config": OWN}}
    step["when"] = {"from_step": "$input", "from_field": "own.whole", "value": OWN}
    body = {"name": "w", "origin_instance": "tests", "config": OWN, "input": {"own": OWN}, "steps": [step]}
    made = await api.post("/workflows/?start=false", json=body)
    assert made.status_code == 201, made.text
    flow = made.json()["id"]
    started = await api.post(f"/workflows/{flow}/start", json={"input": {}})
    assert started.status_code == 200, started.text
    listed = (await api.get("/workflows/")).json()["workflows"]
    for found in (made.json(), started.json(), (await api.get(f"/workflows/{flow}")).json(), *listed):
        assert same(found["config"])
        assert same(found["input"]["own"])
        assert same(found["steps"][0]["config"]["config"])
        assert same(found["steps"][0]["when"]["value"])


async def test_a_providers_configuration_comes_back(api: httpx.AsyncClient) -> None:
    """Those whose fields are the caller's own, such as an app's arguments; and any for a fallback that is not named."""
    own = {"provider_type": "FAL_STANDARD", "additional_static_params": OWN}
    body = SMALL | {"provider_type": "FAL_STANDARD", "provider_config": own, "fallback_provider_config": OWN}
    made = await api.post("/tasks/", json=body)
    assert made.status_code == 201, made.text
    for task in (made.json(), (await api.get(f"/tasks/{made.json()['id']}")).json()):
        assert same(task["fallback_provider_config"])
        assert same(task["provider_config"]["additional_static_params"])
        assert json.dumps(task["provider_config"]) == json.dumps(body["provider_config"])
