"""Replicas that call providers elsewhere: hundreds of waiting calls each, no model, no GPU.

They alone of all workers write to the database, and there only to the ledger of paid calls: what a call's vendor has
promised must be durable before anything is waited for, whoever is alive by then.
"""

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext

from ray import serve
from ray.serve.handle import DeploymentHandle

from compute.db.migrations.revision import require_schema
from compute.db.session import Database
from compute.deployments.args import PoolArgs, ProviderArgs
from compute.deployments.context import LocalWorkerContext
from compute.deployments.pool import ServePool
from compute.deployments.process import begin_process, end_process
from compute.deployments.workers import JobWorker
from compute.errors import InvalidInput
from compute.outbound.client import GuardedClient
from compute.providers.base import RemoteProvider
from compute.providers.calls.job import JobCalls
from compute.providers.calls.record import Owner
from compute.providers.editing.provider import REFINERS
from compute.providers.ledger.keeper import CallKeeper
from compute.providers.ledger.opening import OpenCalls, open_calls
from compute.providers.registry import all_providers
from compute.settings import Settings, get_settings
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store
from compute.worker.vitals import Station

__all__ = ["PROVIDERS", "ProviderPool", "ProviderWorker", "RemoteContext"]

PROVIDERS = "Providers"
"""The deployment's name in Ray's dashboard."""


class ProviderPool(ServePool):
    """The Dispatcher's view of these replicas, for the tasks of one queue. No more are claimed than may call."""

    executor_type = "provider"
    resumes = True

    def __init__(self, args: ProviderArgs, handle: DeploymentHandle, queue: str, settings: Settings) -> None:
        reserved = args.jobs_per_replica - 1
        super().__init__(
            PoolArgs(name=PROVIDERS, queue=queue, model=None, num_replicas=args.num_replicas, reserved_tasks=reserved),
            handle,
        )
        jobs = settings.provider_refiner_jobs if queue == REFINERS else settings.provider_jobs
        self._most = min([jobs, *_limits_of(queue, settings)])

    def capacity(self) -> int:
        return min(super().capacity(), self._most)


def _limits_of(queue: str, settings: Settings) -> list[int]:
    """The limits of the vendor behind a queue; none if there are several."""
    vendors = set[str]()
    for provider in all_providers().values():
        if isinstance(provider, RemoteProvider) and provider.queue_for(settings) == queue:
            # Without its settings it gets no tasks.
            with contextlib.suppress(InvalidInput):
                vendors |= {account.vendor for account in provider.accounts(settings)}
    if len(vendors) != 1 or (limit := settings.provider_limits.get(vendors.pop())) is None:
        return []
    return [one for one in (limit.concurrency, limit.per_minute) if one is not None]


class RemoteContext(LocalWorkerContext):
    """Implements `compute.providers.base.RemoteWorker`."""

    def __init__(self, settings: Settings, objects: ObjectStore, executor: str, jobs: int, calls: OpenCalls) -> None:
        """`jobs` run at the same time, of which few compute."""
        super().__init__(settings, objects, None, executor, slots=jobs)
        self._calls = calls

    @property
    def settings(self) -> Settings:
        return self._settings

    def calls(self, owner: Owner) -> JobCalls:
        return self._calls.of(owner)


class ProviderWorker(JobWorker):
    """One replica. It calls vendors for its jobs, and stops calls whose tasks have ended."""

    gather_seconds = 0.02

    async def __init__(self, queues: list[str], jobs: int) -> None:  # type: ignore[misc]
        """`queues`: whose tasks it takes; `jobs`: as many as are handed to it at a time."""
        settings = get_settings()
        context = serve.get_replica_context()
        executor = f"{context.deployment}#{context.replica_id.unique_id}"
        super().__init__(settings, Station(executor, tuple(queues), jobs, jobs))
        begin_process(settings)
        if not settings.database_url:
            raise ValueError("DATABASE_URL is not set")
        await asyncio.to_thread(require_schema, settings.database_url)
        self._opened = AsyncExitStack()
        database = Database.of(settings)
        self._opened.push_async_callback(database.close)
        objects = open_store(settings)
        self._opened.push_async_callback(objects.close)
        client = await self._opened.enter_async_context(
            GuardedClient(settings.media_allowed_hosts, settings.media_timeout_seconds)
        )
        calls = await self._opened.enter_async_context(open_calls(settings, database, objects, client))
        self._worker = RemoteContext(settings, objects, executor, jobs, calls)
        keeper = CallKeeper(database, calls.ledger, calls.http, settings, calls.under_way)
        self._keeping = asyncio.create_task(keeper.run(), name="stopping calls of ended tasks")

    def worker(self) -> AbstractAsyncContextManager[LocalWorkerContext]:
        return nullcontext(self._worker)

    async def check_health(self) -> None:
        """Called by Serve at intervals; it replaces a replica that is unwell.

        Raises:
            WorkerLost: a thread of this replica hangs.
            RuntimeError: a loop has ended.
        """
        await super().check_health()
        if self._keeping.done():
            raise RuntimeError(f"{self._keeping.get_name()} has ended") from self._keeping.exception()

    async def __del__(self) -> None:
        """Awaited by Serve when the replica is stopped gracefully."""
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        await self._opened.aclose()
        await end_process()
