"""The key comes before the body, on every route; so does a size that is announced."""

import asyncio
import re

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings
from tests.integration.api.conftest import KEY
from tests.patience import PATIENCE

OPEN = {"/health"}
"""What needs no key."""
REFERENCE = {"/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"}
"""What anybody may read."""
JSON = b"Content-Type: application/json"
FORM = b"Content-Type: multipart/form-data; boundary=x"


def routes(app: FastAPI) -> list[tuple[str, str, int]]:
    """Every method and path, and some that do not exist; the status without a key."""
    known = [
        (method, re.sub(r"\{[^}]*\}", "x", path), 401)
        for path, operations in app.openapi()["paths"].items()
        for method in (one.upper() for one in operations)
        if path not in OPEN
    ]
    assert len(known) > 30
    unknown = [(method, "/api/v1/nothing/here", 401) for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")]
    unknown += [("POST", "/api/v1/admin/nothing", 401)]
    # A method that a path does not have is told first: that, too, reads no body.
    wrong = [("PUT", "/api/v1/tasks/bulk", 405), ("DELETE", "/api/v1/storage/images", 405)]
    return known + unknown + wrong


async def first_line(host: str, *lines: bytes, body: bytes = b"") -> bytes:
    """The status line of the answer to a request whose body never ends."""
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(b"\r\n".join([*lines, b"Host: " + host.encode(), b"", b""]) + body)
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.readline()
    finally:
        writer.close()


def test_every_other_route_is_known(settings: Settings) -> None:
    """A router that is put outside the prefix would be open."""
    app = create_app(settings, Serving({}))
    paths = [context.path for context in iter_route_contexts(app.routes) if context.path is not None]
    assert "/api/v1/tasks/" in paths
    outside = {path for path in paths if not path.startswith("/api/v1/")}
    # Its key is asked for all the same.
    assert outside == OPEN | REFERENCE | {"/metrics"}


@pytest.mark.parametrize("key", [b"", b"Authorization: Bearer wrong", b"Authorization: Basic dGVzdDprZXk="])
async def test_a_wrong_key_is_told_before_the_body_comes(base_url: str, settings: Settings, key: bytes) -> None:
    host = base_url.removeprefix("http://")
    framings = [
        (JSON, b"Content-Length: 1000000", b""),
        (FORM, b"Content-Length: 1000000\r\nExpect: 100-continue", b""),
        (FORM, b"Transfer-Encoding: chunked", b"5\r\n--x\r\n\r\n"),
    ]
    heads = [key] if key else []
    for method, path, status in routes(create_app(settings, Serving({}))):
        for kind, length, body in framings:
            line = f"{method} {path} HTTP/1.1".encode()
            answer = await first_line(host, line, *heads, kind, length, body=body)
            assert answer.startswith(b"HTTP/1.1 %d " % status), (line, kind, length, answer)


async def test_the_admin_key_is_asked_for_before_the_body_comes(base_url: str) -> None:
    host = base_url.removeprefix("http://")
    for method, path in [("POST", "/api/v1/admin/lora/upload"), ("DELETE", "/api/v1/admin/lora")]:
        answer = await first_line(
            host,
            f"{method} {path} HTTP/1.1".encode(),
            f"Authorization: Bearer {KEY}".encode(),
            FORM,
            b"Content-Length: 1000000\r\nExpect: 100-continue",
        )
        assert answer.startswith(b"HTTP/1.1 403 "), (method, path, answer)


async def test_a_body_that_announces_too_much_is_refused_before_it_comes(base_url: str, settings: Settings) -> None:
    host = base_url.removeprefix("http://")
    key = f"Authorization: Bearer {KEY}".encode()
    for path, limit in [
        ("/api/v1/tasks/", settings.body_max_bytes),
        ("/api/v1/storage/images", settings.body_max_bytes),
        ("/api/v1/workflows/", settings.body_max_bytes),
        ("/api/v1/lora/upload", settings.lora_max_bytes + 2**21),
    ]:
        for kind in (JSON, FORM):
            length = f"Content-Length: {limit + 1}\r\nExpect: 100-continue".encode()
            answer = await first_line(host, f"POST {path} HTTP/1.1".encode(), key, kind, length)
            assert answer.startswith(b"HTTP/1.1 413 "), (path, answer)


async def test_a_signature_opens_stored_files_alone(anonymous: httpx.AsyncClient) -> None:
    signed = "?expires=99999999999&signature=abc"
    for method in ("GET", "HEAD"):
        answer = await anonymous.request(method, f"/api/v1/storage/images/uploads/x.png{signed}")
        assert answer.status_code == 403, method
    for method, path in [
        ("GET", "/api/v1/tasks/"),
        ("GET", "/api/v1/storage/images"),
        ("POST", "/api/v1/storage/images/uploads/x.png"),
        ("DELETE", "/api/v1/storage/images/uploads/x.png"),
        ("DELETE", "/api/v1/admin/lora"),
    ]:
        assert (await anonymous.request(method, path + signed)).status_code == 401, (method, path)


class TestMemoryOfBodies:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"body_memory_bytes": 100_000})

    async def test_bodies_share_what_memory_there_is(self, api: httpx.AsyncClient, base_url: str) -> None:
        host = base_url.removeprefix("http://")
        head = (
            f"POST /api/v1/tasks/ HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 90000\r\n\r\n"
        )
        _, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(head.encode() + b" " * 80_000)
        await writer.drain()
        body = b'{"prompt": "a hat", "config": {"x": "%s"}}' % (b"x" * 50_000)
        kind = {"Content-Type": "application/json"}
        async with asyncio.timeout(PATIENCE):
            while (answer := await api.post("/tasks/", content=body, headers=kind)).status_code == 201:
                await asyncio.sleep(0.02)
        assert (answer.status_code, answer.json()["code"]) == (503, "OVERLOADED")
        assert int(answer.headers["retry-after"]) > 0
        small = await api.post("/tasks/", json={"prompt": "a hat"})
        assert small.status_code == 201
        writer.close()
        async with asyncio.timeout(PATIENCE):
            while (await api.post("/tasks/", content=body, headers=kind)).status_code != 201:
                await asyncio.sleep(0.02)
