"""Calls without a task, whose process was killed."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update

from compute.db.session import Database
from compute.db.tables import ProviderCall
from compute.providers.calls.http import HttpClient
from compute.providers.calls.under_way import UnderWay
from compute.providers.ledger.keeper import CallKeeper
from compute.settings import Settings
from tests.integration.providers.test_ledger import begun, intent, open_ledger


async def test_a_call_that_nobody_waits_for_becomes_uncertain(database: Database) -> None:
    async with open_ledger(database) as ledger, HttpClient() as http:
        old, fresh = [await begun(ledger, intent(None, part)) for part in ("evaluation/1", "evaluation/2")]
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        async with database.transaction() as session:
            await session.execute(update(ProviderCall).where(ProviderCall.id == old.id).values(created_at=long_ago))
        await CallKeeper(database, ledger, http, Settings(), UnderWay()).look()
    async with database.transaction() as session:
        states = {call.id: call.state for call in await session.scalars(select(ProviderCall))}
    assert states == {old.id: "UNCERTAIN", fresh.id: "INTENT"}
