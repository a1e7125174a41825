"""A client that keeps an API busy, in a process of its own."""

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.harness import as_nice_as_ray, median
from benchmarks.stack import KEY, TASKS

__all__ = ["Client", "Load", "client"]


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of POSTs came to; `milliseconds` is the median of one request."""

    per_second: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Client:
    """A process that sends what it is told to."""

    _process: ProcessPoolExecutor

    def post(self, url: str, body: Mapping[str, Any], *, count: int, connections: int) -> Load:
        """POST `body` `count` times over `connections` keep-alive connections, each sending once it was answered.

        Raises:
            RuntimeError: an answer was not 201.
        """
        encoded = json.dumps(body).encode()
        return self._process.submit(_post_tasks, url + TASKS, encoded, count, connections).result()


@contextmanager
def client() -> Iterator[Client]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), as_nice_as_ray) as process:
        yield Client(process)


def _post_tasks(url: str, body: bytes, count: int, connections: int) -> Load:
    return asyncio.run(_post_all(url, body, count, connections))


async def _post_all(url: str, body: bytes, count: int, connections: int) -> Load:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        # Opens every connection, here and from the server to its database.
        await asyncio.gather(*(_post(session, url, body) for _ in range(connections)))
        began = time.perf_counter()
        shares = [count // connections + (index < count % connections) for index in range(connections)]
        seconds = await asyncio.gather(*(_post_in_turn(session, url, body, share) for share in shares))
        took = time.perf_counter() - began
    return Load(count / took, median([second for share in seconds for second in share]) * 1000)


async def _post_in_turn(session: aiohttp.ClientSession, url: str, body: bytes, count: int) -> list[float]:
    return [await _post(session, url, body) for _ in range(count)]


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> float:
    began = time.perf_counter()
    async with session.post(url, data=body) as answer:
        text = await answer.text()
        if answer.status != 201:
            raise RuntimeError(f"{url} answered {answer.status}: {text[:500]}")
    return time.perf_counter() - began
