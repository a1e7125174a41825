"""A client that keeps an API busy, in a process of its own.

It implements only the HTTP needed to send the same request repeatedly, so that its own cost on a machine of few cores
does not hide that of the servers.
"""

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.harness import as_nice_as_ray, median
from benchmarks.stack import KEY

__all__ = ["Client", "Load", "Request", "client"]

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and the status of a successful answer."""

    method: str
    path: str
    status: int
    body: Any = None
    key: str = KEY

    def encoded(self, host: str) -> bytes:
        body = b"" if self.body is None else json.dumps(self.body).encode()
        head = [
            f"{self.method} {self.path} HTTP/1.1",
            f"Host: {host}",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(head).encode() + _END_OF_HEAD + body


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a run: requests per second, and the time of one in milliseconds."""

    per_second: float
    median: float
    percentile99: float


@dataclass(frozen=True, slots=True)
class Client:
    """A process that sends requests."""

    _process: ProcessPoolExecutor

    def send(self, url: str, request: Request, *, count: int, connections: int) -> Load:
        """Send `count` requests over `connections` keep-alive connections, each sending once it was answered.

        Raises:
            RuntimeError: an answer had another status.
        """
        return self._process.submit(_send, url, request, max(count, connections), connections).result()


@contextmanager
def client() -> Iterator[Client]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), as_nice_as_ray) as process:
        yield Client(process)


class _Connection(asyncio.Protocol):
    """Sends `count` times; `seconds` are the times until each answer was complete."""

    def __init__(self, request: bytes, status: int, count: int) -> None:
        self._request = request
        self._status = b" %d " % status
        self._left = count
        self._received = b""
        self._sent = 0.0
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not _complete(self._received):
            return
        self.seconds.append(time.perf_counter() - self._sent)
        if self._status not in self._received[:16]:
            self._end(RuntimeError(f"answered {self._received[:500].decode(errors='replace')}"))
            return
        self._received = b""
        self._left -= 1
        if self._left:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or RuntimeError("the connection was closed before its last answer"))

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self._transport.close()


def _complete(received: bytes) -> bool:
    """Return whether the whole answer has arrived; our answers have a length or are chunked."""
    end = received.find(_END_OF_HEAD)
    if end < 0:
        return False
    head = received[:end].lower()
    start = head.find(_LENGTH)
    if start < 0:
        return received.endswith(b"0" + _END_OF_HEAD)
    return len(received) >= end + len(_END_OF_HEAD) + int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0])


def _send(url: str, request: Request, count: int, connections: int) -> Load:
    return uvloop.run(_send_all(url, request, count, connections))


async def _send_all(url: str, request: Request, count: int, connections: int) -> Load:
    # Open every connection of the server to its database before the clock starts.
    await _send_over(url, request, [1] * connections)
    began = time.perf_counter()
    shares = [count // connections + (index < count % connections) for index in range(connections)]
    seconds = sorted(await _send_over(url, request, shares))
    took = time.perf_counter() - began
    return Load(count / took, median(seconds) * 1000, seconds[int(len(seconds) * 0.99)] * 1000)


async def _send_over(url: str, request: Request, shares: Sequence[int]) -> list[float]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    encoded = request.encoded(parts.netloc)
    loop = asyncio.get_running_loop()
    opened = await asyncio.gather(
        *(
            loop.create_connection(partial(_Connection, encoded, request.status, share), parts.hostname, parts.port)
            for share in shares
        )
    )
    connections = [connection for _, connection in opened]
    await asyncio.gather(*(connection.done for connection in connections))
    return [second for connection in connections for second in connection.seconds]
