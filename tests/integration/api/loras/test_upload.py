"""LoRAs are uploaded to a running API, and used by its workers."""
# ruff: noqa: ASYNC240 (a test may wait for the disk)

import asyncio
import hashlib
import os
import pickle
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from compute.api.bodies.multipart import received
from compute.errors import TooLarge
from compute.settings import Settings
from tests.integration.api.conftest import KEY, Painter, wait_for
from tests.integration.api.loras.lora_bytes import LAYER, checkpoint, lora
from tests.patience import PATIENCE

MAX_BYTES = 300_000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """LoRAs may be larger than other bodies, as they are in life."""
    return settings.model_copy(update={"lora_max_bytes": MAX_BYTES, "body_max_bytes": 20_000})


@pytest.fixture
def leftovers(settings: Settings) -> Callable[[], list[Path]]:
    return lambda: [*(settings.cache_root / "uploads").glob("*")]


async def upload(api: httpx.AsyncClient, data: bytes, name: str = "look.safetensors", **fields: str) -> httpx.Response:
    return await api.post("/lora/upload", files={"file": (name, data)}, data=fields)


async def stored(api: httpx.AsyncClient) -> list[str]:
    return [item["partial_path"] for item in (await api.get("/lora")).json()["loras"]]


def loc(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return answer.json()["detail"][0]["loc"]


async def test_an_uploaded_lora_is_used_at_once(
    api: httpx.AsyncClient, worker: Painter, leftovers: Callable[[], list[Path]]
) -> None:
    data = lora(0.5)
    answer = await upload(api, data, entity_type="STYLE")
    assert answer.status_code == 201
    body = answer.json()
    assert (body["file_path"], body["partial_path"]) == ("loras/styles/look.safetensors", "styles/look.safetensors")
    assert (body["filename"], body["file_size"], body["stored_size"]) == ("look.safetensors", len(data), len(data))
    assert (body["sha256"], body["created"]) == (hashlib.sha256(data).hexdigest(), True)
    assert (body["rank"], body["layers"]) == (2, 1)
    assert leftovers() == []

    task = {"task_type": "GENERATION", "prompt": "p", "width": 64, "height": 64, "steps": 1}
    created = await api.post("/tasks/", json=task | {"style_model_path": body["partial_path"]})
    assert created.status_code == 201, created.text
    await wait_for(api, created.json()["id"], "COMPLETED")
    (used,) = worker.requests[0].loras
    assert used.path.read_bytes() == data


async def test_a_checkpoint_is_stored_as_safetensors(api: httpx.AsyncClient, settings: Settings) -> None:
    body = (await upload(api, checkpoint(), "My LoRA.PT", entity_type="subject")).json()
    assert (body["partial_path"], body["filename"]) == ("identities/My_LoRA.safetensors", "My LoRA.PT")
    file = settings.storage_root / body["file_path"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == body["sha256"]
    assert (body["file_size"], body["stored_size"]) == (len(checkpoint()), file.stat().st_size)
    assert LAYER.encode() in file.read_bytes()


async def test_a_name_that_is_taken_gets_a_version_and_the_same_file_does_not(api: httpx.AsyncClient) -> None:
    uploads = [await upload(api, lora(value)) for value in (1, 2, 1, 2, 3)]
    folder = "no_type_provided"
    assert [(one.json()["partial_path"], one.json()["created"]) for one in uploads] == [
        (f"{folder}/look.safetensors", True),
        (f"{folder}/look_v2.safetensors", True),
        (f"{folder}/look.safetensors", False),
        (f"{folder}/look_v2.safetensors", False),
        (f"{folder}/look_v3.safetensors", True),
    ]
    assert len(await stored(api)) == 3


async def test_without_versions_a_name_that_is_taken_is_a_conflict(
    api: httpx.AsyncClient, leftovers: Callable[[], list[Path]]
) -> None:
    for value, status in ((1, 201), (2, 409), (1, 409)):
        answer = await upload(api, lora(value), use_safe_filename="false")
        assert answer.status_code == status
    assert answer.json()["code"] == "CONFLICT"
    assert await stored(api) == ["no_type_provided/look.safetensors"]
    assert leftovers() == []


async def test_uploads_at_once_of_one_name_all_stay(api: httpx.AsyncClient, settings: Settings) -> None:
    answers = await asyncio.gather(*(upload(api, lora(value)) for value in range(6)))
    paths = {one.json()["partial_path"] for one in answers}
    assert len(paths) == 6
    for one in answers:
        content = (settings.storage_root / one.json()["file_path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one.json()["sha256"]


async def test_a_name_cannot_leave_the_folder(api: httpx.AsyncClient) -> None:
    for name in ("../../../etc/evil.safetensors", "..\\evil.safetensors", "/evil.safetensors"):
        body = (await upload(api, lora(), name)).json()
        assert (body["partial_path"], body["filename"]) == ("no_type_provided/evil.safetensors", "evil.safetensors")


async def test_wrong_fields_are_named(api: httpx.AsyncClient) -> None:
    wrong = [
        {"entity_type": "shoes"},
        {"entity_type": "../styles"},
        {"entity_type": "faces"},
        {"use_safe_filename": "perhaps"},
        {"colour": "red"},
    ]
    for fields in wrong:
        assert loc(await upload(api, lora(), **fields)) == ["body", *fields]
    assert await stored(api) == []


class Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


async def test_a_file_with_another_programs_ending_is_taken_for_what_it_is(api: httpx.AsyncClient) -> None:
    for name, data in {"one.safetensors": checkpoint(), "two.pt": lora(2.0), "three.ckpt": lora(3.0)}.items():
        answer = await upload(api, data, name)
        assert answer.status_code == 201, name
        assert answer.json()["file_path"].endswith(f"/{name.partition('.')[0]}.safetensors")


async def test_a_hostile_or_broken_file_is_refused_and_leaves_nothing(
    api: httpx.AsyncClient, tmp_path: Path, leftovers: Callable[[], list[Path]]
) -> None:
    hostile = pickle.dumps(Bomb(tmp_path / "it-ran"), protocol=2)
    files = {
        "bomb.pt": hostile,
        "bomb.safetensors": hostile,
        "empty.safetensors": b"",
        "cut.safetensors": lora()[:-10],
        "deep.safetensors": (50_000).to_bytes(8, "little") + b"[" * 50_000,
        "other.zip": lora(),
        "no_extension": lora(),
    }
    for name, data in files.items():
        assert loc(await upload(api, data, name)) == ["body", "file"], name
    assert not (tmp_path / "it-ran").exists()
    assert await stored(api) == []
    assert leftovers() == []


async def test_a_file_over_the_limit_is_refused(api: httpx.AsyncClient, leftovers: Callable[[], list[Path]]) -> None:
    data = lora(width=MAX_BYTES // 8)
    assert MAX_BYTES < len(data) < MAX_BYTES + 1000
    request = api.build_request("POST", "/lora/upload", files={"file": ("a.safetensors", data)})
    headers = {"Content-Type": request.headers["content-type"]}
    chunked = api.post("/lora/upload", content=_pieces(await request.aread()), headers=headers)
    for answer in (await upload(api, data), await chunked):
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    assert await stored(api) == []
    assert leftovers() == []
    fits = await upload(api, lora(width=MAX_BYTES // 8 - 100))
    assert fits.status_code == 201


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


def _head(host: str, *lines: str) -> bytes:
    start = ["POST /api/v1/lora/upload HTTP/1.1", f"Host: {host}", "Content-Type: multipart/form-data; boundary=x"]
    return "\r\n".join([*start, *lines, "", ""]).encode()


_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pt"\r\n\r\n'


async def test_the_limit_is_enforced_while_the_body_is_still_coming(
    base_url: str, leftovers: Callable[[], list[Path]]
) -> None:
    host = base_url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(_head(host, f"Authorization: Bearer {KEY}", "Transfer-Encoding: chunked"))
    for data in (_PART, *[bytes(100_000)] * 15):
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()
    # The form has no end yet.
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    assert leftovers() == []


async def test_without_a_key_the_body_is_not_read(base_url: str) -> None:
    host = base_url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(_head(host, "Content-Length: 100000", "Expect: 100-continue"))
    async with asyncio.timeout(PATIENCE):
        # Not `100 Continue`, which would ask for the body.
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_an_upload_that_is_broken_off_leaves_nothing(base_url: str, leftovers: Callable[[], list[Path]]) -> None:
    host = base_url.removeprefix("http://")
    _, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(_head(host, f"Authorization: Bearer {KEY}", "Content-Length: 250000") + _PART + bytes(100_000))
    await writer.drain()
    async with asyncio.timeout(PATIENCE):
        while not leftovers():
            await asyncio.sleep(0.01)
        writer.close()
        while leftovers():
            await asyncio.sleep(0.01)


async def test_what_a_killed_process_left_behind_is_removed(
    api: httpx.AsyncClient, settings: Settings, leftovers: Callable[[], list[Path]]
) -> None:
    for name, age in (("old", 2 * 24 * 3600), ("young", 3600)):
        folder = settings.cache_root / "uploads" / name
        folder.mkdir(parents=True)
        (folder / "upload").write_bytes(b"x")
        changed = folder.stat().st_mtime - age
        os.utime(folder, (changed, changed))
    assert (await upload(api, lora())).status_code == 201
    assert [place.name for place in leftovers()] == ["young"]


BROKEN_FORMS: list[tuple[bytes, str | None]] = [
    (b"--x\r\n\r\n", None),
    (b"nonsense", None),
    (_PART + b"cut off", None),
    (b'--x\r\nContent-Disposition: form-data; name="t"\r\n\r\n' + b"x" * 5000 + b"\r\n--x--\r\n", "t"),
    (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--x--\r\n', "file"),
    (b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--x--\r\n', "other"),
    (_PART + b"a\r\n" + _PART + b"b\r\n--x--\r\n", "file"),
]


async def test_a_broken_form_is_refused(api: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body, field in BROKEN_FORMS:
        answer = await api.post("/lora/upload", content=body, headers=headers)
        assert loc(answer) == (["body", field] if field else ["body"]), body[:100]
    assert (await api.post("/lora/upload", json={"file": "x"})).status_code == 415


async def test_loras_are_listed_by_folder(api: httpx.AsyncClient) -> None:
    for kind, name in (("style", "b"), ("style", "a"), ("product", "c")):
        await upload(api, lora(), f"{name}.safetensors", entity_type=kind)
    assert await stored(api) == ["products/c.safetensors", "styles/a.safetensors", "styles/b.safetensors"]
    listed = (await api.get("/lora", params={"entity_type": "STYLE", "limit": 1})).json()
    assert (listed["count"], listed["loras"][0]["file_size"]) == (1, len(lora()))
    assert (await api.get("/lora", params={"entity_type": "shoes"})).status_code == 400


async def test_a_body_is_never_in_memory(tmp_path: Path) -> None:
    """64 MB through the reader of the form, and a few MB of memory."""
    pieces = [_PART, *[bytes(64 * 1024)] * 1024, b"\r\n--x--\r\n"]

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    def request() -> Request:
        return Request({"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}, receive)

    tracemalloc.start()
    async with received(request(), tmp_path, 100_000_000) as form:
        _, peak = tracemalloc.get_traced_memory()
        assert form.size == form.file.stat().st_size == 64 * 2**20
    tracemalloc.stop()
    assert peak < 8 * 2**20
    pieces[:] = [_PART, *[bytes(64 * 1024)] * 1024, b"\r\n--x--\r\n"]
    with pytest.raises(TooLarge):
        async with received(request(), tmp_path, 3_000_000):
            raise AssertionError("it was too large")
    # It stopped reading within the next megabyte.
    assert 1026 - len(pieces) < (3_000_000 + 2 * 2**20) / (64 * 1024)
    assert [*tmp_path.iterdir()] == []
