"""The API on a real socket, with a real Dispatcher and workers that run in the same process.

The model is a painter that fills an image from its seed: everything around it is the code that ships.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from PIL import Image

from compute.api.access.streams import ONGOING_REQUESTS
from compute.api.app import create_app
from compute.db.session import Database
from compute.deployments.context import LocalWorkerContext
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.requests.serving import ServedModel, Serving
from compute.settings import Settings
from compute.storage.factory import open_store
from compute.tasks.registry import kind_of
from compute.worker.protocol import GenerateRequest, Job, OnStep, Role, WorkEvent
from compute.worker.telemetry import observed
from compute.worker.vital_signs import alive_seconds, with_vital_signs
from compute.worker.watchdog import Watchdog
from tests.declared import Recorder
from tests.patience import PATIENCE
from tests.servers import PLAIN_HTTP, config, listening, until_started

KEY = "test-key-long-enough"
_GLANCE = 0.01
_LEASE = 2.0


@dataclass
class Painter:
    """Draws one colour per seed, a step at a time; remembers what it was asked for. What has a prompt that is `held`
    stays at its first step, where it still hears that its task was cancelled."""

    name: str = "painter"
    seconds_per_step: float = 0.0
    held: set[str] = field(default_factory=set)
    requests: list[GenerateRequest] = field(default_factory=list)
    steps_done: int = 0

    def prepare(self, request: GenerateRequest) -> GenerateRequest:
        return request

    def denoise(self, request: GenerateRequest, on_step: OnStep) -> GenerateRequest:
        import time

        self.requests.append(request)
        for step in range(request.steps):
            time.sleep(self.seconds_per_step)
            self.steps_done += 1
            on_step(step + 1, request.steps)
            for _ in range(round(PATIENCE / _GLANCE)):
                if request.prompt not in self.held:
                    break
                time.sleep(_GLANCE)
                on_step(step + 1, request.steps)
        return request

    def decode(self, request: GenerateRequest) -> Image.Image:
        shade = request.seed * 37 % 256
        return Image.new("RGB", (request.width, request.height), (shade, 255 - shade, len(request.prompt) % 256))


@dataclass
class InProcessPool:
    worker: LocalWorkerContext
    queue: str = "inference"
    executor_type: str = "in-process"
    resumes: bool = False
    hands: int = 2

    def capacity(self) -> int:
        return self.hands

    def ready(self) -> int:
        return self.hands

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        async with aclosing(with_vital_signs(self._work(job), Watchdog(), alive_seconds(_LEASE))) as events:
            async for event in events:
                yield event

    async def _work(self, job: Job) -> AsyncGenerator[WorkEvent]:
        with observed(job, "LOCAL"):
            async with aclosing(kind_of(job.task_type).run(job, self.worker)) as events:
                async for event in events:
                    yield event


@pytest.fixture
def storage_settings() -> dict[str, object]:
    """What a module overrides to use another object store."""
    return {"storage": "local"}


@pytest.fixture
def settings(database_url: str, tmp_path: Path, storage_settings: dict[str, object]) -> Settings:
    return Settings(
        api_key=KEY,
        database_url=database_url,
        home=tmp_path,
        media_allowed_hosts="127.0.0.1",
        media_timeout_seconds=PATIENCE,
        **storage_settings,
    )


@asynccontextmanager
async def serving_api(
    settings: Settings,
    roles: frozenset[Role] = frozenset({"draw"}),
    *,
    elsewhere: tuple[str, ...] = (),
    max_ongoing_requests: int = ONGOING_REQUESTS,
) -> AsyncIterator[str]:
    """The API on a socket of its own, before a model that can do this; its address. `elsewhere` are queues of
    providers elsewhere."""
    painter = ServedModel("painter", 16, roles=roles)
    no_model = ServedModel(None, 1, queue="image", roles=frozenset())
    queues = {"inference": painter, "refine": painter, "image": no_model}
    queues |= {name: ServedModel(None, 1, queue=name, roles=roles) for name in elsewhere}
    serving = Serving(queues | ({"video": painter} if "video" in roles else {}))
    listener = listening()
    recorder = Recorder(create_app(settings, serving, max_ongoing_requests=max_ongoing_requests))
    server = uvicorn.Server(config(recorder))
    serve = asyncio.create_task(server.serve([listener]))
    await until_started(server, serve)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serve
    listener.close()
    assert recorder.faults == set()


@pytest.fixture
async def base_url(settings: Settings) -> AsyncIterator[str]:
    """The running API; nothing dispatches unless `worker` is asked for."""
    async with serving_api(settings) as url:
        yield url


@pytest.fixture
async def api(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the right key."""
    async with httpx.AsyncClient(
        base_url=f"{base_url}/api/v1",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=PATIENCE,
        verify=PLAIN_HTTP,
    ) as client:
        yield client


@pytest.fixture
async def anonymous(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE, verify=PLAIN_HTTP) as client:
        yield client


@pytest.fixture
def painter() -> Painter:
    return Painter()


@pytest.fixture
async def worker(database: Database, settings: Settings, painter: Painter) -> AsyncIterator[Painter]:
    """A Dispatcher, two hands that use the painter, and two that need no model."""
    objects = open_store(settings)
    pools = [
        InProcessPool(LocalWorkerContext(settings, objects, painter, "painter#1")),
        InProcessPool(LocalWorkerContext(settings, objects, None, "image#1", slots=2), "image"),
    ]
    policy = DispatchPolicy(lease=_LEASE, poll=0.1, pulse=0.05, beat=0.2, retry=RetryPolicy(1, 0.01))
    work = asyncio.create_task(Dispatcher(PostgresDispatchStore(database), pools, policy, "test").run())
    yield painter
    painter.held.clear()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    await objects.close()


async def wait_for(api: httpx.AsyncClient, task_id: str, *statuses: str) -> dict:
    async with asyncio.timeout(PATIENCE):
        while True:
            task = (await api.get(f"/tasks/{task_id}")).json()
            if task["status"] in statuses:
                return task
            await asyncio.sleep(0.03)
