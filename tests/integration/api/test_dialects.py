"""The spelling of an id chooses the dialect of the answer and of every refusal, on every route that has one."""

import re
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from compute.db.session import Database
from tests.integration.api.test_idempotency import SMALL, Scene
from tests.patience import PATIENCE

PREFIXES = {"tasks": "task", "workflows": "wf", "training": "train"}
CANONICAL_WORDS = re.compile(r'"(?:PENDING|QUEUED|EXECUTING|RUNNING|PAUSED|COMPLETED|FAILED|CANCELLED|\w+_STATUS)"')
BODIES: dict[str, dict[str, Any]] = {"PUT": {"priority": 2}, "PATCH": {"name": "renamed"}}


async def named_routes(base_url: str) -> list[tuple[str, str]]:
    """The method and the path below /api/v1 of every operation on one task, workflow or training."""
    async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    found = [
        (method.upper(), path.removeprefix("/api/v1"))
        for path, methods in paths.items()
        if re.search(r"\{(?:task|workflow)_id\}", path)
        for method in methods
        if method != "head"
    ]
    assert len(found) >= 20
    return found


def kind_of(path: str) -> str:
    """Whether the path names a task, a workflow or a training."""
    return path.removeprefix("/monitoring").split("/")[1]


async def made_for(api: httpx.AsyncClient, database: Database, method: str, path: str) -> str:
    """A new task, workflow or training in a state in which the operation is allowed."""
    scene, kind = Scene(api, database), kind_of(path)
    if kind == "training":
        return await scene.training()
    if kind == "workflows":
        made = await scene.workflow(start=path.endswith(("pause", "resume", "approve")) or method == "DELETE")
        if path.endswith("resume"):
            await api.post(f"/workflows/{made}/pause")
        return made
    made = await scene.task()
    if path.endswith(("cleanup", "events")) or method == "DELETE":
        await api.post(f"/tasks/{made}/cancel")
    return made


def spelled(path: str, made: str, *, quickstart: bool) -> str:
    name = f"{PREFIXES[kind_of(path)]}_{UUID(made).hex}" if quickstart else made
    return re.sub(r"\{(?:task|workflow)_id\}", name, path).replace("{step_id}", "draw")


@pytest.mark.parametrize("quickstart", [True, False])
async def test_every_answer_is_in_the_dialect_of_the_id(
    api: httpx.AsyncClient, database: Database, base_url: str, quickstart: bool
) -> None:
    for method, path in await named_routes(base_url):
        made = await made_for(api, database, method, path)
        address = spelled(path, made, quickstart=quickstart)
        answer = await api.request(method, address, json=BODIES.get(method))
        assert answer.status_code == 200, (method, path, answer.text)
        if not path.startswith("/training") or not path.endswith("events"):
            assert (made in answer.text) is not quickstart, (method, path, answer.text)
        if quickstart:
            assert not CANONICAL_WORDS.search(answer.text), (method, path, answer.text)
            assert f"_{UUID(made).hex}" in answer.text or path.endswith("events")


@pytest.mark.parametrize("quickstart", [True, False])
async def test_what_is_not_there_is_named_as_it_was(api: httpx.AsyncClient, base_url: str, quickstart: bool) -> None:
    for method, path in await named_routes(base_url):
        address = spelled(path, str(uuid4()), quickstart=quickstart)
        answer = await api.request(method, address, json=BODIES.get(method))
        assert answer.status_code == 404, (method, path, answer.text)
        name = next(part for part in address.split("/") if "_" in part or part.count("-") == 4)
        assert name in answer.json()["detail"], (method, path, answer.text)


async def test_a_conflict_speaks_the_words_of_the_id(api: httpx.AsyncClient) -> None:
    made = (await api.post("/tasks/", json=SMALL)).json()["id"]
    refused = await api.delete(f"/tasks/task_{UUID(made).hex}")
    assert refused.json()["detail"] == f"Task task_{UUID(made).hex} is pending; cancel it first."
    assert "is PENDING" in (await api.delete(f"/tasks/{made}")).json()["detail"]


@pytest.mark.parametrize("word", ["cancelled", "CANCELLED"])
async def test_a_status_may_be_sent_in_either_spelling(api: httpx.AsyncClient, word: str) -> None:
    made = (await api.post("/tasks/generation", json=SMALL)).json()["id"]
    answer = await api.put(f"/tasks/{made}", json={"status": word})
    assert answer.json()["status"] == "cancelled", answer.text
