"""The API in a process of its own, which notes the longest time that its event loop was held: in seconds of the CPU of
the loop's thread, so that other work on the machine does not count."""

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from compute.api.app import create_app
from compute.orders.serving import ServedModel, Serving
from compute.settings import Settings
from tests.patience import PATIENCE

__all__ = ["Watched", "watched_api"]

_TICK = 0.005


@dataclass
class Watched:
    """The running API. `held` is the longest hold since `reset`, in seconds of CPU."""

    url: str
    _worst: Any

    def reset(self) -> None:
        self._worst.value = 0.0

    @property
    def held(self) -> float:
        return float(self._worst.value)


@contextmanager
def watched_api(settings: dict[str, Any]) -> Iterator[Watched]:
    context = multiprocessing.get_context("spawn")
    worst = context.Value("d", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready = context.Event()
        process = context.Process(target=_serve, args=(settings, listener, worst, ready), daemon=True)
        process.start()
        try:
            assert ready.wait(PATIENCE)
            yield Watched(f"http://127.0.0.1:{listener.getsockname()[1]}", worst)
        finally:
            process.terminate()
            process.join(PATIENCE)


def _serve(settings: dict[str, Any], listener: socket.socket, worst: Any, ready: Any) -> None:
    asyncio.run(_run(settings, listener, worst, ready))


async def _run(settings: dict[str, Any], listener: socket.socket, worst: Any, ready: Any) -> None:
    painter = ServedModel("painter", 16)
    no_model = ServedModel(None, 1, queue="image", roles=frozenset())
    serving = Serving({"inference": painter, "refine": painter, "image": no_model})
    app = create_app(Settings(**settings), serving)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    serve = asyncio.create_task(server.serve([listener]))
    watch = asyncio.create_task(_watch(worst))
    while not server.started:
        await asyncio.sleep(0.01)
    ready.set()
    await serve
    watch.cancel()


async def _watch(worst: Any) -> None:
    last = time.thread_time()
    while True:
        await asyncio.sleep(_TICK)
        now = time.thread_time()
        worst.value = max(worst.value, now - last)
        last = now
