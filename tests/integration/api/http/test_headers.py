"""No header whatsoever makes the API fail, and none leads to the address of a replica."""

import asyncio
import json

import httpx
import pytest

from compute.settings import Settings
from tests.integration.api.conftest import KEY, serving_api
from tests.integration.api.http.raw import Answer, request, send
from tests.integration.api.http.routes import Route, all_routes
from tests.integration.api.images.test_storage import upload
from tests.patience import PATIENCE

HOST = b"Host: api.test"
KEYED = b"Authorization: Bearer " + KEY.encode()
NAMES = (
    "Accept",
    "Accept-Encoding",
    "Authorization",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Cookie",
    "Expect",
    "Forwarded",
    "Host",
    "Idempotency-Key",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Last-Event-ID",
    "Origin",
    "Access-Control-Request-Method",
    "Range",
    "Transfer-Encoding",
    "Upgrade",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Request-Id",
)
VALUES = (
    b"",
    b"\xff\xfe\xe9",
    b"\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87",
    b"Sat, 01 Jan 99999999999999999999 00:00:00 GMT",
    b"Sat, 01 Jan 0000 00:00:00 GMT",
    b"Fri, 31 Dec 9999 23:59:59 -2400",
    b"9" * 5000,
    b"-1",
    b"1_0",
    b'W/"',
    b'"' * 999,
    b"bytes=" + b"9" * 4999 + b"-",
    b"bytes=0-0,-1,5-1",
    b"multipart/form-data; boundary=" + b"-" * 300,
    b"multipart/form-data; boundary=\xff",
    b"application/json; charset=nonsense",
    b";;,,==",
    b"Bearer",
    b"gzip, chunked",
    b"https://[::1",
)


async def test_no_header_makes_a_route_fail(base_url: str) -> None:
    """Every header with every value on some route, and every header on every route."""
    for place, route in enumerate(all_routes()):
        values = (VALUES[place % len(VALUES)], VALUES[(7 * place + 3) % len(VALUES)])
        requests = [_with_header(route, name, value) for name in NAMES for value in values]
        answers = await _all(base_url, requests)
        for raw, answer in zip(requests, answers, strict=True):
            assert answer is None or answer.status < 500, (answer, raw[:300])


def _with_header(route: Route, name: str, value: bytes) -> bytes:
    lines = [line for line in (HOST, KEYED) if not line.startswith(name.encode() + b":")]
    body = b"{}" if route.reads else b""
    if name == "Transfer-Encoding":
        body = b"0\r\n\r\n"
    elif name != "Content-Length" and route.reads:
        lines.append(b"Content-Length: 2")
    return request(route.method, route.path, *lines, name.encode() + b": " + value, body=body)


async def test_a_malformed_condition_is_as_good_as_none(api: httpx.AsyncClient) -> None:
    path = (await upload(api, "/a/b.png")).json()["path"]
    for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Range", "If-Range"):
        for value in VALUES:
            if not value or value.isalpha():
                continue
            for method in ("GET", "HEAD"):
                answer = await api.request(method, f"/storage/images/{path}", headers={name.encode(): value})
                fine = {200, 416} if value.startswith(b"bytes=") else {200}
                assert answer.status_code in fine, (method, name, value[:40])


ADDRESSES = ("/health", "/api/v1/tasks/", "/api/v1/storage/images/a.png", "/api/v1/nowhere", "/docs", "/nowhere")


@pytest.mark.parametrize("bad", ["%00", "a%00b", "%zz", "%", "%f", "%ff", "%c3%28", "%ed%a0%80"])
async def test_an_address_that_is_misspelt_is_refused_everywhere(base_url: str, bad: str) -> None:
    for address in ADDRESSES:
        for target in (f"{address}?x={bad}", f"{address}?{bad}=1", f"{address}/{bad}", f"/{bad}{address}"):
            answer = await send(base_url, request("GET", target, HOST, KEYED))
            assert answer is not None
            assert answer.status == 400, (target, answer)
            assert json.loads(answer.body)["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"Host: a", b"Host: b"],
        [b"Host: a", b"Host: a"],
        [b"Host: "],
        [b"Host: a b"],
        [b"Host: user@evil"],
        [b"Host: a/b"],
        [b"Host: a:99999"],
        [b"Host: a:port"],
        [b"Host: [::1"],
        [b"Host: [zz]"],
        [b"Host: \xe9"],
    ],
)
async def test_a_host_that_is_none_is_refused(base_url: str, lines: list[bytes]) -> None:
    answer = await send(base_url, request("GET", "/api/v1/lora/", *lines, KEYED))
    assert answer is not None
    assert answer.status == 400, answer


async def test_links_and_redirects_begin_with_the_public_base(
    settings: Settings, api: httpx.AsyncClient, base_url: str
) -> None:
    await upload(api, "/a/b.png")
    listed = "/api/v1/storage/images"
    forwarded = [b"X-Forwarded-Host: evil.test", b"X-Forwarded-Proto: https", b"Forwarded: host=evil.test;proto=https"]
    for lines, version, base in (
        ([], "1.0", "http://127.0.0.1:8000"),
        ([b"Host: api.test"], "1.0", "http://api.test"),
        ([b"Host: api.test:8080"], "1.1", "http://api.test:8080"),
        ([b"Host: [::1]:80"], "1.1", "http://[::1]:80"),
        ([b"Host: api.test", *forwarded], "1.1", "http://api.test"),
    ):
        answer = await send(base_url, request("GET", listed, KEYED, *lines, version=version))
        assert answer is not None
        assert f'"url":"{base}/api/v1/storage/images/a/b.png?'.encode() in answer.body, answer
        moved = await send(base_url, request("GET", f"{listed}/?prefix=a%2F", KEYED, *lines, version=version))
        assert moved is not None
        assert (moved.status, moved.headers["location"]) == (307, f"{base}{listed}?prefix=a%2F")
    public = settings.model_copy(update={"public_url": "https://example.test/compute/"})
    async with serving_api(public) as url:
        for lines in ([b"Host: api.test"], [b"Host: api.test", *forwarded]):
            answer = await send(url, request("GET", listed, KEYED, *lines))
            assert answer is not None
            assert b'"url":"https://example.test/compute/api/v1/storage/images/a/b.png?' in answer.body
            moved = await send(url, request("GET", f"{listed}/", KEYED, *lines))
            assert moved is not None
            assert moved.headers["location"] == f"https://example.test/compute{listed}"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x" * 500])
async def test_a_coded_body_is_refused_by_the_name_of_its_coding(api: httpx.AsyncClient, coding: str) -> None:
    for route in all_routes():
        if route.reads:
            headers = {"Content-Encoding": coding, "Content-Type": route.reads[0]}
            path = route.path.removeprefix("/api/v1")
            answer = await api.request(route.method, path, content=b"\x1f\x8b\x08", headers=headers)
            assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity"), route
            assert coding.rpartition(" ")[2][:40] in answer.json()["detail"]


async def test_a_body_of_another_type_is_refused_with_those_that_are_read(api: httpx.AsyncClient) -> None:
    for route in all_routes():
        if not route.reads or "/admin/" in route.path or "/calls/" in route.path:  # which this key may not call
            continue
        for kind in ("text/plain", "application/xml", "", ";", "application/jsonx"):
            path = route.path.removeprefix("/api/v1")
            answer = await api.request(route.method, path, content=b"{}", headers={"Content-Type": kind})
            assert (answer.status_code, answer.headers["accept"]) == (415, ", ".join(route.reads)), (route, kind)


async def test_a_client_that_waits_to_be_told_to_go_on_is_told(base_url: str) -> None:
    body = b'{"prompt": "a hat", "width": 64, "height": 64}'
    lines = (HOST, KEYED, b"Content-Type: application/json", b"Content-Length: %d" % len(body), b"Expect: 100-continue")
    answer = await send(base_url, request("POST", "/api/v1/tasks/", *lines, body=body))
    assert answer is not None
    assert answer.status == 201


async def test_pages_of_named_origins_may_call_and_others_not(settings: Settings) -> None:
    named = settings.model_copy(update={"cors_origins": ("https://app.test",)})
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with serving_api(named) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        asked = await client.options("/api/v1/tasks/", headers=preflight | {"Origin": "https://app.test"})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://app.test")
        assert "Authorization" in asked.headers["access-control-allow-headers"]
        other = await client.options("/api/v1/tasks/", headers=preflight | {"Origin": "https://other.test"})
        assert "access-control-allow-origin" not in other.headers
        refused = await client.get("/api/v1/tasks/", headers={"Origin": "https://app.test"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.test")
        shown = {name.strip().lower() for name in refused.headers["access-control-expose-headers"].split(",")}
        document = (await client.get("/openapi.json")).json()
        declared = {
            name.lower()
            for methods in document["paths"].values()
            for operation in methods.values()
            for answer in operation["responses"].values()
            for name in answer.get("headers", {})
        }
        # A few need no leave.
        assert declared - shown <= {"cache-control", "content-type"}
        assert {"idempotency-replayed", "link", "x-next-cursor"} <= declared
    async with serving_api(settings) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        asked = await client.options("/api/v1/tasks/", headers=preflight | {"Origin": "https://app.test"})
        assert not [name for name in asked.headers if name.startswith("access-control")]


async def _all(base_url: str, requests: list[bytes]) -> list[Answer | None]:
    """The answers, a few at a time."""
    gate = asyncio.Semaphore(16)

    async def one(raw: bytes) -> Answer | None:
        async with gate:
            return await send(base_url, raw)

    return await asyncio.gather(*(one(raw) for raw in requests))
