"""Whatever is POSTed twice with one `Idempotency-Key` is done once: every route is walked, none is listed by hand."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from compute.db.session import Database
from compute.db.tables import ProviderCall
from compute.settings import Settings
from tests.integration.api.conftest import KEY, Painter, wait_for
from tests.integration.api.images.test_storage import picture
from tests.integration.api.loras.lora_bytes import lora
from tests.providers.standins.openai import OpenAI

ADMIN_KEY = "admin-test-key"
SMALL = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1, "seed": 1}
STEP = {"id": "draw", "task_type": "GENERATION", "config": SMALL, "requires_approval": True}


@pytest.fixture
async def settings(settings: Settings) -> AsyncIterator[Settings]:
    async with OpenAI() as openai:
        model = {"openai_api_key": SecretStr(openai.key), "openai_base_url": f"{openai.url()}/v1"}
        yield settings.model_copy(update={"admin_api_key": SecretStr(ADMIN_KEY), **model})


@dataclass(frozen=True)
class Call:
    """A request that succeeds once, and what a second one would change."""

    path: str
    body: dict[str, Any]
    acted: Callable[[], Awaitable[Any]]


class Scene:
    """Makes what the routes act on."""

    def __init__(self, api: httpx.AsyncClient, database: Database, folder: str = "looks") -> None:
        self.api = api
        self.folder = folder
        self.database = database
        self.name = uuid4().hex[:8]

    async def task(self) -> str:
        return str((await self.api.post("/tasks/", json=SMALL)).json()["id"])

    async def workflow(self, *, start: bool) -> str:
        body = {"name": "w", "origin_instance": "tests", "steps": [STEP]}
        answer = await self.api.post("/workflows/", params={"start": start}, json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def training(self) -> str:
        answer = await self.api.post("/training/", json=await self.training_body())
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def training_body(self) -> dict[str, Any]:
        stored = await self.api.post("/storage/images", files={"file": ("a.png", picture())})
        return {"trigger_word": "zx", "source_images": [stored.json()["path"]]}

    def count(self, path: str, name: str) -> Callable[[], Awaitable[Any]]:
        async def counted() -> Any:
            found = (await self.api.get(path)).json()
            return len(found if isinstance(found, list) else found[name])

        return counted

    def count_as_admin(self, path: str, name: str) -> Callable[[], Awaitable[Any]]:
        async def counted() -> Any:
            headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
            return len((await self.api.get(path, headers=headers)).json()[name])

        return counted

    def etag(self, path: str) -> Callable[[], Awaitable[Any]]:
        async def seen() -> Any:
            return (await self.api.head(path)).headers.get("etag")

        return seen

    def row(self, path: str) -> Callable[[], Awaitable[Any]]:
        async def seen() -> Any:
            return (await self.api.get(path)).json()["updated_at"]

        return seen


async def _cancel_task(scene: Scene) -> Call:
    task = await scene.task()
    return Call(f"/tasks/{task}/cancel", {}, scene.row(f"/tasks/{task}"))


async def _cancel_generation(scene: Scene) -> Call:
    task = await scene.task()
    return Call(f"/tasks/generation/task_{UUID(task).hex}/cancel", {}, scene.row(f"/tasks/{task}"))


async def _clean_up_task(scene: Scene) -> Call:
    task = await scene.task()
    await scene.api.post(f"/tasks/{task}/cancel")
    return Call(f"/tasks/{task}/cleanup", {}, scene.row(f"/tasks/{task}"))


async def _start(scene: Scene) -> Call:
    flow = await scene.workflow(start=False)
    return Call(f"/workflows/{flow}/start", {"json": {}}, scene.row(f"/workflows/{flow}"))


async def _pause(scene: Scene) -> Call:
    flow = await scene.workflow(start=True)
    return Call(f"/workflows/{flow}/pause", {}, scene.row(f"/workflows/{flow}"))


async def _resume(scene: Scene) -> Call:
    flow = await scene.workflow(start=True)
    await scene.api.post(f"/workflows/{flow}/pause")
    return Call(f"/workflows/{flow}/resume?from_step=draw", {}, scene.row(f"/workflows/{flow}"))


async def _approve(scene: Scene) -> Call:
    flow = await scene.workflow(start=True)
    return Call(f"/workflows/{flow}/steps/draw/approve", {}, scene.row(f"/workflows/{flow}"))


async def _clean_up_workflow(scene: Scene) -> Call:
    flow = await scene.workflow(start=False)
    return Call(f"/workflows/{flow}/cleanup?cleanup_tasks=false", {}, scene.row(f"/workflows/{flow}"))


async def _cancel_training(scene: Scene) -> Call:
    training = await scene.training()
    return Call(f"/training/{training}/cancel", {}, scene.row(f"/training/{training}"))


async def _create_task(scene: Scene) -> Call:
    return Call("/tasks/", {"json": SMALL}, scene.count("/tasks/", ""))


async def _create_generation(scene: Scene) -> Call:
    return Call("/tasks/generation", {"json": SMALL}, scene.count("/tasks/", ""))


async def _create_bulk(scene: Scene) -> Call:
    return Call("/tasks/bulk", {"json": {"tasks": [SMALL, SMALL]}}, scene.count("/tasks/", ""))


async def _create_workflow(scene: Scene) -> Call:
    body = {"name": "w", "origin_instance": "tests", "steps": [STEP]}
    return Call("/workflows/?start=false", {"json": body}, scene.count("/workflows/", "workflows"))


async def _create_training(scene: Scene) -> Call:
    return Call("/training/", {"json": await scene.training_body()}, scene.count("/training/", "tasks"))


async def _upload(scene: Scene) -> Call:
    files = {"files": {"file": ("a.png", picture(size=(40, 40)))}}
    return Call("/storage/images", files, scene.count("/storage/images", "images"))


async def _save(scene: Scene) -> Call:
    # Every write makes a new object, even of the same bytes.
    path = f"/storage/images/{scene.folder}/{scene.name}.png"
    return Call(path, {"files": {"file": ("a.png", picture())}}, scene.etag(path))


async def _upload_lora(scene: Scene) -> Call:
    # A second one would find the name taken.
    files = {"files": {"file": ("one.safetensors", lora(0.5))}, "data": {"use_safe_filename": "false"}}
    return Call("/lora/upload", files, scene.count("/lora", "loras"))


async def _admin_upload(scene: Scene) -> Call:
    files = {"files": {"file": ("two.safetensors", lora(0.25))}, "data": {"use_safe_filename": "false"}}
    return Call("/admin/lora/upload", files, scene.count("/lora", "loras"))


async def _evaluate(scene: Scene) -> Call:
    shot = {"expected_framing": "full_body", "expected_view_angle": "front"}
    image = base64.b64encode(picture()).decode()

    async def evaluated() -> Any:
        return (await scene.api.get("/evaluation/health")).json()["total_evaluations"]

    return Call("/evaluation/", {"json": shot | {"image_data": image}}, evaluated)


async def _settle(scene: Scene) -> Call:
    """A call that was sent by nobody, for a task that waits."""
    call_id, task = uuid4(), await scene.task()
    async with scene.database.transaction() as session:
        session.add(
            ProviderCall(
                id=call_id,
                task_id=UUID(task),
                fence=1,
                part="image",
                attempt=1,
                provider="FAL_STANDARD",
                vendor="fal",
                account="00",
                endpoint="queue.fal.run/fal-ai/flux/dev",
                state="UNCERTAIN",
            )
        )

    async def settled() -> Any:
        return (await scene.api.get(f"/providers/calls/{call_id}", headers=keyed("seen"))).json()["settled_at"]

    return Call(f"/providers/calls/{call_id}/settle", {"json": {"action": "send_again"}}, settled)


async def _create_key(scene: Scene) -> Call:
    return Call("/admin/keys", {"json": {"name": "Shop"}}, scene.count_as_admin("/admin/keys", "keys"))


async def _rotate_key(scene: Scene) -> Call:
    made = await scene.api.post("/admin/keys", json={"name": "Shop"}, headers=keyed(scene.name))

    async def changed() -> Any:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return (await scene.api.get(f"/admin/keys/{made.json()['id']}", headers=headers)).json()["updated_at"]

    return Call(f"/admin/keys/{made.json()['id']}/rotate", {"json": {}}, changed)


CALLS: dict[str, Callable[[Scene], Awaitable[Call]]] = {
    "/tasks/": _create_task,
    "/tasks/generation": _create_generation,
    "/tasks/bulk": _create_bulk,
    "/tasks/{task_id}/cancel": _cancel_task,
    "/tasks/generation/{task_id}/cancel": _cancel_generation,
    "/tasks/{task_id}/cleanup": _clean_up_task,
    "/workflows/": _create_workflow,
    "/workflows/{workflow_id}/start": _start,
    "/workflows/{workflow_id}/pause": _pause,
    "/workflows/{workflow_id}/resume": _resume,
    "/workflows/{workflow_id}/steps/{step_id}/approve": _approve,
    "/workflows/{workflow_id}/cleanup": _clean_up_workflow,
    "/training/": _create_training,
    "/training/{task_id}/cancel": _cancel_training,
    "/evaluation/": _evaluate,
    "/providers/calls/{call_id}/settle": _settle,
    "/storage/images": _upload,
    "/storage/images/{path}": _save,
    "/lora/upload": _upload_lora,
    "/admin/lora/upload": _admin_upload,
    "/admin/keys": _create_key,
    "/admin/keys/{key_id}/rotate": _rotate_key,
}


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key, "Authorization": f"Bearer {ADMIN_KEY}"}


def told(answer: httpx.Response) -> bytes:
    """The answer as every repetition gets it: without the text of a key, which is told once."""
    return re.sub(rb'"key":"ck_[^"]+"', b'"key":null', answer.content)


async def test_every_post_of_the_document_is_walked_and_takes_the_header(anonymous: httpx.AsyncClient) -> None:
    document = (await anonymous.get("/openapi.json")).json()
    posts = {path.removeprefix("/api/v1"): item["post"] for path, item in document["paths"].items() if "post" in item}
    assert posts.keys() == CALLS.keys()
    for path, operation in posts.items():
        named = {one["name"].lower() for one in operation.get("parameters", ())}
        assert "idempotency-key" in named, path


@pytest.mark.parametrize("route", CALLS)
async def test_a_post_that_is_sent_again_acts_once_and_is_answered_alike(
    api: httpx.AsyncClient, route: str, database: Database
) -> None:
    call = await CALLS[route](Scene(api, database))
    first = await api.post(call.path, headers=keyed("k"), **call.body)
    assert first.status_code in (200, 201), first.text
    assert "idempotency-replayed" not in first.headers
    after = await call.acted()

    again = await api.post(call.path, headers=keyed("k"), **call.body)
    assert (again.status_code, told(again)) == (first.status_code, told(first))
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert await call.acted() == after


@pytest.mark.parametrize("route", CALLS)
async def test_of_several_at_once_one_acts_and_all_get_its_answer(
    api: httpx.AsyncClient, route: str, database: Database
) -> None:
    call = await CALLS[route](Scene(api, database))
    answers = await asyncio.gather(*(api.post(call.path, headers=keyed("k"), **call.body) for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {200, 201}, [answer.text for answer in answers]
    assert len({told(answer) for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


@pytest.mark.parametrize("route", CALLS)
async def test_the_key_of_another_request_is_refused_and_nothing_is_done(
    api: httpx.AsyncClient, route: str, database: Database
) -> None:
    assert (await api.post("/tasks/", json=SMALL, headers=keyed("k"))).status_code == 201
    call = await CALLS[route](Scene(api, database))
    before = await call.acted()
    body = {"json": SMALL | {"seed": 2}} if route == "/tasks/" else call.body
    refused = await api.post(call.path, headers=keyed("k"), **body)
    assert refused.status_code == 422, refused.text
    assert "Idempotency-Key" in refused.text
    assert await call.acted() == before


async def test_another_query_is_another_request(api: httpx.AsyncClient, database: Database) -> None:
    flow = await Scene(api, database).workflow(start=True)
    await api.post(f"/workflows/{flow}/pause")
    resumed = await api.post(f"/workflows/{flow}/resume", params={"from_step": "draw"}, headers=keyed("k"))
    assert resumed.status_code == 200
    assert (await api.post(f"/workflows/{flow}/resume", headers=keyed("k"))).status_code == 422


async def test_a_refusal_is_not_kept_and_leaves_the_key_free(
    api: httpx.AsyncClient, database: Database, worker: Painter
) -> None:
    task = await Scene(api, database).task()
    await wait_for(api, task, "COMPLETED")
    assert (await api.post(f"/tasks/{task}/cancel", headers=keyed("k"))).status_code == 409
    cleaned = await api.post(f"/tasks/{task}/cleanup", headers=keyed("k"))
    assert (cleaned.status_code, cleaned.json()["deleted_files"]) == (200, 1)
    again = await api.post(f"/tasks/{task}/cleanup", headers=keyed("k"))
    assert again.json()["deleted_files"] == 1


async def test_a_replay_needs_the_right_key_of_the_api(
    api: httpx.AsyncClient, database: Database, anonymous: httpx.AsyncClient
) -> None:
    call = await _admin_upload(Scene(api, database))
    assert (await api.post(call.path, headers=keyed("k"), **call.body)).status_code == 201
    plain = {"Idempotency-Key": "k", "Authorization": f"Bearer {KEY}"}
    assert (await api.post(call.path, headers=plain, **call.body)).status_code == 403
    without = {"Idempotency-Key": "k"}
    assert (await anonymous.post(f"/api/v1{call.path}", headers=without, **call.body)).status_code == 401


@pytest.mark.parametrize("place", ["/storage/images/looks/one.png", "/storage/images/a/b/c.png"])
async def test_an_upload_that_is_refused_has_replaced_nothing(api: httpx.AsyncClient, place: str) -> None:
    """Two pictures race for one path with one key: what is stored is what the one that was accepted sent."""
    for turn in range(6):
        pictures = [picture(colour, size=(30 + turn, 20)) for colour in ("red", "blue", "green", "white")]
        answers = await asyncio.gather(
            *(api.post(place, files={"file": ("a.png", data)}, headers=keyed(f"k{turn}")) for data in pictures)
        )
        (stored,) = [answer.json() for answer in answers if answer.status_code == 201]
        assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]
        found = await api.head(place)
        assert found.headers["content-length"] == str(stored["size"])
        listed = (await api.get("/storage/images")).json()["images"]
        assert [one["path"] for one in listed] == [place.removeprefix("/storage/images/")]
