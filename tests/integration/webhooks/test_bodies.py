"""The status of a receiver's answer decides, whatever its body does: a raw socket answers in every bad way."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from compute.db.session import Database
from tests.integration.webhooks.receiver import attempts, enqueue, sending, until_status
from tests.patience import PATIENCE

OK = b"HTTP/1.1 200 OK\r\n"


class RawReceiver:
    """Reads a request, writes `answer` as it is, then closes, resets, or says nothing more."""

    def __init__(self, answer: bytes, then: str) -> None:
        self.requests = 0
        self._answer = answer
        self._then = then

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        writer.write(self._answer)
        await writer.drain()
        if self._then == "hang":
            # Until the other side hangs up.
            while await reader.read(1024):
                pass
        if self._then == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()


@asynccontextmanager
async def raw(answer: bytes, then: str = "close") -> AsyncIterator[tuple[RawReceiver, str]]:
    receiver = RawReceiver(answer, then)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    try:
        yield receiver, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (OK + b"Content-Length: 100\r\n\r\nabc", "close"),
        (OK + b"Content-Length: 100\r\n\r\nabc", "reset"),
        (OK + b"Content-Length: 100\r\n\r\nabc", "hang"),
        (OK + b"Content-Length: 100\r\n\r\n", "hang"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", "hang"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzzzz\r\nabc", "close"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n", "close"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "close"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nab", "hang"),
        (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", "close"),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "close"),
        (OK + b"Content-Encoding: br, nonsense\r\n\r\n\xff\xfe\x00", "close"),
        (OK + b"Content-Type: text/html; charset=nonsense\r\n\r\n\xff\xfe\x00", "close"),
        (OK + b"\r\n" + b"x" * 3_000_000, "hang"),
        (OK + b"Content-Length: 0\r\n\r\nthis is junk", "close"),
        (b"HTTP/1.1 204 No Content\r\n\r\nthis is junk", "close"),
        (b"HTTP/1.1 202\r\nContent-Length: 2\r\n\r\n", "close"),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", "close"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 7\r\n\r\n", "close"),
    ],
)
async def test_a_2xx_is_delivered_once(database: Database, answer: bytes, then: str) -> None:
    async with raw(answer, then) as (receiver, url), sending(database, timeout_seconds=PATIENCE):
        [sent] = await enqueue(database, url)
        row = await until_status(database, sent, "DELIVERED")
    assert receiver.requests == row.attempts == 1
    [attempt] = await attempts(database, sent)
    assert attempt.error is None
    # Of a reply in two parts the last one counts.
    assert attempt.status_code == int(re.findall(rb"HTTP/1\.[01] (\d{3})", answer)[-1])


@pytest.mark.parametrize(
    ("answer", "then", "status"),
    [
        (b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nabc", "close", 500),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 9\r\n\r\n", "hang", 302),
        (b"HTTP/1.1 503 No\r\nRetry-After: \xff\xfe999999999999999999999\r\n\r\n", "close", 503),
        (b"HTTP/1.1 429 No\r\nRetry-After: Sat, 99 Foo 99999999999999999999 00:00:00 GMT\r\n\r\n", "close", 429),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "close", None),
        (b"hello world", "close", None),
        (b"", "close", None),
        (b"HTTP/1.1 2", "close", None),
        (OK + b"Content-Le", "close", None),
        (OK + b"Content-Le", "hang", None),
        (b"HTTP/1.1 99999 OK\r\n\r\n", "close", None),
    ],
)
async def test_anything_else_is_a_failure(database: Database, answer: bytes, then: str, status: int | None) -> None:
    # Only what never answers runs into it.
    timeout = 0.5 if (then, status) == ("hang", None) else PATIENCE
    async with raw(answer, then) as (receiver, url), sending(database, max_attempts=2, timeout_seconds=timeout):
        [sent] = await enqueue(database, url)
        await until_status(database, sent, "FAILED")
    # Where the time is short it may be over before a request has arrived.
    assert receiver.requests == 2 or timeout < PATIENCE
    assert [one.status_code for one in await attempts(database, sent)] == [status] * 2


async def test_a_connection_is_used_again(database: Database) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while head := await _head(reader):
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(OK + b"Content-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with sending(database):
        for _ in range(3):
            [sent] = await enqueue(database, url)
            await until_status(database, sent, "DELIVERED")
    server.close()
    assert connections == 1


async def test_a_kept_connection_that_was_closed_costs_no_attempt(database: Database) -> None:
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the first request of a connection, and hangs up when the second one comes."""
        nonlocal requests
        for _ in range(2):
            length = re.search(rb"content-length: (\d+)", (await _head(reader)).lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
            requests += 1
            if requests % 2 == 0:
                break
            writer.write(OK + b"Content-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with sending(database):
        for _ in range(2):
            [sent] = await enqueue(database, url)
            await until_status(database, sent, "DELIVERED")
            assert [one.status_code for one in await attempts(database, sent)] == [200]
    server.close()
    assert requests == 3


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
