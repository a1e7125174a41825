"""Other clients in their default settings, before a stand-in of their vendors that counts what they make.

The packages of fal and Replicate are in the extra `bench`; what is missing is said and left out. The stand-in has the
routes and the forms of answers that the clients document; none was tried against a real service.
"""

import asyncio
import importlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from benchmarks.client.cutting import CuttingProxy, Plan, streams_cut

__all__ = ["PEERS", "Peer", "PeerCount", "count_peer"]

_EVENTS = 20
"""Events of each stream."""
_PACE = 0.01
_NEW = "2026-01-01T00:00:00.000Z"
_PATIENCE = 60.0
_AT_ONCE = 40


@dataclass(frozen=True, slots=True)
class Peer:
    """A client of another vendor.

    Attributes:
        submit: Submits one thing, whose text is given, to a server.
        follow: Yields the numbers of the events of one stream; None: the client has no stream that can be compared.
    """

    name: str
    package: str
    submit: Callable[[str, str], Awaitable[object]]
    follow: Callable[[str], AsyncIterator[int]] | None = None


@dataclass(frozen=True, slots=True)
class PeerCount:
    """What came of submits and streams of one client."""

    name: str
    asked: int
    told: int
    made: int
    distinct: int
    cuts: int
    streams: int = 0
    events: int = 0
    lost: int = 0
    repeated: int = 0


@dataclass(slots=True)
class _StandIn:
    """Answers POSTs of all three, and streams numbers; `made` counts what was asked for, by its text."""

    made: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return await _stream(request, "data: %s\n\n")
        body = await request.json()
        if body.get("stream"):
            return await _stream(request, "data: " + _chunk() + "\n\n")
        text = json.dumps(body, sort_keys=True)
        self.made[text] += 1
        number = str(self.made.total())
        if request.path.startswith("/v1/predictions"):
            return web.json_response(_prediction(number, f"{request.scheme}://{request.host}"), status=201)
        if request.path.endswith("/chat/completions"):
            return web.json_response(_completion(number))
        at = f"{request.scheme}://{request.host}{request.path}/requests/{number}"
        urls = {"response_url": at, "status_url": f"{at}/status", "cancel_url": f"{at}/cancel"}
        return web.json_response({"request_id": number, "status": "IN_QUEUE", "queue_position": 0} | urls)


async def _stream(request: web.Request, form: str) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    with suppress(ConnectionError):
        for number in range(_EVENTS):
            await answer.write(f"id: {number}\nevent: output\n{form % number}".encode())
            await asyncio.sleep(_PACE)
        await answer.write(b"event: done\ndata: [DONE]\n\n")
    return answer


def _chunk() -> str:
    choice = {"index": 0, "delta": {"content": "%s"}, "finish_reason": None}
    return json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]})


def _completion(number: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "red"}, "finish_reason": "stop"}
    return {"id": number, "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def _prediction(number: str, url: str) -> dict[str, Any]:
    urls = {"get": f"{url}/v1/predictions/{number}", "cancel": f"{url}/c", "stream": f"{url}/v1/stream/{number}"}
    named: dict[str, Any] = {
        "id": number,
        "model": "m",
        "version": "v",
        "input": {},
        "output": None,
        "logs": "",
        "error": None,
    }
    return named | {"status": "starting", "created_at": _NEW, "urls": urls}


async def _fal(url: str, text: str) -> object:
    client: Any = importlib.import_module("fal_client.client")
    # Its addresses are https and cannot be set.
    client.QUEUE_URL_FORMAT = f"{url}/"
    return await client.AsyncClient(key="key").submit("fal-ai/flux/dev", arguments={"prompt": text})


async def _replicate(url: str, text: str) -> object:
    client: Any = importlib.import_module("replicate").Client(api_token="token", base_url=url)  # noqa: S106 - of nobody
    return await client.predictions.async_create(version="v", input={"prompt": text})


async def _replicate_stream(url: str) -> AsyncIterator[int]:
    client: Any = importlib.import_module("replicate").Client(api_token="token", base_url=url)  # noqa: S106 - of nobody
    made: Any = importlib.import_module("replicate.prediction").Prediction(**_prediction("1", url))
    made._client = client
    async for event in made.async_stream():
        if str(event.event) == "EventType.OUTPUT" or getattr(event.event, "value", "") == "output":
            yield int(event.data)


def _openai_client(url: str) -> Any:
    return importlib.import_module("openai").AsyncOpenAI(api_key="key", base_url=f"{url}/v1")


async def _openai(url: str, text: str) -> object:
    async with _openai_client(url) as client:
        return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


async def _openai_stream(url: str) -> AsyncIterator[int]:
    async with _openai_client(url) as client:
        messages = [{"role": "user", "content": "count"}]
        async for chunk in await client.chat.completions.create(model="m", messages=messages, stream=True):
            yield int(chunk.choices[0].delta.content)


PEERS = (
    Peer("fal-client", "fal_client", _fal),
    Peer("replicate", "replicate", _replicate, _replicate_stream),
    Peer("openai", "openai", _openai, _openai_stream),
)


@asynccontextmanager
async def _served(stand_in: _StandIn) -> AsyncIterator[tuple[str, int]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stand_in.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield str(host), int(port)
    finally:
        await runner.cleanup()


async def count_peer(peer: Peer, plans: Iterator[Plan], asked: int, streams: int) -> PeerCount | None:
    """Submit and follow through the proxy; None if its package is not there."""
    try:
        importlib.import_module(peer.package)
    except ModuleNotFoundError:
        print(f"{peer.name} is left out: pip install -c constraints.txt -e '.[bench]'")
        return None
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stand_in, told = _StandIn(), 0
    left = iter(range(asked))

    async def submit_some(url: str) -> None:
        nonlocal told
        for number in left:
            # Each has errors of its own for what cannot be had.
            with suppress(Exception):
                async with asyncio.timeout(_PATIENCE):
                    await peer.submit(url, f"dress {number}")
                    told += 1

    async with _served(stand_in) as to:
        async with CuttingProxy(to, plans).listening() as proxy:
            await asyncio.gather(*(submit_some(proxy.url) for _ in range(_AT_ONCE)))
            cuts = proxy.cuts.total()
        counted = PeerCount(peer.name, asked, told, stand_in.made.total(), len(stand_in.made), cuts)
        if peer.follow is None:
            return counted
        async with CuttingProxy(to, streams_cut(4711, streams)).listening() as proxy:
            return await _followed(peer.follow, proxy, counted, streams)


async def _followed(
    follow: Callable[[str], AsyncIterator[int]], proxy: CuttingProxy, counted: PeerCount, streams: int
) -> PeerCount:
    lost = repeated = 0

    async def one() -> None:
        nonlocal lost, repeated
        seen: Counter[int] = Counter()
        with suppress(Exception):
            async for number in follow(proxy.url):
                seen[number] += 1
        lost += _EVENTS - len(seen)
        repeated += seen.total() - len(seen)

    left = iter(range(streams))

    async def some() -> None:
        for _ in left:
            await one()

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
    return PeerCount(
        counted.name, counted.asked, counted.told, counted.made, counted.distinct, counted.cuts,
        proxy.cuts.total(), streams * _EVENTS, lost, repeated,
    )  # fmt: skip
