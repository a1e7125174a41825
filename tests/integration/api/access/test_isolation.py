"""Isolation of tenants: on every route, the key of one sees and does nothing of what is another's.

A foreign id is answered as an unknown one is, word for word. A route that is new has no rule here, and fails this.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from compute.api.evaluation.sources import load_image
from compute.api.resources import open_resources
from compute.db.session import Database
from compute.errors import InvalidInput
from compute.requests.serving import Serving
from compute.schemas.evaluation import EvaluationRequest
from compute.settings import Settings
from compute.storage.tenants import tenant_folder
from tests.integration.api.access.conftest import SMALL, GiveKey
from tests.integration.api.access.scene import (
    MINE,
    THEIRS,
    Belongings,
    client,
    flow_of,
    furnish,
    key_of,
    made,
    text_of,
)
from tests.integration.api.conftest import Painter
from tests.integration.api.http.routes import all_routes
from tests.integration.api.images.test_storage import picture
from tests.integration.api.loras.lora_bytes import lora
from tests.integration.api.test_idempotency import CALLS
from tests.integration.api.test_idempotency import Scene as IdempotencyScene
from tests.integration.api.training.rows import row

BODIES: dict[str, dict[str, Any]] = {
    "PUT /tasks/{task_id}": {"json": {"priority": 3}},
    "PUT /tasks/generation/{task_id}": {"json": {"priority": 3}},
    "PATCH /workflows/{workflow_id}": {"json": {"name": "taken over"}},
    "POST /workflows/{workflow_id}/start": {"json": {}},
}
"""What is sent to routes with a foreign id."""
CLOSED = {"/admin/", "/providers", "/evaluation/health"}
"""Of which no tenant's key is told anything."""
LISTS = {
    "/tasks/": "limit=1000",
    "/tasks/generation": "limit=1000",
    "/workflows/": "limit=200",
    "/training/": "limit=200",
    "/storage/images": "limit=1000",
    "/lora": "limit=1000",
    "/usage": "limit=1000",
    "/monitoring/tasks": "page_size=200",
    "/monitoring/workflows": "page_size=200",
    "/monitoring/stats": "",
    "/monitoring/workflows/stats": "",
    "/monitoring/queues": "",
    "/monitoring/workers": "",
    "/monitoring/workers/health": "",
}
"""With a query for as much of it as there may be on a page."""
COUNTS = {"/monitoring/stats": ("total_tasks", 2), "/monitoring/workflows/stats": ("total_workflows", 1)}
"""How many of its own the tenant has."""
NO_ROWS = {*COUNTS, "/monitoring/queues", "/monitoring/workers", "/monitoring/workers/health"}
TENANT_FILTERS = dict.fromkeys(
    ("/tasks/", "/workflows/", "/training/", "/monitoring/tasks", "/monitoring/workflows"), "origin_tenant_id"
) | {"/usage": "tenant"}
CREATING = {"/tasks/", "/tasks/generation", "/tasks/bulk", "/workflows/", "/training/", "/evaluation/"}
UPLOADING = {"/storage/images", "/storage/images/{path}", "/lora/upload"}


@dataclass
class Scene:
    api: httpx.AsyncClient
    their_api: httpx.AsyncClient
    mine: Belongings
    theirs: Belongings


@pytest.fixture
async def scene(base_url: str, give: GiveKey, database: Database, worker: Painter) -> AsyncIterator[Scene]:
    """Two tenants, and a key of the first one."""
    async with (
        client(base_url, await key_of(give, MINE)) as api,
        client(base_url, await key_of(give, THEIRS)) as their_api,
    ):
        theirs = await furnish(their_api, THEIRS, database, "blue")
        mine = await furnish(api, MINE, database, "red")
        yield Scene(api, their_api, mine, theirs)


async def test_every_route_hides_what_is_another_tenants(scene: Scene) -> None:
    """One walk over the document, in one scene: each route is asked as its kind demands."""
    before = [await _state(scene.their_api, path) for path in _rows(scene.theirs)]
    for route in all_routes():
        path = route.template.removeprefix("/api/v1")
        if path == route.template:
            continue
        named = f"{route.method} {path}"
        if any(path.startswith(closed) for closed in CLOSED):
            answer = await scene.api.request(route.method, route.path.removeprefix("/api/v1"), **BODIES.get(named, {}))
            assert answer.status_code == 403, named
        elif "{" in path and path not in UPLOADING | {"/storage/images/{path}"}:
            await _is_unknown(scene, route.method, path, BODIES.get(named, {}))
        elif path == "/storage/images/{path}":
            await _is_no_file(scene, route.method)
        elif path == "/key":
            assert (await scene.api.get(path)).json()["tenant"] == MINE
        elif route.method == "GET":
            assert path in LISTS, f"{named} is new: say here how it treats tenants"
            await _lists_mine_alone(scene, path)
        else:
            assert path in CREATING | UPLOADING, f"{named} is new: say here how it treats tenants"
    after = [await _state(scene.their_api, path) for path in _rows(scene.theirs)]
    assert after == before


async def _state(api: httpx.AsyncClient, path: str) -> tuple[str, str, str | None]:
    said = (await api.get(path)).json()
    return said["status"], said["updated_at"], said.get("name")


def _rows(whose: Belongings) -> list[str]:
    return [f"/tasks/{whose.waiting}", f"/workflows/{whose.workflow}", f"/training/{whose.training}"]


async def _is_unknown(scene: Scene, method: str, template: str, body: dict[str, Any]) -> None:
    """A foreign id, in either spelling, is answered as one that nothing has."""
    kind, prefix = ("workflow", "wf_") if "{workflow_id}" in template else ("task", "task_")
    foreign = [scene.theirs.workflow] if kind == "workflow" else [scene.theirs.task, scene.theirs.waiting]
    if template.startswith("/training/"):
        foreign, prefix = [scene.theirs.training], "train_"
    for one in foreign:
        unknown = str(uuid4())
        for spelled in (lambda name: name, lambda name: prefix + UUID(name).hex):
            answers = []
            for name in (one, unknown):
                path = template.replace("{workflow_id}", spelled(name)).replace("{task_id}", spelled(name))
                answers.append(await scene.api.request(method, path.replace("{step_id}", "draw"), **body))
            assert answers[0].status_code == 404, (method, template, answers[0].text)
            told = [text_of(answer, one, unknown, UUID(one).hex, UUID(unknown).hex) for answer in answers]
            assert told[0] == told[1], (method, template)


async def _is_no_file(scene: Scene, method: str) -> None:
    """A foreign file is answered as one that is not there, wherever it lies."""
    theirs = scene.theirs
    foreign = [theirs.upload, theirs.result, theirs.sample, f"{tenant_folder(THEIRS)}looks/a.png", "uploads/ab/cd.png"]
    for path in foreign:
        if method == "POST":
            answer = await scene.api.post(f"/storage/images/{path}", files={"file": ("a.png", picture())})
            assert answer.status_code == 403, path
            continue
        unknown = f"{path.rpartition('/')[0]}/{uuid4().hex}.png"
        answers = [await scene.api.request(method, f"/storage/images/{one}") for one in (path, unknown)]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        assert len({text_of(answer, path, unknown) for answer in answers}) == 1


async def _lists_mine_alone(scene: Scene, path: str) -> None:
    answers = [await scene.api.get(f"{path}?{LISTS[path]}")]
    if path == "/storage/images":
        foreign_folders = (tenant_folder(THEIRS), scene.theirs.result.rpartition("/")[0])
        prefixes = ("ten", "generations/", "loras/", *foreign_folders)
        answers += [await scene.api.get(path, params={"prefix": prefix}) for prefix in prefixes]
    if path == "/lora":
        answers.append(await scene.api.get(path, params={"entity_type": "style"}))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        # The prefix that was asked for is repeated.
        told = re.sub(r'"prefix": "[^"]*"', "", answer.text)
        assert not [mark for mark in (*scene.theirs.marks, THEIRS) if mark in told], path
    if path in COUNTS:
        name, number = COUNTS[path]
        assert answers[0].json()[name] == number
    own = {"/storage/images": scene.mine.upload, "/lora": scene.mine.lora, "/workflows/": scene.mine.workflow}
    own |= {"/training/": scene.mine.training, "/usage": MINE, "/monitoring/workflows": scene.mine.workflow}
    assert path in NO_ROWS or own.get(path, scene.mine.task) in answers[0].text, path
    if path in TENANT_FILTERS:
        foreign = await scene.api.get(path, params={TENANT_FILTERS[path]: THEIRS})
        assert foreign.status_code == 403
        same = await scene.api.get(path, params={TENANT_FILTERS[path]: MINE})
        assert same.status_code == 200


async def test_a_file_of_another_tenant_is_no_input_of_anything(scene: Scene) -> None:
    """Whatever names a file, names an unknown one: the refusals are the same."""
    theirs = scene.theirs
    refused = {}
    for path in (theirs.upload, theirs.result, theirs.link):
        shape = path if "://" not in path else theirs.result
        unknown = f"{shape.rpartition('/')[0]}/{uuid4().hex}.png"
        for route, body in _requests_with(path):
            answer = await scene.api.post(route, json=body)
            assert answer.status_code == 422, (route, path, answer.text)
            if "://" not in path:
                other = await scene.api.post(route, json=dict(_requests_with(unknown))[route])
                assert text_of(answer, path) == text_of(other, unknown), route
            refused[route] = None
    assert refused.keys() == CREATING - {"/evaluation/"}
    named = SMALL | {"style_model_path": theirs.lora}
    answer = await scene.api.post("/tasks/", json=named)
    other = await scene.api.post(
        "/tasks/", json=SMALL | {"style_model_path": theirs.lora.replace("theirs.", "thesis.")}
    )
    assert answer.status_code == 422
    assert text_of(answer, theirs.lora) == text_of(other, theirs.lora.replace("theirs.", "thesis."))


def _requests_with(path: str) -> list[tuple[str, dict[str, Any]]]:
    task = SMALL | {"reference_image_url": path}
    step = {"id": "draw", "task_type": "GENERATION", "config": task}
    return [
        ("/tasks/", task),
        ("/tasks/generation", task),
        ("/tasks/bulk", {"tasks": [SMALL, task]}),
        ("/workflows/", flow_of(step)),
        ("/training/", {"trigger_word": "zx", "source_images": [path]}),
    ]


async def test_work_is_the_tenants_own_and_no_other_can_be_named(scene: Scene, database: Database) -> None:
    label = {"origin_tenant_id": THEIRS}
    step = {"id": "draw", "task_type": "GENERATION", "config": SMALL, "requires_approval": True}
    training = {"trigger_word": "zx", "source_images": [scene.mine.upload]}
    for route, body in [
        ("/tasks/", SMALL),
        ("/tasks/generation", SMALL),
        ("/workflows/", flow_of(step)),
        ("/training/", training),
    ]:
        refused = await scene.api.post(route, json=body | label)
        assert refused.status_code == 422, route
        assert refused.json()["detail"][0]["loc"] == ["body", "origin_tenant_id"]
        shown = await made(scene.api, route, json=body | {"origin_tenant_id": MINE})
        assert (await scene.their_api.get(f"{route.removesuffix('generation')}{shown['id']}")).status_code in (400, 404)
    # Its LoRA will be the tenant's own.
    assert (await row(database, UUID(scene.mine.training))).spec["tenant"] == MINE
    bulk = await scene.api.post("/tasks/bulk", json={"tasks": [SMALL, SMALL | label]})
    assert bulk.json()["detail"][0]["loc"] == ["body", "tasks", 1, "origin_tenant_id"]
    moved = await scene.api.put(f"/tasks/{scene.mine.waiting}", json=label)
    assert moved.json()["detail"][0]["loc"] == ["body", "origin_tenant_id"]
    stolen = await scene.api.put(
        f"/tasks/{scene.mine.waiting}", json={"status": "COMPLETED", "result_image_path": scene.theirs.result}
    )
    assert stolen.json()["detail"][0]["loc"] == ["body", "result_image_path"]
    assert (await scene.api.get(f"/tasks/{scene.mine.task}")).json()["origin_tenant_id"] == MINE


async def test_idempotency_keys_are_each_tenants_own(scene: Scene, api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "once"}
    answers = [await one.post("/tasks/", json=SMALL, headers=key) for one in (scene.their_api, scene.api, api)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.json()["id"] for answer in answers}) == 3
    again = await scene.api.post("/tasks/", json=SMALL, headers=key)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (answers[1].json()["id"], "true")
    # Another body under the key of another tenant is no fault.
    other = await scene.api.post("/workflows/", params={"start": False}, json=flow_of(), headers=key)
    assert other.status_code == 422


async def test_loras_of_nobody_are_everybodys_and_a_tenants_own_are_its_own(
    scene: Scene, api: httpx.AsyncClient
) -> None:
    shared = await made(api, "/lora/upload", files={"file": ("shared.safetensors", lora(0.25))})
    assert scene.mine.lora.startswith(tenant_folder(MINE))
    for one in (scene.api, scene.their_api, api):
        assert shared["partial_path"] in (await one.get("/lora")).text
    for own in (shared["partial_path"], scene.mine.lora):
        assert (await scene.api.post("/tasks/", json=SMALL | {"style_model_path": own})).status_code == 201, own
    assert scene.mine.lora in (await api.get("/lora")).text


async def test_a_free_key_sees_everything(scene: Scene, api: httpx.AsyncClient) -> None:
    for whose in (scene.mine, scene.theirs):
        for path in (*_rows(whose), f"/storage/images/{whose.upload}", f"/storage/images/{whose.result}"):
            assert (await api.get(path)).status_code == 200, path
        listed = (await api.get("/tasks/", params={"origin_tenant_id": whose.tenant})).json()
        assert {one["id"] for one in listed} == {whose.task, whose.waiting}


async def test_own_files_can_be_read_listed_linked_and_removed(scene: Scene) -> None:
    folder = tenant_folder(MINE)
    stored = await made(scene.api, f"/storage/images/{folder}looks/a.png", files={"file": ("a.png", picture())})
    assert stored["path"] == f"{folder}looks/a.png"
    for path in (stored["path"], scene.mine.upload, scene.mine.result):
        assert (await scene.api.get(f"/storage/images/{path}")).status_code == 200
    results = scene.mine.result.rpartition("/")[0]
    assert scene.mine.result in (await scene.api.get("/storage/images", params={"prefix": results})).text
    assert (await scene.api.delete(f"/storage/images/{stored['path']}")).status_code == 200
    assert (await scene.api.delete(f"/storage/images/{stored['path']}")).status_code == 404


POSTED = sorted(path for path in CALLS if not f"{path}/".startswith(("/admin/", "/providers/", "/evaluation/")))


@pytest.mark.parametrize("route", POSTED)
async def test_a_tenant_does_with_its_own_what_anybody_does(
    base_url: str, give: GiveKey, database: Database, route: str
) -> None:
    async with client(base_url, await key_of(give, MINE)) as api:
        call = await CALLS[route](TenantScene(api, database))
        answer = await api.post(call.path, **call.body)
        assert answer.status_code in (200, 201), answer.text


class TenantScene(IdempotencyScene):
    """Makes what routes act on, with paths that a tenant may write to."""

    def __init__(self, api: httpx.AsyncClient, database: Database) -> None:
        super().__init__(api, database, f"{tenant_folder(MINE)}looks")


async def test_a_tenant_changes_and_removes_its_own(base_url: str, give: GiveKey, database: Database) -> None:
    async with client(base_url, await key_of(give, MINE)) as api:
        scene = TenantScene(api, database)
        task, flow, training = await scene.task(), await scene.workflow(start=False), await scene.training()
        for method, path, body in [
            ("PUT", f"/tasks/{task}", {"json": {"priority": 3}}),
            ("PUT", f"/tasks/generation/{task}", {"json": {"priority": 2}}),
            ("PUT", f"/tasks/{task}", {"json": {"status": "CANCELLED"}}),
            ("GET", f"/tasks/{task}/events", {}),
            ("DELETE", f"/tasks/{task}", {}),
            ("PATCH", f"/workflows/{flow}", {"json": {"name": "another"}}),
            ("DELETE", f"/workflows/{flow}", {}),
            ("GET", f"/training/{training}/events", {}),
        ]:
            answer = await api.request(method, path, **body)
            assert answer.status_code == 200, (method, path, answer.text)
        assert (await api.get(f"/tasks/{task}")).status_code == 404


async def test_a_tenant_removes_what_its_tasks_made(scene: Scene) -> None:
    assert (await scene.api.delete(f"/tasks/{scene.mine.task}")).status_code == 200
    assert (await scene.api.get(f"/storage/images/{scene.mine.result}")).status_code == 404


@pytest.mark.parametrize("link", [False, True])
async def test_an_evaluation_finds_no_image_of_another_tenant(
    scene: Scene, settings: Settings, database: Database, link: bool
) -> None:
    """What the route loads an image with, before a vendor is asked."""
    async with open_resources(settings, Serving({})) as resources:
        mine = resources.confined_to(MINE)
        asked = EvaluationRequest(
            image_url=scene.theirs.link if link else scene.theirs.upload,
            expected_framing="full_body",
            expected_view_angle="front",
        )
        with pytest.raises(InvalidInput, match="There is no stored file"):
            await load_image(asked, mine)
        own = asked.model_copy(update={"image_url": scene.mine.link if link else scene.mine.upload})
        assert (await load_image(own, mine)).data
