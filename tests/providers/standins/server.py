"""The common part of the stand-ins: HTTP servers on loopback, a log of what arrived, and a script of faults.

A stand-in is one vendor. It may have several hosts (API, storage, files), each on a port of its own. Everything that
arrives is logged before it is answered, so that a test counts what a vendor would have seen and charged for.
"""

import asyncio
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import ClassVar, Self
from uuid import uuid4

from aiohttp import web

from tests.patience import PATIENCE
from tests.providers.standins.exchange import Arrival, Reply, Reset, Route, Trouble, answer

__all__ = ["TRAP", "Call", "Clock", "Fault", "Script", "StandIn"]

TRAP = "trap"
"""The host that nobody may be led to. It listens on another address of loopback than the vendors do."""
_OF_OUR_TRACES = {"traceparent", "tracestate", "baggage"}
"""Headers that nobody elsewhere may get: they tell what belongs together here. A stand-in that gets one is broken."""
_MOST_BYTES = 1 << 30
_MOST_WAITING = 1024
"""Connections that wait to be accepted."""


@dataclass(frozen=True)
class Call:
    """A request that a fault is played on."""

    stand_in: "StandIn"
    arrival: Arrival
    read: Callable[[], Awaitable[bytes]]
    answer: Callable[[], Awaitable[Reply]]
    """Read the request and do what the vendor does with it: the answer."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one request."""

    name: str
    play: Callable[[Call], Awaitable[Reply]]

    def __str__(self) -> str:
        return self.name


class Script:
    """The faults to play, by route and call; `played` lists those that were."""

    def __init__(self) -> None:
        self._once: dict[str, dict[int, Fault]] = defaultdict(dict)
        self._always: dict[str, Fault] = {}
        self._seen: Counter[str] = Counter()
        self.played: list[tuple[str, int, str]] = []
        """Route, number of the call and name of the fault."""

    def on(self, route: str, *faults: Fault, call: int | None = None) -> None:
        """Play these on successive calls of a route, from the `call`th of all on; None: from the next free one on."""
        planned = self._once[route]
        first = call or max([self._seen[route], *planned]) + 1
        planned.update(enumerate(faults, first))

    def after(self, route: str, calls: int, fault: Fault) -> None:
        """Play it once, after so many more calls of a route."""
        self._once[route][self._seen[route] + calls + 1] = fault

    def always(self, route: str, fault: Fault) -> None:
        """Play it on every call of a route that no other fault is set for."""
        self._always[route] = fault

    def clear(self) -> None:
        """Play nothing more."""
        self._once.clear()
        self._always.clear()

    def take(self, route: str) -> tuple[int, Fault | None]:
        """Count a call; its number and its fault."""
        self._seen[route] += 1
        number = self._seen[route]
        fault = self._once[route].pop(number, None) or self._always.get(route)
        if fault is not None:
            self.played.append((route, number, fault.name))
        return number, fault


class Clock:
    """The time of day, which a test can advance."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class StandIn(ABC):
    """A vendor on loopback, running inside `async with`.

    Args:
        key: the only key or token that it accepts.
    """

    hosts: ClassVar[tuple[str, ...]] = ("api",)
    id_header: ClassVar[str] = ""
    """The header with the vendor's id of a request, on every answer that is the vendor's own."""

    def __init__(self, key: str = "test-key") -> None:
        self.key = key
        self.clock = Clock()
        self.faults = Script()
        self.arrivals: list[Arrival] = []
        self.seconds = 0.0
        """How long a paid call takes before it is answered."""
        self.hanging = 0
        """Requests that are being held at the moment."""
        self._urls: dict[str, str] = {}
        self._runners: list[web.AppRunner] = []
        self._closing = asyncio.Event()
        self._waiting: set[asyncio.Future[None]] = set()
        self._broken: Exception | None = None

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """The routes that it answers. The first match counts."""

    @abstractmethod
    def authorised(self, arrival: Arrival) -> bool:
        """Whether the request carries the key as this vendor wants it."""

    @abstractmethod
    def error(self, trouble: Trouble, message: str = "") -> Reply:
        """The answer in which the vendor says so."""

    def stream_error(self) -> bytes:
        """The last part of a stream that the vendor cannot finish."""
        raise NotImplementedError(f"{type(self).__name__} has no streams that end in an error")

    # Where it is, and what it saw.

    def url(self, host: str = "") -> str:
        """The address of a host, the first one by default, without a slash at its end."""
        return self._urls[host or self.hosts[0]]

    def arrived(self, route: str) -> list[Arrival]:
        return [one for one in self.arrivals if one.route == route]

    @property
    def paid(self) -> list[Arrival]:
        """Paid requests that were read to their end, the ones that were refused afterwards included."""
        return [one for one in self.arrivals if one.paid and one.body is not None]

    @property
    def submits(self) -> int:
        return len(self.paid)

    def submits_by_path(self) -> Counter[str]:
        return Counter(one.path for one in self.paid)

    def submits_by_body(self) -> Counter[bytes]:
        return Counter(one.body or b"" for one in self.paid)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; looked at whenever something arrives, hangs or moves here."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._raise_broken()
                waiter = asyncio.get_running_loop().create_future()
                self._waiting.add(waiter)
                await waiter

    def changed(self) -> None:
        """Let those that wait in `until` look again."""
        waiting, self._waiting = self._waiting, set()
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def broke(self, error: Exception) -> None:
        """Note an error in the stand-in itself. `until` raises it, and so does the end of `async with`."""
        self._broken = error
        self.changed()

    def _raise_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    async def hold(self, gate: asyncio.Event) -> None:
        """Hold the request until the gate opens or its client goes."""
        self.hanging += 1
        self.changed()
        try:
            await gate.wait()
        finally:
            self.hanging -= 1
            self.changed()

    async def hang(self) -> None:
        """Hold the request until its client goes or the stand-in closes."""
        await self.hold(self._closing)
        raise Reset

    # Serving.

    async def __aenter__(self) -> Self:
        routes = list(self.routes())
        for host in self.hosts:
            await self._listen(host, "127.0.0.1", [one for one in routes if one.host == host])
        await self._listen(TRAP, "127.0.0.2", [Route(TRAP, "*", "/{path:.*}", self._trapped, TRAP, open=True)])
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing.set()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        self._raise_broken()

    async def _listen(self, host: str, address: str, routes: Sequence[Route]) -> None:
        app = web.Application(client_max_size=_MOST_BYTES)
        for route in routes:
            app.router.add_route(route.method, route.path, self._serving(route))
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, address, 0, backlog=_MOST_WAITING).start()
        self._urls[host] = f"http://{address}:{runner.addresses[0][1]}"

    def _serving(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            number, fault = self.faults.take(route.name)
            arrival = _arrival(route, number, request)
            self.arrivals.append(arrival)
            self.changed()
            if told := _OF_OUR_TRACES & {name.lower() for name in arrival.headers}:
                self.broke(AssertionError(f"{type(self).__name__} was told of our traces, in {sorted(told)}"))
            try:
                call = self._call(route, arrival, request)
                reply = await (call.answer() if fault is None else fault.play(call))
                return await _write(request, reply)
            except Reset:
                _reset(request)
                return web.Response()
            except ConnectionError:
                raise  # The client has gone.
            except Exception as error:
                self.broke(error)
                raise

        return serve

    def _call(self, route: Route, arrival: Arrival, request: web.Request) -> Call:
        async def read() -> bytes:
            if arrival.body is None:
                arrival.body = await request.read()
                self.changed()
            return arrival.body

        async def answered() -> Reply:
            await read()
            if not route.open and not self.authorised(arrival):
                return self.stamped(self.error(Trouble.UNAUTHORIZED))
            if route.paid and self.seconds:
                await asyncio.sleep(self.seconds)
            return self.stamped(await route.handler(arrival))

        return Call(self, arrival, read, answered)

    def stamped(self, reply: Reply) -> Reply:
        """The same with the headers of all the vendor's answers."""
        if not self.id_header or self.id_header in reply.headers:
            return reply
        return replace(reply, headers={**reply.headers, self.id_header: f"req_{uuid4().hex}"})

    async def _trapped(self, arrival: Arrival) -> Reply:
        return answer({"secret": "of the internal network"})


def _arrival(route: Route, number: int, request: web.Request) -> Arrival:
    parts = dict(request.match_info)
    return Arrival(
        route.name, number, route.host, request.method, request.path, parts, request.query, request.headers, route.paid
    )


async def _write(request: web.Request, reply: Reply) -> web.StreamResponse:
    if isinstance(reply.body, bytes):
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = reply.length
    await response.prepare(request)
    async with aclosing(reply.body) as parts:
        async for part in parts:
            await response.write(part)
    await response.write_eof()
    return response


def _reset(request: web.Request) -> None:
    """Close so that the other side reads "connection reset" and not an end."""
    if request.transport is not None:
        raw = request.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
