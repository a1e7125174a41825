"""The guarded client against real servers on loopback: allowed ones, and ones that it must never reach."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from aiohttp import web

from compute.errors import FileAway, InvalidInput, Unavailable
from compute.outbound.client import GuardedClient
from tests.integration.outbound.conftest import Connect, Serve, Site
from tests.patience import NEVER, PATIENCE


def redirect_to(location: str, status: int = 302) -> Callable[[web.Request], web.StreamResponse]:
    return lambda request: web.Response(status=status, headers={"Location": location})


async def refusal(client: GuardedClient, url: str, max_bytes: int = 1000) -> str:
    with pytest.raises(InvalidInput) as caught:
        await client.fetch(url, max_bytes=max_bytes, field="image_url")
    assert caught.value.field == "image_url"
    assert "127.0.0.1" not in caught.value.detail
    return caught.value.detail


async def test_an_allowed_host_is_fetched_from(serve: Serve, connect: Connect) -> None:
    site = Site(lambda request: web.Response(body=b"pixels", content_type="image/png"))
    host = await serve(site)
    fetched = await connect(host).fetch(f"http://{host}/a%2Fb?sig=%2B%2f", max_bytes=6, field="image_url")
    assert (fetched.body, fetched.content_type) == (b"pixels", "image/png")
    assert site.requests[0].raw_path == "/a%2Fb?sig=%2B%2f"


async def test_a_name_can_be_allowed_for_one_port_only(serve: Serve, connect: Connect) -> None:
    site = Site(lambda request: web.Response(body=b"x"))
    port = (await serve(site)).rpartition(":")[2]
    fetched = await connect(f"localhost:{port}").fetch(f"http://LocalHost:{port}/", max_bytes=9, field="image_url")
    assert fetched.body == b"x"
    await refusal(connect("localhost:1"), f"http://localhost:{port}/")
    assert len(site.requests) == 1


async def test_no_spelling_of_loopback_is_reached(serve: Serve, connect: Connect) -> None:
    site = Site(lambda request: web.Response(body=b"secret"))
    port = (await serve(site)).rpartition(":")[2]
    client = connect()
    for host in (
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "127%2e0.0.1",
    ):
        await refusal(client, f"http://{host}:{port}/")
        with pytest.raises(InvalidInput):
            await client.check_url(f"http://{host}:{port}/", "webhook_url")
        with pytest.raises((InvalidInput, Unavailable)):
            await client.post(f"http://{host}:{port}/", b"{}", {})
    assert site.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/a.png",
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/",
        "//example.com/a.png",
        "http://",
        "http:///a.png",
        "http://user:secret@example.com/",
        "http://user@example.com/",
        "http://@example.com/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://exa mple.com/",
        "http://example.com/a\r\nX: y",
        "http://example.com\\@127.0.0.1/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://a..b/",
        "http://" + "a" * 300 + "/",
        "http://example.com/" + "a" * 9000,
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "https://192.168.1.1/",
        "http://[fd00:ec2::254]/",
    ],
)
async def test_urls_that_are_refused(connect: Connect, url: str) -> None:
    client = connect()
    with pytest.raises(InvalidInput) as caught:
        await client.check_url(url, "webhook_url")
    assert caught.value.field == "webhook_url"
    assert "secret" not in caught.value.detail
    await refusal(client, url)


async def test_private_and_unknown_names_cannot_be_told_apart(connect: Connect) -> None:
    client = connect()
    assert await refusal(client, "http://localhost/") == await refusal(client, "http://nothing.invalid/")


async def test_public_addresses_pass_the_check(connect: Connect) -> None:
    await connect().check_url("https://1.1.1.1/hook?x=1", "webhook_url")
    await connect().check_url("https://[2606:4700:4700::1111]:8443/hook", "webhook_url")
    await connect("localhost").check_url("http://localhost:9/hook", "webhook_url")


@pytest.mark.parametrize(
    ("status", "away"),
    [(404, True), (403, True), (410, True), (400, False), (401, False), (408, True), (429, True), (500, True)],
)
async def test_a_server_that_is_unwell_may_have_the_file_later(
    serve: Serve, connect: Connect, status: int, away: bool
) -> None:
    host = await serve(Site(lambda request: web.Response(status=status)))
    with pytest.raises(InvalidInput, match=f"answered {status}") as caught:
        await connect(host).fetch(f"http://{host}/", max_bytes=9, field="image_url")
    assert isinstance(caught.value, FileAway) is away


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_private_place_is_not_followed(serve: Serve, connect: Connect, status: int) -> None:
    secret = Site(lambda request: web.Response(body=b"secret"))
    private = await serve(secret)
    port = private.rpartition(":")[2]
    for location in (f"http://{private}/", f"http://localhost:{port}/", f"//0x7f000001:{port}/", "file:///etc/passwd"):
        host = await serve(Site(redirect_to(location, status)))
        await refusal(connect(host), f"http://{host}/")
    assert secret.requests == []


async def test_redirects_are_followed_within_reason(serve: Serve, connect: Connect) -> None:
    def count_down(request: web.Request) -> web.StreamResponse:
        left = int(request.path.strip("/"))
        return redirect_to(f"../{left - 1}")(request) if left else web.Response(body=b"arrived")

    site = Site(count_down)
    host = await serve(site)
    client = connect(host)
    assert (await client.fetch(f"http://{host}/5", max_bytes=99, field="image_url")).body == b"arrived"
    assert "redirects" in await refusal(client, f"http://{host}/6")
    assert len(site.requests) == 6 + 6


async def test_a_redirect_loop_ends(serve: Serve, connect: Connect) -> None:
    site = Site(redirect_to("/again"))
    host = await serve(site)
    assert "redirects" in await refusal(connect(host), f"http://{host}/")
    assert len(site.requests) == 6


@pytest.mark.parametrize("location", ["http://[broken", "http://a b/", "mailto:a@b"])
async def test_a_redirect_to_nonsense_is_refused(serve: Serve, connect: Connect, location: str) -> None:
    host = await serve(Site(redirect_to(location)))
    await refusal(connect(host), f"http://{host}/")


async def test_cookies_are_not_kept(serve: Serve, connect: Connect) -> None:
    def answer(request: web.Request) -> web.StreamResponse:
        response = web.Response(status=302 if request.path == "/" else 200, headers={"Location": "/next"})
        response.set_cookie("session", "1")
        return response

    site = Site(answer)
    host = await serve(site)
    client = connect(host)
    await client.fetch(f"http://{host}/", max_bytes=99, field="image_url")
    await client.fetch(f"http://{host}/", max_bytes=99, field="image_url")
    assert [dict(request.cookies) for request in site.requests] == [{}, {}, {}, {}]


async def test_a_proxy_from_the_environment_is_not_used(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Site(lambda request: web.Response(body=b"from the proxy"))
    site = Site(lambda request: web.Response(body=b"from the site"))
    proxy_host, host = await serve(proxy), await serve(site)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{proxy_host}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fetched = await connect(host).fetch(f"http://{host}/", max_bytes=99, field="image_url")
    assert fetched.body == b"from the site"
    assert proxy.requests == []


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 404, 500, 503])
async def test_only_200_is_a_file(serve: Serve, connect: Connect, status: int) -> None:
    host = await serve(Site(lambda request: web.Response(status=status)))
    assert str(status) in await refusal(connect(host), f"http://{host}/")


async def test_the_answer_of_an_error_is_not_told(serve: Serve, connect: Connect) -> None:
    host = await serve(Site(lambda request: web.Response(status=500, text="internal secret", reason="secret reason")))
    assert "secret" not in await refusal(connect(host), f"http://{host}/")


async def test_a_body_that_is_announced_too_large_is_not_read(serve: Serve, connect: Connect) -> None:
    sent = 0

    async def large(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(10**9)})
        await response.prepare(request)
        await response.write(b"x" * 500)
        sent += 500
        await asyncio.sleep(NEVER)
        return response

    host = await serve(large)
    assert "larger than 1000" in await refusal(connect(host), f"http://{host}/")
    assert sent <= 500


async def test_an_endless_body_is_cut_off(serve: Serve, connect: Connect) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    host = await serve(endless)
    assert "larger than 1000000" in await refusal(connect(host), f"http://{host}/", max_bytes=1_000_000)
    assert sent < 50_000_000


async def test_a_compressed_body_is_refused(serve: Serve, connect: Connect) -> None:
    def squeeze(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=b"\0" * 10_000_000)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    host = await serve(Site(squeeze))
    assert "compresses" in await refusal(connect(host), f"http://{host}/", max_bytes=1_000_000)


async def test_a_slow_body_meets_the_deadline(serve: Serve, connect: Connect) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    host = await serve(drip)
    assert "too long" in await refusal(connect(host, timeout=0.5), f"http://{host}/")


async def test_one_deadline_spans_all_redirects(serve: Serve, connect: Connect) -> None:
    async def stall(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return web.Response(status=302, headers={"Location": "/again"})

    host = await serve(stall)
    assert "too long" in await refusal(connect(host, timeout=0.7), f"http://{host}/")


async def test_a_body_that_breaks_off_is_refused(serve: Serve, connect: Connect) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "900"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return response

    host = await serve(break_off)
    assert "connection failed" in await refusal(connect(host), f"http://{host}/")


async def test_nobody_listens(connect: Connect) -> None:
    # It has the port, so that nobody else gets it, and takes no connections.
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        client = connect(host)
        assert "connection failed" in await refusal(client, f"http://{host}/")
        with pytest.raises(Unavailable) as caught:
            await client.post(f"http://{host}/", b"{}", {})
    assert "127.0.0.1" not in caught.value.detail


async def test_a_post_arrives_whole(serve: Serve, connect: Connect) -> None:
    received: list[tuple[bytes, str]] = []

    async def receive(request: web.Request) -> web.StreamResponse:
        received.append((await request.read(), request.headers["webhook-id"]))
        return web.Response(status=202, body=b"th\0anks \xff" + b"." * 5000)

    host = await serve(receive)
    result = await connect(host).post(f"http://{host}/hook", b'{"a": 1}', {"webhook-id": "msg_1"})
    assert received == [(b'{"a": 1}', "msg_1")]
    assert result.status == 202
    assert result.body_start.startswith("th\ufffdanks \ufffd...")
    assert len(result.body_start) == 1024


async def test_a_post_follows_no_redirect(serve: Serve, connect: Connect) -> None:
    target = Site(lambda request: web.Response())
    host = await serve(target)
    first = await serve(Site(redirect_to(f"http://{host}/", 307)))
    result = await connect(host, first).post(f"http://{first}/", b"{}", {})
    assert result.status == 307
    assert target.requests == []


async def test_a_post_meets_its_own_deadline(serve: Serve, connect: Connect) -> None:
    async def stall(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(NEVER)
        return web.Response()

    host = await serve(stall)
    with pytest.raises(Unavailable, match="too long"):
        await connect(host, timeout=PATIENCE).post(f"http://{host}/", b"{}", {}, timeout=0.3)


async def test_a_post_to_an_unknown_name_may_work_later(connect: Connect) -> None:
    with pytest.raises(Unavailable):
        await connect().post("http://nothing.invalid/hook", b"{}", {})


async def test_a_client_that_was_never_used_closes() -> None:
    async with GuardedClient() as client:
        assert isinstance(client, GuardedClient)


async def test_a_name_that_is_unknown_may_be_known_later_and_a_private_one_may_not(connect: Connect) -> None:
    with pytest.raises(InvalidInput, match="does not resolve") as caught:
        await connect().fetch("http://nobody.invalid/", max_bytes=9, field="image_url")
    assert isinstance(caught.value, FileAway)
    with pytest.raises(InvalidInput, match="does not resolve") as caught:
        await connect().fetch("http://localhost/", max_bytes=9, field="image_url")
    assert not isinstance(caught.value, FileAway)
