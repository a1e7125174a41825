"""A replica whose drawing thread hangs is replaced, and those that wait behind it lose nothing but time."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

from compute.db.session import Database
from compute.deployments.args import PoolArgs
from compute.deployments.context import LocalWorkerContext
from compute.deployments.pool import ServePool
from compute.deployments.workers import JobWorker
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.settings import get_settings
from compute.storage.factory import open_store
from compute.worker.protocol import GenerateRequest, Job, OnStep, WorkEvent
from compute.worker.vitals import Station
from compute.worker.watchdog import Watchdog
from tests.cluster.conftest import Cluster
from tests.integration.dispatch.test_dispatcher import until
from tests.integration.rows import add
from tests.patience import PATIENCE

QUEUE = "hanging"
STALL_SECONDS = 1.0
HANGS = "a dress that is never drawn"
SPEC = {
    "prompt": "a dress", "negative_prompt": None, "width": 64, "height": 64, "seed": 1, "num_outputs": 1, "steps": 1,
    "guidance_scale": 3.5, "true_cfg_scale": 1.0, "reference_image_path": None, "reference_image_strength": None,
    "loras": [],
}  # fmt: skip


class HangsOnce:
    """A model whose draw never returns the first time that it is asked for what hangs; its process is noted in
    `file`."""

    name = "hangs-once"

    def __init__(self, file: Path) -> None:
        self._file = file

    def prepare(self, request: GenerateRequest) -> GenerateRequest:
        return request

    def denoise(self, prepared: GenerateRequest, on_step: OnStep) -> GenerateRequest:
        if prepared.prompt == HANGS:
            with contextlib.suppress(FileExistsError), self._file.open("x") as file:
                file.write(executor())
                file.flush()
                threading.Event().wait()
        on_step(1, 1)
        return prepared

    def decode(self, drawn: GenerateRequest) -> Image.Image:
        return Image.new("RGB", (drawn.width, drawn.height))


def executor() -> str:
    return f"process#{os.getpid()}"


class HangingClock:
    """Runs while this process hangs, so that a machine that stands still for a moment makes nobody hang."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._is_another = file.exists()
        self._began_at: float | None = None

    def __call__(self) -> float:
        if self._is_another or not self._file.exists():
            return 0.0
        if self._began_at is None:
            self._began_at = time.monotonic()
        return time.monotonic() - self._began_at


class HangingWorker(JobWorker):
    """A worker as they all are, but for its model, how soon it is found to hang, and that it waits for a full reserve
    before it does so."""

    def __init__(self, file: Path) -> None:
        settings = get_settings()
        super().__init__(settings, Station(f"Hanging#{os.getpid()}", (QUEUE,), concurrency=1, capacity=3))
        self.watchdog = Watchdog(STALL_SECONDS, clock=HangingClock(file))
        objects = open_store(settings)
        self._worker = LocalWorkerContext(settings, objects, HangsOnce(file), executor(), watchdog=self.watchdog)
        self._file = file
        self._jobs = 0

    def worker(self) -> AbstractAsyncContextManager[LocalWorkerContext]:
        return nullcontext(self._worker)

    async def _work(self, job: Job) -> AsyncGenerator[WorkEvent]:
        self._jobs += 1
        async with asyncio.timeout(PATIENCE):
            while not (await asyncio.to_thread(self._file.exists) or (job.spec["prompt"] == HANGS and self._jobs == 3)):
                await asyncio.sleep(0.02)
        async with aclosing(super()._work(job)) as events:
            async for event in events:
                yield event


@asynccontextmanager
async def dispatching(database: Database, handle: Any) -> AsyncIterator[None]:
    pool = ServePool(PoolArgs(name="Hanging", queue=QUEUE, reserved_tasks=2), handle)
    pool.counted(1)
    policy = DispatchPolicy(retry=RetryPolicy(max_retries=3, backoff_seconds=0.2, longest_seconds=1.0))
    work = asyncio.create_task(Dispatcher(PostgresDispatchStore(database), [pool], policy, "of the test").run())
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def test_a_replica_that_hangs_is_replaced_and_hands_back_what_waits_behind(
    cluster: Cluster, tmp_path: Path
) -> None:
    from ray import serve

    hanging = serve.deployment(
        HangingWorker,
        name="Hanging",
        max_ongoing_requests=3,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=0.5,
    )
    handle = await asyncio.to_thread(serve.run, hanging.bind(tmp_path / "first"), name="hanging", route_prefix=None)
    database = Database(os.environ["DATABASE_URL"])
    try:
        first = await add(database, queue=QUEUE, spec=SPEC | {"prompt": HANGS})
        behind = [await add(database, queue=QUEUE, spec=SPEC, max_retries=0) for _ in range(2)]
        async with dispatching(database, handle):
            rows = [await until(database, task, "COMPLETED", "FAILED") for task in (first, *behind)]
    finally:
        await database.close()
        await asyncio.to_thread(serve.delete, "hanging")

    assert [(row.status, row.retry_count) for row in rows] == [("COMPLETED", 1), ("COMPLETED", 0), ("COMPLETED", 0)]
    assert f"denoising made no step for {STALL_SECONDS:g} s" in rows[0].errors[0]
    assert [row.errors for row in rows[1:]] == [[], []]
    assert all(row.fence > 1 for row in rows), "each was handed back and claimed again"
    hung = (tmp_path / "first").read_text()
    assert all(row.executor_instance != hung for row in rows)
