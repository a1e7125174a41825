"""HEAD, OPTIONS, 405 and slashes, on every path."""

import asyncio

import httpx

from tests.integration.api.conftest import Painter, wait_for
from tests.integration.api.http.raw import send
from tests.integration.api.http.routes import all_paths
from tests.integration.api.images.test_storage import upload
from tests.patience import PATIENCE

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
UNDOCUMENTED = ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/openapi.json")


def expected(methods: set[str]) -> set[str]:
    return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())


def allowed(answer: httpx.Response) -> set[str]:
    return set(answer.headers["allow"].split(", "))


async def test_every_path_names_all_its_methods_and_has_no_others(
    base_url: str, api: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    for path, methods in (all_paths() | {path: {"GET"} for path in UNDOCUMENTED}).items():
        options = await anonymous.options(path)
        assert (options.status_code, allowed(options), options.content) == (204, expected(methods), b""), path
        for method in set(METHODS) - expected(methods):
            answer = await api.request(method, base_url + path)
            assert (answer.status_code, allowed(answer)) == (405, expected(methods)), (method, path)
            assert method == "HEAD" or answer.json()["code"] == "METHOD_NOT_ALLOWED"


async def test_methods_that_nobody_knows_are_refused(base_url: str) -> None:
    for method in (b"CONNECT", b"TRACE", b"PROPFIND", b"QUERY", b"FOO", b"get", b"G\x00T"):
        for target in (b"/health", b"/api/v1/tasks/", b"*", b"127.0.0.1:80", b"http://127.0.0.1/health"):
            answer = await send(
                base_url, method + b" " + target + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
            )
            assert answer is None or 400 <= answer.status < 500 or answer.status == 501, (method, target)


async def test_head_is_get_without_its_content(api: httpx.AsyncClient, base_url: str, worker: Painter) -> None:
    made = (await api.post("/tasks/", json={"prompt": "a", "width": 64, "height": 64, "steps": 1})).json()
    await wait_for(api, made["id"], "COMPLETED")
    paths = [path for path, methods in all_paths().items() if "GET" in methods]
    known = [f"/api/v1/tasks/{made['id']}", f"/api/v1/tasks/generation/{made['id']}"]
    for path in [*paths, *known, *UNDOCUMENTED, "/health?ready=1", "/nowhere"]:
        get, head = await api.get(base_url + path), await api.head(base_url + path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        volatile = {"date", "transfer-encoding", "x-request-id"}
        if made["id"] in path:
            volatile |= {"content-length"}  # links are signed anew
        own = {name: value for name, value in head.headers.items() if name not in volatile}
        assert own == {name: value for name, value in get.headers.items() if name not in volatile}, path


async def test_head_on_an_event_stream_ends_at_once(api: httpx.AsyncClient) -> None:
    made = (await api.post("/tasks/", json={"prompt": "a", "width": 64, "height": 64, "steps": 1})).json()
    async with asyncio.timeout(PATIENCE):
        answer = await api.head(f"/tasks/{made['id']}/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_head_on_a_signed_link_is_what_get_is(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    url = (await upload(api, "/a/b.png")).json()["url"]
    for link in (url, url.replace("expires=1", "expires=2"), url[:-3] + "abc", url.split("?")[0]):
        get, head = await anonymous.get(link), await anonymous.head(link)
        assert (head.status_code, head.content) == (get.status_code, b""), link
        assert head.headers["content-length"] == get.headers["content-length"]
    assert (await anonymous.head(url)).status_code == 200


async def test_a_slash_too_many_or_too_few_leads_to_the_path_that_is_meant(
    api: httpx.AsyncClient, base_url: str
) -> None:
    for path, methods in all_paths().items():
        if path.endswith("looks/dress.png"):
            continue  # storage paths end as they end
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        for method in methods:
            answer = await api.request(method, f"{base_url}{other}?limit=1&x=%20")
            assert (answer.status_code, answer.headers["location"]) == (307, f"{base_url}{path}?limit=1&x=%20"), other
