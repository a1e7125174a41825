"""Garbage in: a clear 4xx that names the field, nothing stored, nothing leaked."""

import asyncio
import base64
import io
import struct
import zlib
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest
from aiohttp import web
from PIL import Image
from safetensors.numpy import save_file

from compute.settings import Settings
from tests.patience import NEVER

GOOD = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1}


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A valid header that promises that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"media_timeout_seconds": 2.0})


@pytest.fixture
async def hostile() -> AsyncIterator[str]:
    """A server that answers in every bad way."""

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(NEVER)
        return web.Response()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"\0" * 2**20)

    async def to_private(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    bodies = {"text": b"hello, I am text", "huge": huge_png(30_000, 30_000), "truncated": _truncated_jpeg()}
    app = web.Application()
    app.add_routes([web.get("/slow", slow), web.get("/endless", endless), web.get("/redirect", to_private)])
    for name, body in bodies.items():
        app.router.add_get(f"/{name}", partial(_answer, body))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def _answer(body: bytes, _: web.Request) -> web.Response:
    return web.Response(body=body, content_type="image/png")


def _truncated_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


async def assert_nothing_stored(api: httpx.AsyncClient, settings: Settings) -> None:
    assert (await api.get("/tasks/")).json() == []
    assert (await api.get("/storage/images")).json()["count"] == 0


def assert_names(answer: httpx.Response, status: int, field: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"]
    named = [str(part) for item in body["detail"] for part in item["loc"]] if status == 422 else body["detail"]
    assert field in named, answer.text


@pytest.mark.parametrize("key", [None, "x", "wrong", "test-ke", "ключ"])
async def test_a_wrong_or_missing_key_is_refused_everywhere(anonymous: httpx.AsyncClient, key: str | None) -> None:
    headers = {"Authorization": b"Bearer " + key.encode()} if key is not None else {}
    for method, path in [
        ("POST", "/api/v1/tasks/"),
        ("POST", "/api/v1/tasks/generation"),
        ("GET", "/api/v1/tasks/"),
        ("GET", "/api/v1/tasks/5b1f0c1e-0000-4000-8000-000000000000"),
        ("GET", "/api/v1/tasks/5b1f0c1e-0000-4000-8000-000000000000/events"),
        ("POST", "/api/v1/storage/images"),
        ("GET", "/api/v1/storage/images/generations/x.png"),
        ("HEAD", "/api/v1/storage/images/generations/x.png"),
    ]:
        answer = await anonymous.request(method, path, headers=headers)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task_type": "PAINTING"}, "task_type"),
        ({"task_type": 7}, "task_type"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n "}, "prompt"),
        ({"prompt": "x" * 100_000}, "prompt"),
        ({"prompt": "nul \x00"}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"width": 0}, "width"),
        ({"width": 7}, "width"),
        ({"width": 100_000}, "width"),
        ({"width": 72}, "width"),
        ({"height": -64}, "height"),
        ({"steps": -1}, "steps"),
        ({"steps": 0}, "steps"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"num_outputs": 0}, "num_outputs"),
        ({"num_outputs": 1000}, "num_outputs"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"reference_image_strength": 101}, "reference_image_strength"),
        ({"priority": 4}, "priority"),
        ({"promt": "typo"}, "promt"),
        ({"model": "no-such-model"}, "model"),
        ({"queue_name": "nowhere"}, "queue_name"),
        ({"provider_type": "FAL_STANDARD"}, "provider_type"),
        ({"provider_type": "NOBODY"}, "provider_type"),
        ({"active_provider_capabilities": ["UPSCALE_8X"]}, "active_provider_capabilities"),
        ({"webhook_url": "ftp://example.com"}, "webhook_url"),
        ({"webhook_url": "http://10.0.0.1/hook"}, "webhook_url"),
        ({"config": {"deep": "x\x00"}}, "config"),
        ({"style_model_path": "../../etc/passwd"}, "style_model_path"),
        ({"style_model_path": "/etc/passwd"}, "style_model_path"),
        ({"style_model_path": "styles/none.safetensors"}, "style_model_path"),
        ({"style_lora_weight": 50}, "style_lora_weight"),
        ({"reference_image_url": "http://10.0.0.1/a.png"}, "reference_image_url"),
        ({"reference_image_url": "http://127.1/a.png"}, "reference_image_url"),
        ({"reference_image_url": "http://localhost/a.png"}, "reference_image_url"),
        ({"reference_image_url": "http://[::1]/a.png"}, "reference_image_url"),
        ({"reference_image_url": "file:///etc/passwd"}, "reference_image_url"),
        ({"reference_image_url": "../../etc/passwd.png"}, "reference_image_url"),
        ({"reference_image_url": "loras/x.png"}, "reference_image_url"),
        ({"reference_image_url": "images/none.png"}, "reference_image_url"),
        ({"input_image_url": "a/b.png", "reference_image_url": "a/b.png"}, "input_image_url"),
        ({"reference_image_data": "data:image/png;base64,AAAA"}, "reference_image_data"),
        ({"reference_image_data": base64.b64encode(huge_png(30_000, 30_000)).decode()}, "reference_image_data"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_stored(
    api: httpx.AsyncClient, settings: Settings, change: dict, field: str
) -> None:
    body = {name: value for name, value in {**GOOD, "task_type": "GENERATION", **change}.items() if value is not None}
    answer = await api.post("/tasks/", json=body)
    assert_names(answer, 422, field)
    assert "etc/passwd" not in answer.text.replace(str(change), "")
    await assert_nothing_stored(api, settings)


@pytest.mark.parametrize("path", ["slow", "endless", "redirect", "text", "huge", "truncated", "missing"])
async def test_a_bad_address_is_refused(api: httpx.AsyncClient, settings: Settings, hostile: str, path: str) -> None:
    answer = await api.post("/tasks/generation", json={**GOOD, "input_image_url": f"{hostile}/{path}"})
    assert answer.status_code == 422, answer.text
    assert "input_image_url" in answer.text
    assert "169.254" not in answer.text
    await assert_nothing_stored(api, settings)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b'"text"', "application/json"),
        (b'{"prompt": NaN}', "application/json"),
        (b'{"prompt": 1e999}', "application/json"),
        (b'{"prompt": "\\ud800"}', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json"),
        (b'{"config": ' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}", "application/json"),
        (b'{"seed": ' + b"9" * 10_000 + b"}", "application/json"),
    ],
)
async def test_a_body_that_is_no_usable_json_is_refused(
    api: httpx.AsyncClient, settings: Settings, content: bytes, content_type: str
) -> None:
    for path in ("/tasks/", "/tasks/generation"):
        answer = await api.post(path, content=content, headers={"Content-Type": content_type})
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "INVALID_INPUT"
    await assert_nothing_stored(api, settings)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(b"prompt=hat", "application/x-www-form-urlencoded"), (b'{"prompt": "hat"}', "text/plain")],
)
async def test_a_body_that_is_called_no_json_is_refused(
    api: httpx.AsyncClient, settings: Settings, content: bytes, content_type: str
) -> None:
    for path in ("/tasks/", "/tasks/generation"):
        answer = await api.post(path, content=content, headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), answer.text
    await assert_nothing_stored(api, settings)


async def test_a_body_over_the_limit_is_refused(api: httpx.AsyncClient, settings: Settings) -> None:
    content = b'{"prompt": "' + b"x" * settings.body_max_bytes + b'"}'
    answer = await api.post("/tasks/", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("task_id", ["x", "123", "task_", "task_xyz", "5B1F0C1E-0000-4000-8000", "%00", "..%2f.."])
async def test_a_malformed_id_is_a_clear_4xx(api: httpx.AsyncClient, task_id: str) -> None:
    answer = await api.get(f"/tasks/{task_id}")
    assert answer.status_code in {400, 404}
    assert answer.json()["code"] in {"BAD_REQUEST", "NOT_FOUND"}


async def test_an_unknown_id_is_not_found(api: httpx.AsyncClient) -> None:
    unknown = "5b1f0c1e-0000-4000-8000-000000000000"
    for method, path in [
        ("GET", f"/tasks/{unknown}"),
        ("PUT", f"/tasks/{unknown}"),
        ("DELETE", f"/tasks/{unknown}"),
        ("POST", f"/tasks/{unknown}/cancel"),
        ("POST", f"/tasks/{unknown}/cleanup"),
        ("GET", f"/tasks/{unknown}/events"),
        ("GET", f"/tasks/generation/task_{unknown.replace('-', '')}"),
    ]:
        answer = await api.request(method, path, json={"priority": 1} if method == "PUT" else None)
        assert answer.status_code == 404, (method, path, answer.text)


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 10**9}, {"skip": -1}, {"status": "DONE"}, {"task_type": "X"}, {"limit": "ten"}]
)
async def test_a_bad_query_is_named(api: httpx.AsyncClient, query: dict) -> None:
    answer = await api.get("/tasks/", params=query)
    assert answer.status_code == 400
    assert next(iter(query)) in answer.json()["detail"]


async def test_a_query_with_nul_is_refused(api: httpx.AsyncClient) -> None:
    assert (await api.get("/tasks/?origin_tenant_id=a%00b")).status_code == 400


@pytest.mark.parametrize("key", ["", "x" * 300, "with space", "é"])
async def test_a_bad_idempotency_key_is_refused(api: httpx.AsyncClient, key: str) -> None:
    answer = await api.post("/tasks/", json=GOOD, headers={"Idempotency-Key": key.encode()})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


async def test_a_lora_that_is_corrupt_or_no_lora_is_refused(api: httpx.AsyncClient, settings: Settings) -> None:
    import numpy as np

    folder = settings.storage_root / "loras" / "styles"
    folder.mkdir(parents=True)
    (folder / "garbage.safetensors").write_bytes(b"\x00" * 100)
    save_file({"weight": np.zeros((2, 2), np.float32)}, folder / "other.safetensors")
    whole = (folder / "other.safetensors").read_bytes()
    (folder / "short.safetensors").write_bytes(whole[:-5])
    for name in ("garbage", "other", "short"):
        answer = await api.post("/tasks/", json={**GOOD, "style_model_path": f"styles/{name}.safetensors"})
        assert_names(answer, 422, "style_model_path")
    assert (await api.get("/tasks/")).json() == []
