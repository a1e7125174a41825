"""A LoRA that was stored just now is in a replica's memory before the first task names it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from compute.deployments.warming.loras import warm_lora
from compute.tasks.registry import kind_of
from compute.training.export.lora import export_lora
from tests.patience import PATIENCE
from tests.unit.tasks.types.worker import TestWorker, make_worker, run_type, tiny_flux_model
from tests.unit.training.export.adapters import Adapter, pair, spec_of

PATH, COPY = "loras/products/red-dress.safetensors", "loras/products/copy.safetensors"


def trained(width: int = 64) -> Adapter:
    """Strong enough to be seen."""
    adapter: Adapter = {}
    for index in range(2):
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            adapter |= pair(width=width, layer=f"transformer_blocks.{index}.attn.{name}", value=0.2)
    return adapter


async def stored(worker: TestWorker, adapter: Adapter, path: str = PATH) -> None:
    file = worker.settings.home / "trained.safetensors"
    export_lora(adapter, file, spec_of(), steps=1, date=datetime(2026, 3, 1, tzinfo=UTC))
    await worker.store.put(path, file, "application/octet-stream")


async def drawn(worker: TestWorker, lora: str | None = PATH) -> bytes:
    """The file that a GENERATION task makes."""
    request = {"prompt": "a red dress", "width": 64, "height": 64, "steps": 1, "seed": 1}
    named = {} if lora is None else {"product_model_path": lora.removeprefix("loras/")}
    outcome = await run_type(kind_of("GENERATION"), request | named, worker, {})
    return outcome.files[0]


def cached(worker: TestWorker) -> list[Path]:
    return sorted((worker.settings.cache_root / "loras").glob("*.safetensors"))


@pytest.fixture
def worker(tmp_path: Path) -> TestWorker:
    return make_worker(tmp_path, tiny_flux_model())


async def test_the_first_task_with_a_warm_lora_reads_no_file(worker: TestWorker) -> None:
    await stored(worker, trained())
    assert await worker.worker.warm_lora(PATH)
    (file,) = cached(worker)
    file.write_bytes(b"nobody reads this")
    warm = await drawn(worker)
    # The same LoRA under a name that no replica has heard of.
    await stored(worker, trained(), COPY)
    assert await drawn(worker, COPY) == warm
    assert await drawn(worker, None) != warm


async def test_a_file_that_was_replaced_is_another_lora(worker: TestWorker) -> None:
    await stored(worker, trained())
    assert await worker.worker.warm_lora(PATH)
    first = await drawn(worker)
    await stored(worker, {name: half / 2 for name, half in trained().items()})
    assert await worker.worker.warm_lora(PATH)
    assert len(cached(worker)) == 2
    assert await drawn(worker) != first


async def test_a_replica_does_without_what_it_cannot_use(worker: TestWorker, caplog: pytest.LogCaptureFixture) -> None:
    await stored(worker, trained(width=32))
    with caplog.at_level(logging.INFO, "compute.deployments.context"):
        assert not await worker.worker.warm_lora(PATH)
        assert not await worker.worker.warm_lora("loras/styles/gone.safetensors")
    first, second = (record.getMessage() for record in caplog.records)
    assert "worker#1 does without the LoRA loras/products/red-dress.safetensors: Made for another model" in first
    assert "loras/styles/gone.safetensors is gone" in second


async def test_a_replica_without_a_model_does_not_even_fetch_it(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    await stored(worker, trained())
    assert not await worker.worker.warm_lora(PATH)
    assert cached(worker) == []


class Replica:
    """A pool's replica without a cluster around it. It is slow until it is `hurried`."""

    hurried = threading.Event()

    def __init__(self, home: Path) -> None:
        self._worker = make_worker(home, tiny_flux_model()).worker

    async def warm_lora(self, path: str) -> bool:
        if path == "broken":
            raise ValueError("it is broken")
        if path == "slow":
            async with asyncio.timeout(PATIENCE):
                while not self.hurried.is_set():
                    await asyncio.sleep(0.01)
        return await self._worker.warm_lora(path)


@pytest.fixture
async def pools(tmp_path: Path) -> AsyncIterator[list[DeploymentHandle]]:
    """Two handles as the application has them; Serve runs their replicas in this process, without Ray. What is stored
    for the second does not fit its model."""
    handles = []
    for name, width in (("Flux", 64), ("Other", 32)):
        home = tmp_path / name
        home.mkdir()
        await stored(make_worker(home), trained(width))
        app = serve.deployment(Replica, name=name).bind(home)
        handles.append(serve.run(app, name=name, route_prefix=None, _local_testing_mode=True))
    yield handles
    assert not ray.is_initialized()


async def test_those_that_have_it_are_counted(pools: list[DeploymentHandle]) -> None:
    assert await warm_lora([], PATH) == 0
    assert await warm_lora(pools, PATH) == 1
    assert await warm_lora([pools[0], pools[0]], PATH) == 2


async def test_what_goes_wrong_there_is_logged_and_not_raised(
    pools: list[DeploymentHandle], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "compute.deployments.warming.loras"):
        assert await warm_lora(pools[:1], "broken") == 0
        assert await warm_lora(pools[:1], "slow", timeout_s=0.1) == 0
    Replica.hurried.set()
    words = [record.getMessage() for record in caplog.records if record.name == "compute.deployments.warming.loras"]
    assert words[0] == "A replica of Flux could not read the LoRA broken: it is broken"
    assert words[1] == "The replicas of Flux do not have the LoRA slow within 0.1 s."
