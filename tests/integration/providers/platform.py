"""The API, a Dispatcher and workers in one process, before stand-ins of vendors and a real database."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
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
from tests.providers.standins.fal import Fal
from tests.providers.standins.jobs import Plan
from tests.providers.standins.openai import OpenAI
from tests.servers import PLAIN_HTTP

__all__ = ["AT_FAL", "HELD", "OpenPlatform", "Platform", "leading_to", "open_platform"]

LEASE = 15.0
JOBS = 100
POLL = 0.05
AT_FAL = {"prompt": "a red coat", "width": 64, "height": 64, "seed": 7, "provider_type": "FAL_STANDARD"}
HELD = Plan(("IN_QUEUE", "IN_PROGRESS", "COMPLETED"), held=True)


@dataclass
class Hands:
    """A pool in this process. `runs` are the tasks in which its jobs are under way."""

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
        async with aclosing(with_vital_signs(self._work(job), Watchdog(), alive_seconds(LEASE))) as events:
            async for event in events:
                yield event

    async def _work(self, job: Job) -> AsyncGenerator[WorkEvent]:
        run = asyncio.current_task()
        assert run is not None
        self.runs.add(run)
        provider = all_providers()[ProviderType(job.spec.get("provider_type", ProviderType.LOCAL))]
        try:
            async with aclosing(provider.run(job, self.worker)) as events:
                async for event in events:
                    yield event
        finally:
            self.runs.discard(run)


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

    async def calls(self, *task_ids: str) -> list[ProviderCall]:
        """The calls of tasks, in their order."""
        asked = select(ProviderCall).where(ProviderCall.task_id.in_(task_ids)).order_by(ProviderCall.created_at)
        async with self.database.transaction() as session:
            return list(await session.scalars(asked))

    async def until_calls(self, holds: Callable[[list[ProviderCall]], bool], *task_ids: str) -> list[ProviderCall]:
        """The calls of tasks, once this holds of them."""
        async with asyncio.timeout(PATIENCE):
            while not holds(calls := await self.calls(*task_ids)):
                await asyncio.sleep(0.02)
            return calls

    async def until_accepted(self, task_id: str) -> None:
        """Wait until the ledger has the vendor's id of a task's call."""
        await self.until_calls(lambda calls: any(call.vendor_id for call in calls), task_id)

    async def until_states(self, task_id: str, *states: str) -> list[ProviderCall]:
        """The calls of a task, once these are their states."""
        return await self.until_calls(lambda calls: [call.state for call in calls] == [*states], task_id)

    async def until_stopped(self) -> None:
        """Wait until a run is told to stop. It may still be waiting for an answer then."""
        async with asyncio.timeout(PATIENCE):
            while not any(run.cancelling() for pool in self.pools for run in pool.runs):
                await asyncio.sleep(0.01)

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


OpenPlatform = Callable[..., AbstractAsyncContextManager[Platform]]


def leading_to(stand_in: Fal | OpenAI) -> dict[str, Any]:
    """Settings that lead to a stand-in."""
    if isinstance(stand_in, Fal):
        return {"fal_key": stand_in.key, "fal_queue_url": stand_in.url("queue")}
    return {"openai_api_key": stand_in.key, "openai_base_url": f"{stand_in.url()}/v1"}


@asynccontextmanager
async def open_platform(settings: Settings, model: Any = None) -> AsyncIterator[Platform]:
    """Everything but a Dispatcher. `model` draws for LOCAL. Jobs of vendors are looked at soon."""
    async with contextlib.AsyncExitStack() as stack:
        database = Database.of(settings)
        stack.push_async_callback(database.close)
        objects = open_store(settings)
        stack.push_async_callback(objects.close)
        client = await stack.enter_async_context(GuardedClient(settings.media_allowed_hosts))
        calls = await stack.enter_async_context(open_calls(settings, database, objects, client))
        calls = replace(calls, policy=replace(calls.policy, poll=POLL))
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
