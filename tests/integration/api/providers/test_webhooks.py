"""fal's webhook: what it changes, and what it takes to be believed. Every one is sent over HTTP by the stand-in."""

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from compute.db.session import Database
from compute.db.tables import ProviderCall
from compute.providers.calls.call import Call
from compute.providers.ledger.postgres import PostgresLedger
from compute.settings import Settings
from tests.integration.api.providers.test_calls import FAL_KEY, made
from tests.integration.providers.test_ledger import open_ledger
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import from_nginx
from tests.providers.standins.webhooks import Delivery, Forgery


@pytest.fixture
async def fal() -> AsyncIterator[Fal]:
    async with Fal(FAL_KEY) as stand_in:
        yield stand_in


@pytest.fixture
def settings(settings: Settings, fal: Fal) -> Settings:
    jwks = f"{fal.url('rest')}/.well-known/jwks.json"
    return settings.model_copy(update={"fal_key": SecretStr(fal.key), "fal_jwks_url": jwks})


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    async with open_ledger(database) as ledger:
        yield ledger


@pytest.fixture
async def call(database: Database, ledger: PostgresLedger) -> Call:
    return await made(database, ledger)


def delivery(base_url: str, call_id: object, request_id: str = "request-1", *, padding: int = 0) -> Delivery:
    said = {"request_id": request_id, "status": "OK", "payload": {"images": [], "padding": "x" * padding}}
    address = f"{base_url}/api/v1/providers/fal/webhook/{call_id}"
    return Delivery(address, json.dumps(said).encode(), request_id, "COMPLETED")


async def row(database: Database, call: Call) -> ProviderCall:
    async with database.transaction() as session:
        return await session.get_one(ProviderCall, call.id)


@pytest.mark.parametrize("uncertain", [False, True])
async def test_a_call_that_nobody_knew_is_found(
    base_url: str, database: Database, ledger: PostgresLedger, fal: Fal, call: Call, uncertain: bool
) -> None:
    if uncertain:
        await ledger.uncertain(call.id, "no answer", [])
    assert await fal.webhooks.send(delivery(base_url, call.id)) == 204
    found = await row(database, call)
    assert (found.state, found.vendor_id, found.settled, found.error) == ("ACCEPTED", "request-1", "webhook", None)


async def test_who_missed_the_answer_does_not_take_it_back(
    base_url: str, database: Database, ledger: PostgresLedger, fal: Fal, call: Call
) -> None:
    await fal.webhooks.send(delivery(base_url, call.id))
    await ledger.uncertain(call.id, "no answer", [])
    assert (await row(database, call)).state == "ACCEPTED"
    await ledger.accepted(call.id, "request-1", {"status_url": "http://x/status"}, [])
    assert (await row(database, call)).addresses == {"status_url": "http://x/status"}


async def test_what_comes_twice_or_late_changes_nothing(
    base_url: str, database: Database, ledger: PostgresLedger, fal: Fal, call: Call
) -> None:
    await ledger.accepted(call.id, "request-0", {}, [])
    assert await fal.webhooks.send(delivery(base_url, call.id)) == 204
    assert (await row(database, call)).vendor_id == "request-0"
    await ledger.cancelled(call.id, "its task has ended", [])
    assert await fal.webhooks.send(delivery(base_url, call.id, "request-0")) == 204
    found = await row(database, call)
    assert (found.state, found.settled) == ("CANCELLED", None)


@pytest.mark.parametrize("forgery", Forgery)
async def test_a_forged_one_is_refused(
    base_url: str, database: Database, fal: Fal, call: Call, forgery: Forgery
) -> None:
    assert await fal.webhooks.send(delivery(base_url, call.id), forgery=forgery) == 401
    assert (await row(database, call)).state == "INTENT"


@pytest.mark.parametrize(("skew", "status"), [(-290, 204), (290, 204), (-310, 401), (310, 401)])
async def test_a_stale_one_is_refused(base_url: str, fal: Fal, call: Call, skew: float, status: int) -> None:
    assert await fal.webhooks.send(delivery(base_url, call.id), skew=skew) == status


async def test_one_of_no_call_finds_nothing(base_url: str, fal: Fal) -> None:
    assert await fal.webhooks.send(delivery(base_url, uuid4())) == 404
    assert await fal.webhooks.send(delivery(base_url, "nothing")) == 404


async def test_one_that_is_too_large_is_refused(base_url: str, database: Database, fal: Fal, call: Call) -> None:
    assert await fal.webhooks.send(delivery(base_url, call.id, padding=2**20)) == 413
    assert (await row(database, call)).state == "INTENT"
    assert await fal.webhooks.send(delivery(base_url, call.id, padding=2**19)) == 204


async def test_keys_are_asked_for_once_and_not_for_every_stranger(base_url: str, fal: Fal, call: Call) -> None:
    for _ in range(3):
        assert await fal.webhooks.send(delivery(base_url, call.id)) == 204
    for _ in range(5):
        assert await fal.webhooks.send(delivery(base_url, call.id), forgery=Forgery.KEY) == 401
    assert len(fal.arrived("jwks")) == 1


async def test_while_the_keys_cannot_be_had_fal_is_asked_to_come_again(base_url: str, fal: Fal, call: Call) -> None:
    fal.faults.on("jwks", from_nginx())
    assert await fal.webhooks.send(delivery(base_url, call.id)) == 503


@pytest.mark.parametrize("path", ["/providers/fal/webhook", "/providers/fal/webhooks/x", "/providers/calls"])
async def test_nothing_else_is_open(anonymous: httpx.AsyncClient, path: str) -> None:
    assert (await anonymous.post(f"/api/v1{path}", content=b"{}")).status_code in (401, 404, 405)
    assert (await anonymous.get(f"/api/v1{path}")).status_code in (401, 404, 405)
