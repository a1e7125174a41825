"""Unread parts of requests, refused by name: every route is walked, none is listed by hand."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from compute.settings import Settings
from tests.integration.api.conftest import KEY
from tests.integration.api.http.routes import filled
from tests.patience import PATIENCE

ADMIN_KEY = "admin-test-key-of-some-length"
ID = "5b1f0c1e-0000-4000-8000-000000000000"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"admin_api_key": SecretStr(ADMIN_KEY)})


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may use every route."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=PATIENCE) as client:
        yield client


async def operations(client: httpx.AsyncClient) -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation that the document has: its method, an address of it, and what is said of it."""
    document = (await client.get("/openapi.json")).json()
    found = []
    for path, methods in document["paths"].items():
        found += [(method.upper(), filled(path), operation) for method, operation in methods.items()]
    assert len(found) >= 34
    return found


def query_parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in operation.get("parameters", ()) if one["in"] == "query"]


async def test_an_unknown_parameter_is_named_with_the_known_ones(client: httpx.AsyncClient) -> None:
    for method, path, operation in await operations(client):
        known = [one["name"] for one in query_parameters(operation)]
        for name in ("bogus", *(f"{one}s" for one in known), *(one.upper() for one in known)):
            answer = await client.request(method, path, params={name: "1"})
            assert answer.status_code == 400, (method, path, name, answer.text)
            if method != "HEAD":
                assert f"`{name}`" in answer.json()["detail"]
                assert all(f"`{one}`" in answer.json()["detail"] for one in known)


async def test_a_repeated_parameter_is_named(client: httpx.AsyncClient) -> None:
    walked = 0
    for method, path, operation in await operations(client):
        for one in query_parameters(operation):
            walked += 1
            answer = await client.request(method, f"{path}?{one['name']}=1&{one['name']}=1")
            assert answer.status_code == 400, (method, path, answer.text)
            if method != "HEAD":
                assert f"`{one['name']}`" in answer.json()["detail"]
    assert walked >= 25


@pytest.mark.parametrize("query", ["x=%zz", "x=%", "x=%ff", "x=%00", "%00=1", "x=%c3", "=1", "%=1"])
async def test_a_query_that_is_no_encoded_text_is_refused(client: httpx.AsyncClient, query: str) -> None:
    for method, path, _ in await operations(client):
        answer = await client.request(method, f"{path}?{query}")
        assert answer.status_code == 400, (method, path, answer.text)


def bad_values(schema: dict[str, Any]) -> list[str]:
    kinds = {part.get("type") for part in schema.get("anyOf", [schema])}
    if "integer" in kinds:
        return ["1.0", " 5", "5 ", "+5", "05", "5_0", "\u0665", "0x5", "", "1e1", "9" * 5000, "-"]
    if "boolean" in kinds:
        return ["yes", "on", "2", "", "t", "true ", "null"]
    if "string" in kinds and schema.get("default") != "":
        return ["", "x" * 3000]
    return []


async def test_values_have_one_spelling(client: httpx.AsyncClient) -> None:
    walked = 0
    for method, path, operation in await operations(client):
        for one in query_parameters(operation):
            for value in bad_values(one["schema"]):
                walked += 1
                answer = await client.request(method, path, params={one["name"]: value})
                assert answer.status_code == 400, (method, path, one["name"], value, answer.text)
                if method != "HEAD":
                    assert f"`{one['name']}`" in answer.json()["detail"]
                assert len(answer.content) < 2000
    assert walked > 100


@pytest.mark.parametrize("body", [b'{"cleanup_tasks": false, "x": 1}', b"[]", b"hello", b" null", b"{" * 50_000])
async def test_a_body_where_none_is_read_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    walked = 0
    for method, path, operation in await operations(client):
        if "requestBody" in operation:
            continue
        walked += 1
        answer = await client.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, (method, path, answer.text)
        if method != "HEAD" and body.startswith(b'{"'):
            assert [fault["loc"] for fault in answer.json()["detail"]] == [["body", "cleanup_tasks"], ["body", "x"]]
    assert walked >= 20


async def test_an_empty_object_is_no_body(client: httpx.AsyncClient) -> None:
    for method, path, operation in await operations(client):
        if "requestBody" not in operation and "events" not in path:
            answer = await client.request(method, path, content=b"{}")
            assert answer.status_code in (200, 404), (method, path, answer.text)


async def test_a_misspelt_option_deletes_nothing(client: httpx.AsyncClient) -> None:
    step = {"id": "draw", "task_type": "GENERATION", "config": {"prompt": "a hat", "width": 64, "height": 64}}
    made = await client.post(
        "/api/v1/workflows/?start=false", json={"name": "w", "origin_instance": "tests", "steps": [step]}
    )
    path = f"/api/v1/workflows/{made.json()['id']}"
    assert (await client.post(f"{path}/cleanup?cleanup_task=false")).status_code == 400
    assert (await client.post(f"{path}/cleanup", json={"cleanup_tasks": False})).status_code == 422
    assert (await client.get(path)).json()["is_deleted"] is False


@pytest.mark.parametrize(("word", "found"), [("running", 0), ("RUNNING", 0), ("pending", 1), ("PENDING", 1)])
@pytest.mark.parametrize("path", ["/tasks/", "/tasks/generation"])
async def test_filters_know_the_words_of_both_dialects(
    client: httpx.AsyncClient, path: str, word: str, found: int
) -> None:
    await client.post("/api/v1/tasks/", json={"prompt": "a hat", "width": 64, "height": 64})
    answer = await client.get(f"/api/v1{path}", params={"status": word})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()) == found


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/tasks/", ["processing", "PROCESSING", "executing", "Queued", "completed"]),
        ("/training/", ["running", "pending", "training", "PREPROCESSING", "Running"]),
        ("/workflows/", ["running", "RUNNING", "paused", "Completed"]),
    ],
)
async def test_every_word_that_an_answer_uses_is_taken_by_its_list(
    client: httpx.AsyncClient, path: str, words: list[str]
) -> None:
    for word in words:
        answer = await client.get(f"/api/v1{path}", params={"status": word})
        assert answer.status_code == 200, (word, answer.text)
    refused = await client.get(f"/api/v1{path}", params={"status": "done"})
    assert refused.status_code == 400
    assert "PENDING" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tasks/generation", {"type": "editing"}, "type"),
        ("/tasks/generation", {"task_type": "EDITING"}, "task_type"),
        ("/tasks/generation", {"task_type": "GENERATION", "type": "refine"}, "type"),
        ("/tasks/generation", {"type": "nothing"}, "type"),
        ("/tasks/generation", {"type": None}, "type"),
        ("/tasks/", {"task_type": "GENERATION", "type": "refine"}, "type"),
        ("/tasks/", {"task_type": "REFINE", "type": "generation"}, "type"),
        ("/tasks/", {"type": 7}, "type"),
    ],
)
async def test_a_contradicting_type_is_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], field: str
) -> None:
    good = {"prompt": "a hat", "width": 64, "height": 64}
    answer = await client.post(f"/api/v1{path}", json=good | body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", field]
    many = await client.post("/api/v1/tasks/bulk", json={"tasks": [good, good | body]})
    if path == "/tasks/":
        assert many.json()["detail"][0]["loc"] == ["body", "tasks", 1, field]
    assert (await client.get("/api/v1/tasks/")).json() == []


async def test_both_names_of_a_type_may_agree(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a hat", "width": 64, "height": 64, "type": "generation", "task_type": "GENERATION"}
    for path in ("/tasks/", "/tasks/generation"):
        answer = await client.post(f"/api/v1{path}", json=body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["task_type"] == "GENERATION"


async def test_half_a_link_is_no_link(client: httpx.AsyncClient) -> None:
    for half in ({"expires": "1"}, {"signature": "x"}):
        answer = await client.get("/api/v1/storage/images/a/b.png", params=half)
        assert answer.status_code == 400
        assert "`signature`" in answer.json()["detail"]


async def test_a_name_that_is_not_found_is_spelled_as_it_was(client: httpx.AsyncClient) -> None:
    digits = ID.replace("-", "")
    for path, name in [
        ("tasks", f"task_{digits}"),
        ("workflows", f"wf_{digits}"),
        ("training", f"train_{digits}"),
        ("tasks", ID.upper()),
    ]:
        answer = await client.get(f"/api/v1/{path}/{name}")
        assert answer.status_code == 404
        assert name in answer.json()["detail"]


async def test_a_key_is_asked_for_first(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE) as client:
        assert (await client.get("/api/v1/tasks/?bogus=1")).status_code == 401
        right = {"Authorization": f"Bearer {KEY}"}
        assert (await client.get("/api/v1/tasks/?bogus=1", headers=right)).status_code == 400
