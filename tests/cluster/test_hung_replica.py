"""A replica whose drawing thread hangs is replaced, and those that wait behind it lose nothing but time."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
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
from compute.worker.protocol import GenerateRequest, OnStep
from tests.cluster.conftest import Cluster
from tests.integration.dispatch.test_dispatcher import until
from tests.integration.rows import add
from tests.patience import PATIENCE

QUEUE = "hanging"
STALL_SECONDS = 3.0
"""Long enough for those behind to reach the replica before it is found to hang."""
SPEC = {
    "prompt": "a dress", "negative_prompt": None, "width": 64, "height": 64, "seed": 1, "num_outputs": 1, "steps": 1,
    "guidance_scale": 3.5, "true_cfg_scale": 1.0, "reference_image_path": None, "reference_image_strength": None,
    "loras": [],
}  # fmt: skip


class HangsOnce:
    """A model whose first draw, of all replicas, never returns; its process is noted in `file`."""

    name = "hangs-once"

    def __init__(self, file: Path) -> None:
        self._file = file

    def prepare(self, request: GenerateRequest) -> GenerateRequest:
        return request

    def denoise(self, prepared: GenerateRequest, on_step: OnStep) -> GenerateRequest:
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


class HangingWorker(JobWorker):
    """A worker as they all are, but for its model, and for how soon it is found to hang."""

    def __init__(self, file: Path) -> None:
        settings = get_settings().model_copy(update={"stall_seconds": STALL_SECONDS})
        super().__init__(settings)
        objects = open_store(settings)
        self._worker = LocalWorkerContext(settings, objects, HangsOnce(file), executor(), watchdog=self.watchdog)

    def worker(self) -> AbstractAsyncContextManager[LocalWorkerContext]:
        return nullcontext(self._worker)


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


async def hanging_in(file: Path) -> None:
    """Wait until the process that hangs has noted itself in `file`."""

    def noted() -> bool:
        return file.is_file() and bool(file.read_text())

    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(noted):
            await asyncio.sleep(0.02)


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
        first = await add(database, queue=QUEUE, spec=SPEC, priority=2)
        async with dispatching(database, handle):
            await hanging_in(tmp_path / "first")
            behind = [await add(database, queue=QUEUE, spec=SPEC, max_retries=0) for _ in range(2)]
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
