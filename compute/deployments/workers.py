"""Replicas that run jobs: GPU-pinned ones with a loaded pipeline, and those for image work on the CPU.

They never touch the database.
"""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ray import serve

from compute.deployments.args import PoolArgs
from compute.deployments.context import LocalWorkerContext
from compute.deployments.process import begin_process, end_process
from compute.deployments.standby import Standby
from compute.deployments.telling import VitalsTeller
from compute.deployments.warming.request import warm_up_request
from compute.errors import WorkerLost
from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderType
from compute.settings import Settings, get_settings
from compute.storage.factory import open_store
from compute.worker.gpu import GpuProbe
from compute.worker.protocol import Job, Role, WorkEvent
from compute.worker.telemetry import observed
from compute.worker.vital_signs import alive_seconds, vital_batches
from compute.worker.vitals import Station, Tally, Vitals
from compute.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from compute.pipelines import Activation

__all__ = ["ImageWorker", "JobWorker", "PipelineWorker", "StandbyWorker"]

_log = logging.getLogger(__name__)
_STANDBY_IDLE_SECONDS = 30.0


class JobWorker(ABC):
    """Runs jobs on one worker, with heartbeats among their events."""

    gather_seconds: ClassVar[float] = 0.0
    """How long an event waits for others to travel with."""

    def __init__(self, settings: Settings, station: Station, *, has_gpu: bool = False) -> None:
        self.watchdog = Watchdog(settings.stall_seconds)
        self._alive_seconds = alive_seconds(settings.lease_seconds)
        self._station = station
        self._tally = Tally()
        self._gpu = GpuProbe() if has_gpu else None
        self._teller = VitalsTeller(self._vitals)

    @property
    def station(self) -> Station:
        """What it is for."""
        return self._station

    @abstractmethod
    def worker(self) -> AbstractAsyncContextManager[LocalWorkerContext]:
        """The context that a job runs in; entering it may wait."""

    async def run(self, job: Job) -> AsyncGenerator[tuple[WorkEvent, ...]]:
        """Run one job; events that are there together are yielded together. Closing the stream stops it: denoising at
        its next step, a computation at its end.

        Raises:
            WorkerLost: a thread of this replica hangs, or the model could not be brought to the device.
            TaskFailed: the job hangs.
        """
        work = vital_batches(self._work(job), self.watchdog, self._alive_seconds, gather_seconds=self.gather_seconds)
        with self._tally.job() as counted:
            async with aclosing(work) as batches:
                async for batch in batches:
                    counted.saw(batch)
                    yield batch

    async def check_health(self) -> None:
        """Called by Serve at intervals; it replaces a replica that is unwell.

        Raises:
            WorkerLost: a thread of this replica hangs.
        """
        # Here, because it is the first that is called within the replica's event loop.
        self._teller.begin()
        self.watchdog.check()

    async def __del__(self) -> None:
        """Awaited by Serve when the replica is stopped gracefully."""
        await end_process()

    def _vitals(self) -> Vitals:
        gpu = self._gpu.read() if self._gpu else None
        return self._tally.told(self.station, hangs=self.watchdog.is_unwell, gpu=gpu)

    async def _work(self, job: Job) -> AsyncGenerator[WorkEvent]:
        provider = all_providers()[ProviderType(job.spec.get("provider_type", ProviderType.LOCAL))]
        with observed(job, provider.name):
            async with self.worker() as worker, aclosing(provider.run(job, worker)) as events:
                async for event in events:
                    yield event


class PipelineWorker(JobWorker):
    """One replica of a pool. It is ready once it has generated its warm-up image."""

    def __init__(self, args: PoolArgs) -> None:
        super().__init__(get_settings(), _station(args), has_gpu=args.gpus_per_replica > 0)
        self._worker = _prepare(args, self.watchdog)()

    def worker(self) -> AbstractAsyncContextManager[LocalWorkerContext]:
        return nullcontext(self._worker)

    async def warm_lora(self, path: str) -> bool:
        """Load a stored LoRA before the first task names it; True if the model has it now.

        Raises:
            StorageFailed: the object store could not be reached.
        """
        return await self._worker.warm_lora(path)


class ImageWorker(JobWorker):
    """One replica of a pool without a model: as many jobs compute at the same time as it has cores reserved."""

    def __init__(self, args: PoolArgs) -> None:
        import cv2

        settings = get_settings()
        slots = max(1, math.ceil(args.cpus_per_replica))
        super().__init__(settings, _station(args, concurrency=slots))
        begin_process(settings)
        # A job has one core. OpenCV would take all cores of the machine for each, and the jobs would contend for them.
        cv2.setNumThreads(1)
        self._worker = LocalWorkerContext(
            settings, open_store(settings), None, _executor(), slots=slots, watchdog=self.watchdog
        )

    def worker(self) -> AbstractAsyncContextManager[LocalWorkerContext]:
        return nullcontext(self._worker)


class StandbyWorker(JobWorker):
    """Stands in for a replica that died. It is ready with its weights in host memory, and takes no device memory until
    its first job, which waits for the transfer."""

    def __init__(self, args: PoolArgs) -> None:
        super().__init__(get_settings(), _station(args), has_gpu=args.gpus_per_replica > 0)
        # On a CPU there is no device memory to give back.
        idle_seconds = _STANDBY_IDLE_SECONDS if args.gpus_per_replica else math.inf
        self._standby = Standby(_prepare(args, self.watchdog), idle_seconds=idle_seconds, watchdog=self.watchdog)

    @property
    def station(self) -> Station:
        """It takes tasks only while it stands in for another one."""
        return self._station if self._tally.held else replace(self._station, queues=(), concurrency=0, capacity=0)

    def worker(self) -> AbstractAsyncContextManager[LocalWorkerContext]:
        return self._standby.in_use()

    async def check_health(self) -> None:
        """Called by Serve at intervals; it replaces a standby that is unwell, or no longer needed.

        Raises:
            WorkerLost: a thread of this replica hangs.
            StandDown: it has been idle for a while after its jobs, or could not be activated.
        """
        await super().check_health()
        self._standby.check()


def _prepare(args: PoolArgs, watchdog: Watchdog) -> Callable[[], LocalWorkerContext]:
    """Import the libraries and load the weights into host memory; calling the result brings them to the device."""
    # The pipeline libraries take seconds to import; only replicas with a model pay for that.
    from compute.pipelines import prepare
    from compute.pipelines.manager import prepare_manager

    settings = get_settings()
    begin_process(settings)
    if args.model is None:
        raise ValueError(f"The pool {args.name} has no model.")
    budget = None if args.memory_budget_gb is None else int(args.memory_budget_gb * 1e9)
    activate_model: Activation
    if args.models or budget is not None:
        activate_model = prepare_manager(args.by_role, settings.models_root, budget=budget)
    else:
        activate_model = prepare(args.model, settings.models_root)
    names = {role: config.model for role, config in args.by_role.items()}
    return partial(_activate, settings, activate_model, names, _executor(), watchdog)


def _station(args: PoolArgs, *, concurrency: int = 1) -> Station:
    return Station(_executor(), (args.queue,), min(concurrency, args.jobs_per_replica), args.jobs_per_replica)


def _executor() -> str:
    replica = serve.get_replica_context()
    return f"{replica.deployment}#{replica.replica_id.unique_id}"


def _activate(
    settings: Settings, activate_model: "Activation", names: dict[Role, str], executor: str, watchdog: Watchdog
) -> LocalWorkerContext:
    began = time.perf_counter()
    try:
        objects = open_store(settings)
        worker = LocalWorkerContext(settings, objects, activate_model(), executor, names=names, watchdog=watchdog)
        worker.stages.warm_up(warm_up_request(next(iter(names))))
    except Exception as error:
        # As text: the Dispatcher must not need torch to unpickle it.
        raise WorkerLost(f"The model could not be brought to its device: {type(error).__name__}: {error}") from error
    _log.info("%s is warm after %.2f s", executor, time.perf_counter() - began)
    return worker
