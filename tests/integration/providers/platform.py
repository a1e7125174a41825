"""The API, a Dispatcher and workers in one process, before stand-ins of vendors and a real database."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import ProviderCall
from compute.deployments.context import LocalWorkerContext
from compute.deployments.providers import RemoteContext
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.outbound.client import GuardedClient
from compute.providers.ledger.keeper import CallKeeper
from compute.providers.ledger.opening import open_calls
from compute.providers.registry import all_providers, remote_queues
from compute.schemas.enums import ProviderType
from compute.settings import Settings
from compute.storage.factory import open_store
from compute.tasks.prices import PriceTable
from compute.worker.protocol import Job, WorkEvent
from compute.worker.vital_signs import alive_seconds, with_vital_signs
from compute.worker.watchdog import Watchdog
from tests.integration.api.conftest import KEY, serving_api
from tests.patience import PATIENCE
from tests.servers import PLAIN_HTTP

__all__ = ["Platform", "open_platform"]

LEASE = 15.0
JOBS = 100


@dataclass
class Hands:
    """A pool in this process. What runs may be dropped as if its worker had been killed."""

    worker: LocalWorkerContext
    queue: str
    executor_type: str = "in-process"
    resumes: bool = True
    runs: set["asyncio.Task[Any]"] = field(default_factory=set)

    def capacity(self) -> int:
        return JOBS

    def ready(self) -> int:
        return JOBS

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        provider = all_providers()[ProviderType(job.spec.get("provider_type", ProviderType.LOCAL))]
        work = with_vital_signs(provider.run(job, self.worker), Watchdog(), alive_seconds(LEASE))
        async with aclosing(work) as events:
            async for event in events:
                yield event


@dataclass
class Platform:
    """What runs, and a client of it. `dispatcher` may be killed, and another one started."""

    settings: Settings
    database: Database
    api: httpx.AsyncClient
    pools: Sequence[Hands]
    keeper: CallKeeper

    async def submit(self, task_type: str, **fields: Any) -> dict[str, Any]:
        """A task that was accepted."""
        answer = await self.api.post("/tasks/", json={"task_type": task_type, "origin_instance": "test", **fields})
        assert answer.status_code == 201, answer.text
        accepted: dict[str, Any] = answer.json()
        return accepted

    async def task(self, task_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.api.get(f"/tasks/{task_id}")).json()
        return answer

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while (task := await self.task(task_id))["status"] not in statuses:
                await asyncio.sleep(0.02)
            return task

    async def calls(self, task_id: str) -> list[ProviderCall]:
        """The calls of a task, in their order."""
        async with self.database.transaction() as session:
            return list(
                await session.scalars(
                    select(ProviderCall).where(ProviderCall.task_id == task_id).order_by(ProviderCall.created_at)
                )
            )

    @asynccontextmanager
    async def dispatching(self, *, max_retries: int = 1) -> AsyncIterator[None]:
        """A Dispatcher until the block ends, which then hands back what is in flight."""
        policy = DispatchPolicy(lease=LEASE, poll=0.1, pulse=0.05, beat=0.2, retry=RetryPolicy(max_retries, 0.01))
        store = PostgresDispatchStore(self.database, PriceTable(self.settings.prices))
        work = asyncio.create_task(Dispatcher(store, self.pools, policy, "test").run())
        try:
            yield
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work


@asynccontextmanager
async def open_platform(settings: Settings, model: Any = None) -> AsyncIterator[Platform]:
    """Everything but a Dispatcher. `model` draws for LOCAL."""
    async with contextlib.AsyncExitStack() as stack:
        database = Database.of(settings)
        stack.push_async_callback(database.close)
        objects = open_store(settings)
        stack.push_async_callback(objects.close)
        client = await stack.enter_async_context(GuardedClient(settings.media_allowed_hosts))
        calls = await stack.enter_async_context(open_calls(settings, database, objects, client))
        url = await stack.enter_async_context(serving_api(settings, elsewhere=tuple(remote_queues())))
        api = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"{url}/api/v1",
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=PATIENCE,
                verify=PLAIN_HTTP,
            )
        )
        remote = RemoteContext(settings, objects, "providers#1", JOBS, calls)
        pools = [Hands(remote, queue) for queue in sorted(remote_queues())]
        if model is not None:
            pools.append(Hands(LocalWorkerContext(settings, objects, model, "painter#1"), "inference", resumes=False))
        keeper = CallKeeper(database, calls.ledger, calls.http, settings, calls.under_way)
        yield Platform(settings, database, api, pools, keeper)
