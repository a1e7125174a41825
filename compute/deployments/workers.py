"""Replicas that run jobs: GPU-pinned ones that hold a warm pipeline, and those for image work on the CPU.

They never touch the database.
"""

import logging
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from ray import serve

from compute.deployments.args import PoolArgs
from compute.deployments.process import begin_process
from compute.deployments.standby import Standby
from compute.deployments.warm_up import warm_up_request
from compute.deployments.workbench import LocalWorkbench
from compute.errors import TaskFailed
from compute.settings import Settings, get_settings
from compute.storage.factory import open_store
from compute.tasks.protocol import Job, Role, WorkEvent
from compute.tasks.registry import kind_of

if TYPE_CHECKING:
    from compute.pipelines import Activation

__all__ = ["ImageWorker", "PipelineWorker", "StandbyWorker"]

_log = logging.getLogger(__name__)
_STANDBY_IDLE_SECONDS = 30.0


class PipelineWorker:
    """One replica of a pool. It is ready once it has drawn its first image."""

    def __init__(self, args: PoolArgs) -> None:
        self._bench = _prepare(args)()

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Run one job; closing the stream stops it at its next denoising step."""
        async with aclosing(_work(job, self._bench)) as events:
            async for event in events:
                yield event

    async def warm_lora(self, path: str) -> bool:
        """Have a stored LoRA at hand before the first task names it; whether the model has it now.

        Raises:
            StorageFailed: the object store could not be reached.
        """
        return await self._bench.warm_lora(path)


class ImageWorker:
    """One replica of a pool without a model: as many jobs compute at a time as it has cores set aside."""

    def __init__(self, args: PoolArgs) -> None:
        import cv2

        settings = get_settings()
        begin_process(settings)
        slots = max(1, math.ceil(args.cpus_per_replica))
        # A job has one core. OpenCV would take all of the machine's for each, and they would wait for each other.
        cv2.setNumThreads(1)
        self._bench = LocalWorkbench(settings, open_store(settings), None, _executor(), slots=slots)

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Run one job; closing the stream stops it once the picture in hand is done."""
        async with aclosing(_work(job, self._bench)) as events:
            async for event in events:
                yield event


class StandbyWorker:
    """Stands in for a replica that died. It is ready with its weights in host memory, and holds nothing on the device
    until its first job comes."""

    def __init__(self, args: PoolArgs) -> None:
        # On a CPU there is nothing to give back.
        idle_seconds = _STANDBY_IDLE_SECONDS if args.gpus_per_replica else math.inf
        self._standby = Standby(_prepare(args), idle_seconds=idle_seconds)

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Run one job; the first one waits until the model is on the device.

        Raises:
            TaskFailed: the model could not be brought to the device.
        """
        async with self._standby.in_use() as bench, aclosing(_work(job, bench)) as events:
            async for event in events:
                yield event

    def check_health(self) -> None:
        """Serve asks now and then, and replaces a standby that is not needed any more.

        Raises:
            StandDown: it has lain idle for a while after its jobs, or could not be activated.
        """
        self._standby.check()


def _prepare(args: PoolArgs) -> Callable[[], LocalWorkbench]:
    """Import the libraries and load the weights into host memory; calling the result brings them to the device."""
    # The pipeline libraries take seconds to import; only replicas that draw pay for them.
    from compute.pipelines import prepare
    from compute.pipelines.shelf import prepare_shelf

    settings = get_settings()
    begin_process(settings)
    if args.model is None:
        raise ValueError(f"The pool {args.name} has no model.")
    budget = None if args.memory_budget_gb is None else int(args.memory_budget_gb * 1e9)
    activate_model: Activation
    if args.models or budget is not None:
        activate_model = prepare_shelf(args.by_role, settings.models_root, budget=budget)
    else:
        activate_model = prepare(args.model, settings.models_root)
    names = {role: config.model for role, config in args.by_role.items()}
    return partial(_activate, settings, activate_model, names, _executor())


def _executor() -> str:
    replica = serve.get_replica_context()
    return f"{replica.deployment}#{replica.replica_id.unique_id}"


def _activate(
    settings: Settings, activate_model: "Activation", names: dict[Role, str], executor: str
) -> LocalWorkbench:
    began = time.perf_counter()
    try:
        bench = LocalWorkbench(settings, open_store(settings), activate_model(), executor, names=names)
        bench.stages.warm_up(warm_up_request(next(iter(names))))
    except Exception as error:
        # In words: the Dispatcher must not need torch to read it.
        raise TaskFailed(f"The model could not be brought to its device: {type(error).__name__}: {error}") from error
    _log.info("%s is warm after %.2f s", executor, time.perf_counter() - began)
    return bench


async def _work(job: Job, bench: LocalWorkbench) -> AsyncGenerator[WorkEvent]:
    async with aclosing(kind_of(job.task_type).run(job, bench)) as events:
        async for event in events:
            yield event
