"""The Dispatcher as a Serve deployment: started with the application, replaced when it dies."""

import asyncio
from datetime import timedelta
from functools import partial

from ray import serve
from ray.serve.handle import DeploymentHandle

from compute.db.migrations.revision import require_schema
from compute.db.session import Database
from compute.deployments.args import PoolArgs, ProviderArgs
from compute.deployments.kept import KeptLoops
from compute.deployments.pool import ServePool
from compute.deployments.process import begin_process, cluster_name, end_process
from compute.deployments.providers import ProviderPool
from compute.deployments.replicas import ReplicaCounter, ReplicaDirectory
from compute.deployments.roll import WorkerRoll
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.metrics.sums import MetricWriter
from compute.monitoring.fold import Folding
from compute.outbound.client import GuardedClient
from compute.retention.loop import RetentionLoop
from compute.retention.pruner import Pruner
from compute.settings import Settings, get_settings
from compute.storage.factory import open_store
from compute.tasks.prices import PriceTable
from compute.telemetry.lag import watch_event_loop
from compute.webhooks.post import SignedPost
from compute.webhooks.rows import PostgresDeliveryStore
from compute.webhooks.secret import load_secret
from compute.webhooks.sender import Limits, SendPolicy, WebhookSender
from compute.worker.vitals import Vitals

__all__ = ["DispatcherDeployment"]


class DispatcherDeployment:
    """Runs the dispatch loops, the webhook sender and retention until the replica is stopped."""

    async def __init__(  # type: ignore[misc]
        self,
        pools: list[tuple[PoolArgs, DeploymentHandle, DeploymentHandle | None]],
        providers: tuple[ProviderArgs, list[str], DeploymentHandle] | None,
    ) -> None:
        """`pools`: for each pool its arguments, the handle of its replicas, and that of its standbys if it has any.
        `providers`: the arguments of the replicas that call providers elsewhere, their queues and their handle."""
        settings = get_settings()
        begin_process(settings)
        if not settings.database_url:
            raise ValueError("DATABASE_URL is not set")
        await asyncio.to_thread(require_schema, settings.database_url)
        context = serve.get_replica_context()
        serving = [ServePool(args, handle, standby) for args, handle, standby in pools]
        if providers is not None:
            args, queues, handle = providers
            serving += [ProviderPool(args, handle, queue, settings) for queue in queues]
        self._database = Database.of(settings)
        self._objects = open_store(settings)
        self._client = GuardedClient(settings.media_allowed_hosts, settings.webhook_timeout_seconds)
        owner = f"dispatcher#{context.replica_id.unique_id}"
        prices, keep_audit = PriceTable(settings.prices), timedelta(days=settings.audit_days)
        store = PostgresDispatchStore(self._database, prices, keep_audit=keep_audit)
        self._dispatcher = Dispatcher(store, serving, _policy(settings), owner)
        directory = ReplicaDirectory(context.app_name, serving)
        counter = ReplicaCounter(directory.running, serving)
        self._roll = WorkerRoll(self._database, directory, cluster_name())
        self._deliveries = PostgresDeliveryStore(self._database)
        sender = WebhookSender(
            self._deliveries,
            SignedPost(self._client, secret=load_secret(settings), timeout_seconds=settings.webhook_timeout_seconds),
            timeout_seconds=settings.webhook_timeout_seconds,
            policy=_send_policy(settings),
        )
        self._loops = KeptLoops()
        self._loops.work("dispatching", self._dispatcher.run())
        self._loops.work("sending webhooks", sender.run())
        self._loops.work("counting replicas", counter.run())
        self._loops.observe("noting workers", self._roll.run)
        self._loops.observe("counting tasks", Folding(self._database).run)
        self._loops.observe("writing figures", MetricWriter(self._database).run)
        self._loops.observe("watching the event loop", partial(watch_event_loop, "dispatcher"))
        if settings.retention_days is not None:
            pruner = Pruner(self._database, self._objects, timedelta(days=settings.retention_days), owner)
            self._loops.work("forgetting", RetentionLoop(pruner).run())

    async def heard_of(self, vitals: Vitals) -> None:
        """Called by replicas that take tasks, every two seconds."""
        self._roll.heard_of(vitals)

    async def check_health(self) -> None:
        """Called by Serve at intervals; a loop that ended or hangs means that this replica must be replaced,
        unless it only observes.

        Raises:
            RuntimeError: a loop of its work has ended, or has not completed a round for too long.
        """
        # A coroutine, because Serve calls plain functions from a thread, which has no event loop.
        self._loops.check()
        self._dispatcher.check()

    async def __del__(self) -> None:
        """Awaited by Serve when the replica is stopped gracefully: hands back the tasks in flight."""
        await self._loops.close()
        await self._client.close()
        await self._deliveries.close()
        await self._objects.close()
        await self._database.close()
        await end_process()


def _policy(settings: Settings) -> DispatchPolicy:
    return DispatchPolicy(
        lease=settings.lease_seconds,
        task_timeout=settings.task_timeout_seconds,
        queued_timeout=settings.queued_timeout_seconds,
        retry=RetryPolicy(settings.max_retries, settings.retry_backoff_seconds),
    )


def _send_policy(settings: Settings) -> SendPolicy:
    return SendPolicy(
        in_flight=settings.webhook_concurrency,
        per_receiver=min(settings.webhook_receiver_concurrency, settings.webhook_concurrency),
        limits=Limits(settings.webhook_max_attempts, settings.webhook_max_age_seconds),
    )
