"""Requests as bytes on a socket: what no client library would send."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """`headers` have lower-case names; `body` is as it came, chunks included."""

    status: int
    headers: dict[str, str]
    body: bytes


async def send(base_url: str, request: bytes, seconds: float = 30) -> Answer | None:
    """The answer to a request that ends its connection; None if the server closed it without one."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(seconds):
            head = await _head(reader)
            if head is None:
                return None
            status, headers = head
            if status == 100:
                head = await _head(reader)
                assert head is not None
                status, headers = head
            return Answer(status, headers, await _body(reader, headers))
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]] | None:
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = text.strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """As much as arrives before the server waits for the next request."""
    if (length := headers.get("content-length")) is not None:
        try:
            return await asyncio.wait_for(reader.readexactly(int(length)), 1)
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            return getattr(error, "partial", b"")
    try:
        return await asyncio.wait_for(reader.read(), 0.5)
    except TimeoutError:
        return b""
