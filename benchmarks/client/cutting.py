"""A TCP proxy on loopback that resets connections at every point of a request and of its answer."""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Cut", "CuttingProxy", "Plan", "streams_cut", "submits_cut"]

_CHUNK = 65536


class Cut(StrEnum):
    """Where a connection is reset."""

    BEFORE_REQUEST = "before the request"
    MID_REQUEST = "in the middle of the request"
    AFTER_REQUEST = "after the request, which was carried out"
    MID_ANSWER = "in the middle of the answer"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one connection.

    Attributes:
        cut: Where it is reset; None: never.
        turn: In which of its requests, from 0.
        passed: How many bytes of the answer get through, for MID_ANSWER.
    """

    cut: Cut | None
    turn: int = 0
    passed: int = 40


def submits_cut(seed: int, number: int, *, turns: int = 3) -> Iterator[Plan]:
    """Plans that cut `number` connections, each at another point, in one of their first requests."""
    chance = random.Random(seed)
    for index in range(number):
        yield Plan(list(Cut)[index % len(Cut)], chance.randrange(turns), chance.randrange(1, 200))


def streams_cut(seed: int, number: int) -> Iterator[Plan]:
    """Plans that cut `number` streams, each after some bytes: between two events or in one."""
    chance = random.Random(seed)
    for _ in range(number):
        yield Plan(Cut.MID_ANSWER, 0, chance.randrange(1, 900))


@dataclass
class CuttingProxy:
    """Passes bytes on to a server, and cuts connections by plan; behind the last plan none is cut.

    Attributes:
        cuts: How many connections were cut, by where.
        open: How many are open now.
    """

    to: tuple[str, int]
    plans: Iterator[Plan]
    cuts: Counter[Cut] = field(default_factory=Counter)
    open: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["CuttingProxy"]:
        """Serve until the end of the block."""
        work: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            work.add(task)
            self.open += 1
            try:
                with suppress(asyncio.CancelledError):
                    await self._serve(reader, writer)
            finally:
                self.open -= 1
                work.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(work):
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self.to)
        link = _Link(next(self.plans, Plan(None)), reader, writer, from_server, to_server)
        try:
            asking, answering = asyncio.create_task(link.ask()), asyncio.create_task(link.answer())
            done, pending = await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
            if asking in done and not link.is_cut and not asking.exception():
                # The client has nothing more to say; the server may.
                await asyncio.wait({answering}, timeout=0.2)
            for one in pending:
                one.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        finally:
            if link.is_cut and link.plan.cut is not None:
                self.cuts[link.plan.cut] += 1
            _reset(writer)
            to_server.transport.abort()


class _Link:
    """One connection: turns are counted by who speaks after whom."""

    def __init__(
        self,
        plan: Plan,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self.plan = plan
        self.is_cut = False
        self._client, self._to_client, self._server, self._to_server = client, to_client, server, to_server
        self._turn = -1
        self._answered = True
        self._passed = 0

    async def ask(self) -> None:
        """Pass on what the client says."""
        while data := await _read(self._client):
            if self._answered:
                self._turn, self._answered, self._passed = self._turn + 1, False, 0
            if self._now(Cut.BEFORE_REQUEST):
                return
            if self._now(Cut.MID_REQUEST):
                self._to_server.write(data[: len(data) // 2])
                await self._to_server.drain()
                return
            self._to_server.write(data)
            await self._to_server.drain()

    async def answer(self) -> None:
        """Pass on what the server says."""
        while data := await _read(self._server):
            self._answered = True
            if self._now(Cut.AFTER_REQUEST):
                return
            left = self.plan.passed - self._passed
            if self.plan.cut is Cut.MID_ANSWER and self._turn == self.plan.turn and left < len(data):
                self._to_client.write(data[: max(0, left)])
                await self._to_client.drain()
                # Written bytes are lost by a reset that follows at once.
                await asyncio.sleep(0.002)
                self.is_cut = True
                return
            self._passed += len(data)
            self._to_client.write(data)
            await self._to_client.drain()

    def _now(self, cut: Cut) -> bool:
        self.is_cut = self.is_cut or (self.plan.cut is cut and self.plan.turn == self._turn)
        return self.is_cut


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Some bytes; none at the end, however it came."""
    try:
        return await reader.read(_CHUNK)
    except ConnectionError:
        return b""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, not in good order."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
