"""Opens what paid calls need, for a process that makes some."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from compute.db.session import Database
from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.providers.calls.files import ResultFiles
from compute.providers.calls.http import HttpClient
from compute.providers.calls.job import JobCalls
from compute.providers.calls.record import CallPolicy, Owner
from compute.providers.calls.under_way import UnderWay
from compute.providers.ledger.gate import AccountLimits, Limits
from compute.providers.ledger.postgres import PostgresLedger
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.tasks.prices import PriceTable

__all__ = ["OpenCalls", "open_calls", "open_ledger"]

_FETCH_SECONDS = 120.0
_CLOSE_SECONDS = 30.0
_LATE_SECONDS = 10.0
_WEBHOOKS = "api/v1/providers/fal/webhook"


@dataclass(frozen=True, slots=True)
class OpenCalls:
    """What paid calls are made with."""

    ledger: PostgresLedger
    http: HttpClient
    files: ResultFiles
    policy: CallPolicy
    under_way: UnderWay

    def of(self, owner: Owner) -> JobCalls:
        """The calls of one owner."""
        return JobCalls(owner, self.ledger, self.http, self.files, self.policy, self.under_way)


@asynccontextmanager
async def open_ledger(settings: Settings, database: Database) -> AsyncIterator[PostgresLedger]:
    """A ledger that is being written until the block ends; then all that it was told is written, if the database is not
    away for too long. What is not written then is found to be uncertain later."""
    limits = {
        vendor: AccountLimits(limit.concurrency, limit.per_minute) for vendor, limit in settings.provider_limits.items()
    }
    ledger = PostgresLedger(
        database,
        limits=Limits(limits),
        budget_seconds=settings.provider_budget_seconds,
        price=PriceTable(settings.prices).amount,
        answer_seconds=settings.evaluation_timeout_seconds + _LATE_SECONDS,
    )
    running = asyncio.create_task(ledger.run(), name="writing the ledger of paid calls")
    try:
        yield ledger
    finally:
        ledger.close()
        await asyncio.wait({running}, timeout=_CLOSE_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def open_calls(
    settings: Settings, database: Database, objects: ObjectStore, client: GuardedClient
) -> AsyncIterator[OpenCalls]:
    """Makes calls until the block ends. Nothing is contacted before the first one."""
    most = settings.provider_result_max_bytes
    # What a vendor returns may be larger than what a user may send.
    media = MediaLoader(settings.model_copy(update={"media_max_bytes": most}), client)
    files = ResultFiles(objects, client, media, max_bytes=most, seconds=_FETCH_SECONDS)
    policy = CallPolicy(
        wait=settings.provider_wait_seconds,
        fetch=_FETCH_SECONDS,
        uncertain=settings.provider_uncertain_seconds,
        webhook_url=f"{settings.public_url.rstrip('/')}/{_WEBHOOKS}" if settings.public_url else None,
    )
    async with open_ledger(settings, database) as ledger, HttpClient() as http:
        under_way = UnderWay()
        try:
            yield OpenCalls(ledger, http, files, policy, under_way)
        finally:
            await under_way.wait(_CLOSE_SECONDS)
