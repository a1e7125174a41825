"""The API in a process of its own, which notes the longest time that its event loop was held: by its own thread, or by
another one that kept the interpreter to itself. Other processes do not count: they take wall time, and no CPU time of
this one."""

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
from compute.deployments.process import leave_out_of_collections
from compute.requests.serving import ServedModel, Serving
from compute.settings import Settings
from tests.patience import PATIENCE
from tests.servers import config, listening, until_started

__all__ = ["Watched", "watch", "watched_api"]

_TICK = 0.005


@dataclass
class Watched:
    """The running API. `held` is the longest hold since `reset`, in seconds in which the process was at work."""

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
    with listening() as listener:
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
    leave_out_of_collections()
    server = uvicorn.Server(config(app))
    serve = asyncio.create_task(server.serve([listener]))
    watching = asyncio.create_task(watch(worst))
    await until_started(server, serve)
    ready.set()
    await serve
    watching.cancel()


async def watch(worst: Any) -> None:
    """Keep the longest hold of this loop in `worst`, until cancelled."""
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        await asyncio.sleep(_TICK)
        now_wall, now_cpu = time.perf_counter(), time.process_time()
        worst.value = max(worst.value, min(now_wall - wall, now_cpu - cpu))
        wall, cpu = now_wall, now_cpu
