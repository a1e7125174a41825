"""The resources of an ingress process: opened once at start-up, closed at the end."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

import psycopg

from compute.api.access.audit import AuditLog
from compute.api.access.rates import RateLimiter
from compute.api.access.ring import KeyRing
from compute.api.health.readiness import Readiness
from compute.api.links import Links
from compute.api.loops import Loops
from compute.api.metrics.own import open_metrics
from compute.api.paths import IMAGES
from compute.api.tasks.watch import TaskWatcher
from compute.db.migrations.revision import require_schema
from compute.db.session import Database
from compute.evaluation.evaluator import Evaluator
from compute.events.notify import Notifier
from compute.media.loader import MediaLoader
from compute.metrics.collection import MetricCollection
from compute.metrics.sums import MetricWriter
from compute.monitoring.fold import Folding
from compute.outbound.client import GuardedClient
from compute.providers.ledger.opening import OpenCalls, open_calls
from compute.providers.vendors.fal.webhooks import FalWebhooks
from compute.requests.serving import Serving
from compute.requests.tenants import files_of
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store
from compute.storage.links.secret import load_link_secrets
from compute.storage.links.signed import LinkSigner
from compute.tasks.submission.writer import TaskWriter
from compute.telemetry.lag import watch_event_loop

__all__ = ["Resources", "open_resources"]

_log = logging.getLogger(__name__)
_FOLD_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Resources:
    """What routes work with. `tenant` is the one to whose work the caller is bound; None for a caller who is free."""

    settings: Settings
    serving: Serving
    database: Database
    keys: KeyRing
    rates: RateLimiter
    audit: AuditLog
    objects: ObjectStore
    client: GuardedClient
    media: MediaLoader
    notifier: Notifier
    writer: TaskWriter
    links: Links
    watcher: TaskWatcher
    loops: Loops
    readiness: Readiness
    evaluator: Evaluator
    calls: OpenCalls
    fal_webhooks: FalWebhooks
    metrics: MetricCollection
    tenant: str | None = None

    @property
    def link_signer(self) -> LinkSigner:
        return self.links.signer

    def confined_to(self, tenant: str) -> "Resources":
        """The same as a caller sees them who is bound to a tenant: rows and files of others are not there."""
        database = self.database.confined_to(tenant)
        return replace(self, database=database, objects=files_of(tenant, self.objects, database), tenant=tenant)


@contextlib.asynccontextmanager
async def open_resources(settings: Settings, serving: Serving) -> AsyncIterator[Resources]:
    """Open everything. Of what is contacted, the database may be away: it is waited for by the requests.

    Raises:
        SchemaMismatch: the database has not been migrated for this version.
        ValueError: DATABASE_URL or API_KEY is not set, or the storage settings or secrets are not as they must be.
        OSError: COMPUTE_HOME can be neither read nor written.
    """
    serving = serving.with_settings(settings)
    secrets = await _checked(settings)
    async with contextlib.AsyncExitStack() as stack:
        database = Database.of(settings)
        stack.push_async_callback(database.close)
        keys, rates, audit = KeyRing(database), RateLimiter(database), AuditLog(database)
        for close in (keys.close, rates.close, audit.close):
            stack.push_async_callback(close)
        objects = open_store(settings)
        stack.push_async_callback(objects.close)
        client = await stack.enter_async_context(
            GuardedClient(settings.media_allowed_hosts, settings.media_timeout_seconds)
        )
        notifier, watcher = Notifier(database), TaskWatcher(database)
        loops = Loops()
        stack.push_async_callback(loops.close)
        loops.keep("sending notifications", notifier.run)
        loops.keep("watching tasks", watcher.run)
        # The Dispatcher does it as well; while there is none, tasks are accepted all the same.
        loops.observe("counting tasks", Folding(database, seconds=_FOLD_SECONDS).run)
        loops.observe("writing the audit log", audit.run)
        loops.observe("noting when keys were used", keys.run)
        loops.observe("watching the event loop", partial(watch_event_loop, "ingress"))
        loops.observe("writing figures", MetricWriter(database).run)
        metrics = await stack.enter_async_context(open_metrics(database, serving, settings))
        readiness = Readiness(database, objects, serving, loops)
        stack.push_async_callback(readiness.close)
        media = MediaLoader(settings, client)
        calls = await stack.enter_async_context(open_calls(settings, database, objects, client))
        writer = TaskWriter(database, notifier)
        stack.push_async_callback(writer.close)
        yield Resources(
            settings=settings,
            serving=serving,
            database=database,
            keys=keys,
            rates=rates,
            audit=audit,
            objects=objects,
            client=client,
            media=media,
            notifier=notifier,
            writer=writer,
            links=Links(objects, LinkSigner(IMAGES, secrets), settings.link_ttl_seconds, settings),
            watcher=watcher,
            loops=loops,
            readiness=readiness,
            evaluator=Evaluator(settings, database, calls.of),
            calls=calls,
            fal_webhooks=FalWebhooks(calls.http, settings.fal_jwks_url),
            metrics=metrics,
        )


async def _checked(settings: Settings) -> tuple[bytes, ...]:
    """The secrets of links, if everything is there that must be."""
    if not settings.database_url:
        raise ValueError("DATABASE_URL is not set")
    if settings.api_key is None:
        raise ValueError("API_KEY is not set")
    secrets = await asyncio.to_thread(load_link_secrets, settings)
    await asyncio.to_thread(_check_schema, settings.database_url)
    return secrets


def _check_schema(database_url: str) -> None:
    try:
        require_schema(database_url)
    except psycopg.OperationalError as error:
        _log.warning("the schema of the database was not checked, it is out of reach: %s", error)
