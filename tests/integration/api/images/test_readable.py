"""Files that a plain key cannot read by any way; files that one answer hands out, and other requests take."""

from collections.abc import AsyncIterator
from typing import Any, get_args
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from compute.api.paths import IMAGES
from compute.providers.registry import remote_queues
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store
from compute.storage.links.secret import load_link_secrets
from compute.storage.links.signed import LinkSigner, link_to, sign
from compute.worker.protocol import Role
from tests.file_fields import FileField, file_fields
from tests.integration.api.conftest import Painter, serving_api, wait_for
from tests.integration.api.images.test_storage import picture
from tests.integration.api.loras.lora_bytes import lora

SMALL = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1, "seed": 1}
HIDDEN = [
    "loras/styles/a.png",
    "bin/loras/styles/20260101T000000.000000Z/a.png",
    "training/0198d3c1/dataset/images/00000.png",
    "training/0198d3c1/cache/a.png",
    "training/0198d3c1/run/checkpoint/a.png",
]
THERE = "refs/there.png"
ROLES = frozenset(get_args(Role))


@pytest.fixture
async def base_url(settings: Settings) -> AsyncIterator[str]:
    """The API before a model that can do everything, and before providers that nobody calls."""
    with_keys = settings.model_copy(update={"openai_api_key": SecretStr("sk-of-nobody")})
    async with serving_api(with_keys, ROLES, elsewhere=tuple(remote_queues())) as url:
        yield url


@pytest.fixture
async def objects(settings: Settings) -> AsyncIterator[ObjectStore]:
    store = open_store(settings)
    yield store
    await store.close()


@pytest.fixture
async def hidden(objects: ObjectStore) -> list[str]:
    for path in (*HIDDEN, THERE):
        await objects.put(path, picture(size=(128, 128)), "image/png")
    return HIDDEN


def disguises(path: str) -> list[str]:
    folder, _, rest = path.partition("/")
    return [
        path,
        f"{folder.upper()}/{rest}",
        f"uploads/../{path}",
        f"./{path}",
        f"{folder}//{rest}",
        f"/{path}",
        f"uploads/%2e%2e/{path}",
        f" {path} ",
    ]


def flow(field: FileField, source: str, body: dict[str, Any], transform: str | None, given: str) -> dict[str, Any]:
    """A workflow whose step finds a file in the place that `given` names, and all else as in `body`."""
    mapping = {"from_step": given, "from_field": "picture", "to_field": field.name, "transform": transform}
    rest = {name: value for name, value in body.items() if name not in ("task_type", field.name)}
    one = {"id": "step", "task_type": field.kind.name, "config": rest, "input_mappings": [mapping]}
    return {"name": "w", given.removeprefix("$"): {"picture": source}, "steps": [one]}


@pytest.mark.parametrize("path", HIDDEN)
async def test_no_request_reads_what_is_hidden(
    api: httpx.AsyncClient, objects: ObjectStore, hidden: list[str], path: str
) -> None:
    for number, name in enumerate(disguises(path)):
        for method in ("GET", "HEAD", "DELETE"):
            answer = await api.request(method, f"/storage/images/{quote(name)}")
            assert answer.status_code in (400, 403, 404), (method, name)
        # Every field takes every path in by the same door: two spellings tell that it does.
        for field in file_fields() if number < 2 else file_fields()[:1]:
            for body in field.bodies(name, THERE):
                answer = await api.post("/tasks/", json=body)
                assert (answer.status_code, field.name in answer.text) == (422, True), (body, answer.text)
        for training in ({"source_images": [name]}, {"dataset_url": name}, {"base_model_path": name}):
            assert (await api.post("/training/", json={"trigger_word": "zx", **training})).status_code == 422, name
        task = (await api.post("/tasks/", json=SMALL)).json()["id"]
        for change in ({"reference_image_path": name}, {"status": "COMPLETED", "result_image_path": name}):
            changed = await api.put(f"/tasks/generation/{task}", json=change)
            assert changed.status_code in (409, 422), (name, change)
            assert changed.json().get("result_image_url") is None
    assert await objects.stat(path) is not None


async def test_no_workflow_reads_what_is_hidden(api: httpx.AsyncClient, hidden: list[str]) -> None:
    for field in file_fields():
        direct = field.bodies(hidden[0], THERE)[0]
        for given in ("$config", "$input"):
            for transform in ("URL", "BASE64", "LIST", None):
                body = flow(field, hidden[0], direct, transform, given)
                answer = await api.post("/workflows/", json=body)
                assert answer.status_code == 422, (body, answer.text)
        one = {"id": "step", "task_type": direct.pop("task_type"), "config": direct}
        answer = await api.post("/workflows/", json={"name": "w", "steps": [one]})
        assert (answer.status_code, field.name in answer.text) == (422, True), (one, answer.text)


async def test_no_list_shows_what_is_hidden(api: httpx.AsyncClient, hidden: list[str]) -> None:
    await api.post("/storage/images/refs/a.png", files={"file": ("a.png", picture())})
    for prefix in ("", *{path.rpartition("/")[0] + "/" for path in hidden}, *hidden):
        listed = (await api.get("/storage/images", params={"prefix": prefix})).json()
        assert [one["path"] for one in listed["images"]] == ([] if prefix else ["refs/a.png", THERE]), prefix


async def test_signed_links_lead_to_nothing_hidden_but_a_lora(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, settings: Settings, hidden: list[str]
) -> None:
    secret = load_link_secrets(settings)[0]
    for path in hidden:
        signed = {"expires": "9999999999", "signature": sign(path, 9999999999, secret)}
        answer = await anonymous.get(f"/api/v1/storage/images/{path}", params=signed)
        assert answer.status_code == (200 if path.startswith("loras/") else 403)
    for path in hidden:
        signed_link = f"http://any/api/v1/storage/images/{path}?expires=9999999999&signature="
        signed_link += sign(path, 9999999999, secret)
        refused = await api.post("/tasks/", json=SMALL | {"reference_image_url": signed_link})
        assert refused.status_code == 422


@pytest.mark.parametrize("folder", ["loras", "bin", "inputs", "training", "generations", "LORAS", "Generations"])
async def test_no_file_takes_the_place_of_a_folder(api: httpx.AsyncClient, folder: str) -> None:
    answer = await api.post(f"/storage/images/{folder}", files={"file": ("a.png", picture())})
    assert answer.status_code == 403


ODD = ["refs/dress.png", "refs/dress (1).png", "refs/plain", "abcd", "refs/ü & ? #%.png", "refs/a+b=c.jpeg"]


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("field", ["path", "url"])
async def test_whatever_an_upload_hands_out_every_image_field_takes(
    api: httpx.AsyncClient, path: str, field: str
) -> None:
    sent = {"file": ("a.png", picture(size=(128, 128)))}
    stored = (await api.post(f"/storage/images/{quote(path)}", files=sent)).json()
    for taking in file_fields():
        if taking.is_lora or taking.is_inline:
            continue
        for body in taking.bodies(stored[field], stored["path"]):
            answer = await api.post("/tasks/", json=body)
            assert answer.status_code == 201, (body, answer.text)
        for transform in ("URL", "BASE64", None) if (path, field) == (ODD[4], "path") else (None,):
            body = taking.bodies("", stored["path"])[0]
            transform = "LIST" if isinstance(body[taking.name], list) else transform
            answer = await api.post("/workflows/", json=flow(taking, stored[field], body, transform, "$config"))
            assert answer.status_code == 201, (transform, answer.text)
    training = await api.post("/training/", json={"trigger_word": "zx", "source_images": [stored[field]]})
    assert training.status_code == 201, training.text
    if field == "path":
        task = (await api.post("/tasks/", json=SMALL)).json()["id"]
        changed = await api.put(f"/tasks/generation/{task}", json={"reference_image_path": stored["path"]})
        assert (changed.status_code, changed.json()["reference_image_path"]) == (200, stored["path"])


async def test_whatever_a_task_hands_out_the_next_one_takes(api: httpx.AsyncClient, worker: Painter) -> None:
    made = (await api.post("/tasks/", json=SMALL)).json()["id"]
    done = await wait_for(api, made, "COMPLETED")
    quick = (await api.get(f"/tasks/task_{made.replace('-', '')}")).json()
    given = [done["result_image_path"], done["result_image_url"], *done["result_image_paths"]]
    given += [*done["result_image_urls"], quick["output"]["images"][0]["url"]]
    for source in given:
        answer = await api.post("/tasks/", json=SMALL | {"reference_image_url": source})
        assert answer.status_code == 201, (source, answer.text)
        # Nothing was fetched: it is the very file.
        assert answer.json()["reference_image_path"] == done["result_image_path"]


async def test_a_link_that_has_expired_says_so(api: httpx.AsyncClient, settings: Settings) -> None:
    await api.post("/storage/images/refs/a.png", files={"file": ("a.png", picture())})
    signature = sign("refs/a.png", 1_600_000_000, load_link_secrets(settings)[0])
    link = f"http://127.0.0.1:1/api/v1/storage/images/refs/a.png?expires=1600000000&signature={signature}"
    answer = await api.post("/tasks/", json=SMALL | {"reference_image_url": link})
    assert answer.status_code == 422
    assert "expired" in answer.text


async def test_a_lora_is_named_by_whatever_an_answer_calls_it(
    api: httpx.AsyncClient, settings: Settings, objects: ObjectStore
) -> None:
    sent = {"file": ("look.safetensors", lora(0.5))}
    stored = (await api.post("/lora/upload", files=sent, data={"entity_type": "STYLE"})).json()
    (listed,) = (await api.get("/lora")).json()["loras"]
    signer = LinkSigner(IMAGES, load_link_secrets(settings))
    link = await link_to(stored["file_path"], objects, signer, ttl_seconds=60, base_url="http://any", model=True)
    for name in (stored["file_path"], stored["partial_path"], listed["partial_path"], link):
        for field in ("subject_model_path", "product_model_path", "style_model_path", "product2_model_path"):
            answer = await api.post("/tasks/", json=SMALL | {field: name})
            assert answer.status_code == 201, (field, name, answer.text)
            shown = answer.json()[field]
            assert (await api.post("/tasks/", json=SMALL | {field: shown})).status_code == 201
        task = (await api.post("/tasks/", json=SMALL)).json()["id"]
        assert (await api.put(f"/tasks/generation/{task}", json={"style_model_path": name})).status_code == 200
    assert (await api.post("/tasks/", json=SMALL | {"style_model_path": f"styles/{uuid4()}"})).status_code == 422
