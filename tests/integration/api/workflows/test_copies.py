"""Two ingresses, two engines and three Dispatchers on one database keep the guarantees of one of each."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from PIL import Image

from compute.db.session import Database
from compute.deployments.context import LocalWorkerContext
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.settings import Settings
from compute.storage.factory import open_store
from compute.worker.protocol import GenerateRequest, Job, WorkEvent
from tests.integration.api.conftest import KEY, InProcessPool, serving_api
from tests.integration.api.conftest import wait_for as wait_for_task
from tests.integration.api.workflows.conftest import (
    SMALL,
    SubjectPainter,
    draw,
    post,
    running_engine,
    statuses,
    wait_for,
)
from tests.integration.rows import never_given_up
from tests.patience import PATIENCE

POLICY = DispatchPolicy(lease=5, poll=0.1, pulse=0.05, beat=0.2, retry=RetryPolicy(1, 0.01))
ENDS = ("COMPLETED", "FAILED", "CANCELLED")


@dataclass
class CountingPainter(SubjectPainter):
    drawn: Counter[str] = field(default_factory=Counter)

    def decode(self, request: GenerateRequest) -> Image.Image:
        self.drawn[request.prompt] += 1
        return super().decode(request)


@dataclass
class Load:
    """What the pools of all Dispatchers hold together, but for tasks that somebody may cancel: their row ends at once,
    and their run at its next step."""

    leaving: frozenset[str] = frozenset()
    """The prompts of those."""
    now: int = 0
    most: int = 0


@dataclass
class SharedPool(InProcessPool):
    load: Load = field(default_factory=Load)

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        counts = job.spec["prompt"] not in self.load.leaving
        self.load.now += counts
        self.load.most = max(self.load.most, self.load.now)
        try:
            async with aclosing(super().run(job)) as events:
                async for event in events:
                    yield event
        finally:
            self.load.now -= counts


@pytest.fixture
def painter() -> CountingPainter:
    return CountingPainter()


@asynccontextmanager
async def dispatching(database: Database, pool: SharedPool, owner: str) -> AsyncIterator[None]:
    work = asyncio.create_task(Dispatcher(PostgresDispatchStore(database), [pool], POLICY, owner).run())
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def test_copies_keep_every_guarantee(settings: Settings, database: Database, painter: CountingPainter) -> None:
    await never_given_up(database)
    tasks = [f"task {number}" for number in range(16)]
    load, objects = Load(frozenset(tasks[-4:])), open_store(settings)
    worker = LocalWorkerContext(settings, objects, painter, "painter#1")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(objects.close)
        one, other = [await stack.enter_async_context(_client(settings)) for _ in range(2)]
        for number in range(2):
            await stack.enter_async_context(running_engine(settings, database, f"engine-{number}"))
        for number in range(3):
            await stack.enter_async_context(
                dispatching(database, SharedPool(worker, load=load), f"dispatcher-{number}")
            )

        # Each key at both ingresses at once.
        answers = await asyncio.gather(*(_submit(client, prompt) for prompt in tasks for client in (one, other)))
        ids = {prompt: {answers[2 * n], answers[2 * n + 1]} for n, prompt in enumerate(tasks)}
        assert {len(found) for found in ids.values()} == {1}
        names = {prompt: found.pop() for prompt, found in ids.items()}
        flows = [
            await post(client, draw("a", prompt=f"{n} a"), draw("b", "a", prompt=f"{n} b"))
            for n, client in enumerate((one, other, one, other))
        ]
        # What one has accepted the other may end.
        cancelled = [(await other.post(f"/tasks/{names[prompt]}/cancel")).status_code for prompt in tasks[-4:]]
        assert set(cancelled) <= {200, 409}

        ended = [await wait_for_task(other, names[prompt], *ENDS) for prompt in tasks]
        for n, flow in enumerate(flows):
            found = await wait_for((other, one)[n % 2], flow, "COMPLETED", "FAILED")
            assert statuses(found) == {"a": "COMPLETED", "b": "COMPLETED"}
    assert [task["status"] for task in ended[:-4]] == ["COMPLETED"] * 12
    assert {task["status"] for task in ended[-4:]} <= {"COMPLETED", "CANCELLED"}
    assert {task["retry_count"] for task in ended} == {0}
    assert load.most <= SharedPool(worker).hands
    wanted = [task for task, now in zip(tasks, ended, strict=True) if now["status"] == "COMPLETED"]
    wanted += [f"{n} {step}" for n in range(len(flows)) for step in "ab"]
    assert {prompt: painter.drawn[prompt] for prompt in wanted} == dict.fromkeys(wanted, 1)


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving_api(settings) as url,
        httpx.AsyncClient(
            base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE
        ) as client,
    ):
        yield client


async def _submit(client: httpx.AsyncClient, prompt: str) -> str:
    key = {"Idempotency-Key": prompt.replace(" ", "-")}
    answer = await client.post("/tasks/", json={"prompt": prompt, **SMALL}, headers=key)
    assert answer.status_code == 201, answer.text
    task_id: str = answer.json()["id"]
    return task_id
