"""LLM_INTERACTION and EXPERIMENTAL_FAL by the API: how they are taken, changed and shown. Nothing is dispatched."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import Task
from compute.settings import Settings
from tests.integration.api.conftest import serving_api

QUESTION: dict[str, Any] = {"task_type": "LLM_INTERACTION", "prompt": "Which colour?"}
CALL: dict[str, Any] = {"task_type": "EXPERIMENTAL_FAL", "fal_app_id": "fal-ai/flux/dev"}


@pytest.fixture
def storage_settings() -> dict[str, object]:
    return {"storage": "local", "openai_api_key": "sk-nobody", "fal_key": "nobody:secret"}


@pytest.fixture
async def base_url(settings: Settings) -> AsyncIterator[str]:
    async with serving_api(settings, elsewhere=("llm", "fal")) as url:
        yield url


async def test_a_question_waits_for_ai_core(api: httpx.AsyncClient, database: Database) -> None:
    asked = QUESTION | {"system_prompt": "Be brief.", "max_tokens": 9, "provider_config": {"ai_provider": "openai"}}
    accepted = await api.post("/tasks/", json=asked)
    assert accepted.status_code == 201, accepted.text
    shown = accepted.json()
    assert (shown["task_type"], shown["provider_type"], shown["status"]) == ("LLM_INTERACTION", "AI_CORE", "PENDING")
    assert (shown["prompt"], shown["system_prompt"], shown["max_tokens"]) == ("Which colour?", "Be brief.", 9)
    assert (shown["result_text"], shown["input_tokens"], shown["output_tokens"]) == (None, None, None)
    read = (await api.get(f"/tasks/{shown['id']}")).json()
    # What was paid is read with one task alone.
    assert (read.pop("service_requests"), read.pop("usage")["calls"]) == ([], 0)
    assert read == {name: value for name, value in shown.items() if name not in ("service_requests", "usage")}
    async with database.transaction() as session:
        assert await session.scalar(select(Task.queue)) == "llm"


async def test_a_call_of_an_app_waits_for_fal(api: httpx.AsyncClient, database: Database) -> None:
    accepted = await api.post("/tasks/", json=CALL | {"fal_parameters": {"seed": 7}})
    assert accepted.status_code == 201, accepted.text
    shown = accepted.json()
    assert (shown["task_type"], shown["provider_type"]) == ("EXPERIMENTAL_FAL", "FAL_STANDARD")
    assert (shown["fal_app_id"], shown["fal_parameters"]) == ("fal-ai/flux/dev", {"seed": 7})
    assert (shown["result_url"], shown["fal_request_id"]) == (None, None)
    async with database.transaction() as session:
        assert await session.scalar(select(Task.queue)) == "fal"


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (QUESTION | {"provider_config": {"ai_provider": "anthropic"}}, "provider_type", "ANTHROPIC_API_KEY"),
        (QUESTION | {"provider_config": {"ai_provider": "nobody"}}, "provider_config", "openai"),
        (QUESTION | {"provider_type": "LOCAL"}, "provider_type", "AI_CORE"),
        (QUESTION | {"fallback_provider_type": "LOCAL"}, "fallback_provider_type", "AI_CORE"),
        (QUESTION | {"response_schema": {"type": "array"}}, "response_schema", "object"),
        (QUESTION | {"input_images": ["inputs/nobodys.png"]}, "input_images", ""),
        (CALL | {"provider_type": "LOCAL"}, "provider_type", "FAL_STANDARD"),
        (CALL | {"fal_app_id": "fal-ai/../secrets"}, "fal_app_id", ""),
        (CALL | {"provider_type": "AI_CORE"}, "provider_type", "AI_CORE"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_field(
    api: httpx.AsyncClient, body: dict[str, Any], field: str, words: str
) -> None:
    refused = await api.post("/tasks/", json=body)
    assert refused.status_code == 422
    [fault] = refused.json()["detail"]
    assert fault["loc"][:2] == ["body", field], fault
    assert words in fault["msg"]


async def test_a_waiting_question_takes_itself_back(api: httpx.AsyncClient) -> None:
    shown = (await api.post("/tasks/", json=QUESTION)).json()
    kept = {name: shown[name] for name in ("task_type", "provider_type", "progress", "retry_count", "origin_instance")}
    changed = await api.put(f"/tasks/{shown['id']}", json=kept | {"priority": 3, "service_requests": [{"a": 1}]})
    assert changed.status_code == 200, changed.text
    assert changed.json()["priority"] == 3
    refused = await api.put(f"/tasks/{shown['id']}", json={"retry_count": 7})
    assert (refused.status_code, "set by the server" in refused.text) == (409, True)


async def test_app_and_arguments_may_change_while_the_task_waits(api: httpx.AsyncClient, database: Database) -> None:
    task_id = (await api.post("/tasks/", json=CALL)).json()["id"]
    change = {"fal_app_id": "fal-ai/clarity-upscaler", "fal_parameters": {"scale": 2}}
    changed = await api.put(f"/tasks/{task_id}", json=change)
    assert changed.status_code == 200, changed.text
    assert {name: changed.json()[name] for name in change} == change
    async with database.transaction() as session:
        spec = await session.scalar(select(Task.spec))
        assert spec is not None
        assert {name: spec[name] for name in change} == change
    refused = await api.put(f"/tasks/{task_id}", json={"fal_app_id": "nobody"})
    assert refused.status_code == 422
    assert (await api.post(f"/tasks/{task_id}/cancel")).status_code == 200
    late = await api.put(f"/tasks/{task_id}", json=change)
    assert (late.status_code, "only while the task is PENDING" in late.text) == (409, True)
