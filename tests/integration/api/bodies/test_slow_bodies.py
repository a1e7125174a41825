"""Bodies that come drop by drop, at a server of our own: who is cut off, and who is not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from compute.api.bodies.patience import DRAINED_BYTES, BodyPatience
from tests.patience import PATIENCE
from tests.servers import until_started

SECONDS = 1.0
RATE = 1000.0


async def reads(request: Request) -> Response:
    return JSONResponse(len(await request.body()))


async def refuses(_: Request) -> Response:
    return JSONResponse("refused", 401)


@asynccontextmanager
async def connection(seconds: float = SECONDS) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """To a server with routes that read a body and that refuse one unread."""
    patience = Middleware(BodyPatience, seconds=seconds, bytes_per_second=RATE)
    routes = [Route("/reads", reads, methods=["POST"]), Route("/refuses", refuses, methods=["POST"])]
    app = Starlette(routes=routes, middleware=[patience])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    running = asyncio.create_task(server.serve())
    await until_started(server, running)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await running


def head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end of the connection, which may come as a reset."""
    told = b""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(1000):
                told += piece
    return told


@pytest.mark.parametrize("first", [b"", b"x" * 100])
async def test_a_body_that_stops_is_refused(first: bytes) -> None:
    async with connection() as (reader, writer):
        writer.write(head("/reads", 100_000) + first)
        assert (await answer(reader)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(("path", "status"), [("/reads", b"408"), ("/refuses", b"401")])
async def test_a_body_in_drops_ends_the_connection(path: str, status: bytes) -> None:
    async with connection() as (reader, writer):
        writer.write(head(path, 100_000))
        dripping = asyncio.create_task(drip(writer))
        assert (await answer(reader)).startswith(b"HTTP/1.1 " + status)
        dripping.cancel()


async def test_a_body_that_makes_progress_takes_the_time_it_needs() -> None:
    async with asyncio.timeout(PATIENCE):
        held_up = SECONDS
        # One whose sender was held up made no progress.
        while held_up > SECONDS / 4:
            told, held_up = await steady_body()
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"\r\n\r\n4800" in told


async def steady_body() -> tuple[bytes, float]:
    """What is told to one who sends a body piece by piece, and the longest time for which this process did nothing."""
    pieces, size, longest = 12, 400, 0.0

    async def tick() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            slept_at = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - slept_at)

    ticking = asyncio.create_task(tick())
    async with connection() as (reader, writer):
        writer.write(head("/reads", pieces * size))
        for _ in range(pieces):
            # Twice as long altogether as a body without progress may take.
            await asyncio.sleep(2 * SECONDS / pieces)
            writer.write(b"x" * size)
        writer.write(head("/refuses", 0))
        told = b""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            told = await reader.readuntil(b'"refused"')
    ticking.cancel()
    return told, longest


async def test_who_sends_all_before_listening_hears_the_refusal_and_keeps_the_connection() -> None:
    size = 8 * 2**20
    async with connection(PATIENCE) as (reader, writer):
        for _ in range(2):
            writer.write(head("/refuses", size))
            writer.write(b"x" * size)
            await writer.drain()
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readuntil(b'"refused"')).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("path", "status"), [("/reads", b"408"), ("/refuses", b"401")])
async def test_who_was_quick_at_first_has_no_time_to_spare_for_it(path: str, status: bytes) -> None:
    first = b"x" * 4 * 2**20
    async with connection() as (reader, writer):
        writer.write(head(path, len(first) + 1) + first)
        # At a thousand bytes a second that would be an hour.
        assert (await answer(reader)).startswith(b"HTTP/1.1 " + status)


async def test_what_nobody_wants_is_not_read_without_end() -> None:
    async with connection() as (reader, writer):
        writer.write(b"POST /refuses HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 4 * DRAINED_BYTES:
                writer.write(piece)
                await writer.drain()
                sent += 2**20
        assert sent < 4 * DRAINED_BYTES
        assert (await answer(reader))[:13] in (b"", b"HTTP/1.1 401 ")
