"""Requests as bytes on a socket: what no client library would send."""

import asyncio
import contextlib
from dataclasses import dataclass

from tests.patience import PATIENCE


@dataclass(frozen=True)
class Answer:
    """`headers` have lower-case names; `body` is as it came, chunks included."""

    status: int
    headers: dict[str, str]
    body: bytes


async def send(base_url: str, request: bytes) -> Answer | None:
    """The answer to a request after which the server closes; None if it closes without one."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            received = await reader.read()
    except ConnectionError:
        return None
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not received:
        return None
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body)


def request(method: str, path: str, *lines: bytes, body: bytes = b"", version: str = "1.1") -> bytes:
    """A request with these header lines, to be closed after its answer."""
    head = [f"{method} {path} HTTP/{version}".encode(), *lines, b"Connection: close"]
    return b"\r\n".join(head) + b"\r\n\r\n" + body
