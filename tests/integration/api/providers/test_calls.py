"""Providers and paid calls as an operator sees them, and the keys that show them."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from compute.db.session import Database
from compute.db.tables import ProviderAccount, ProviderCall, Task
from compute.providers.calls.account import Account
from compute.providers.calls.call import Call, Intent
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.ledger.postgres import PostgresLedger
from compute.schemas.enums import ProviderType, TaskStatus
from compute.settings import Settings
from tests.integration.providers.test_ledger import open_ledger
from tests.integration.rows import add

ADMIN = {"Authorization": "Bearer admin-key"}
FAL_KEY = "key-id:key-secret"
LINE = ServiceRequest("POST", "queue.fal.run", "/fal-ai/flux/dev", 200, 12.5, "r-1")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"admin_api_key": SecretStr("admin-key"), "fal_key": SecretStr(FAL_KEY)})


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    async with open_ledger(database) as ledger:
        yield ledger


async def made(database: Database, ledger: PostgresLedger, task: Task | None = None, part: str = "image") -> Call:
    """A call that has left."""
    task = task or await add(database, fence=1, provider_type="FAL_STANDARD")
    async with database.transaction() as session:
        await session.execute(update(Task).where(Task.id == task.id).values(status=TaskStatus.EXECUTING))
    account, endpoint = Account("fal", FAL_KEY), "queue.fal.run/fal-ai/flux/dev"
    call = await ledger.begin(Intent(part, "FAL_STANDARD", account, endpoint, task.id, 1))
    assert isinstance(call, Call)
    return call


async def provider(api: httpx.AsyncClient, name: str) -> dict[str, Any]:
    answer = await api.get("/providers")
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()
    return next(one for one in listed if one["name"] == name)


async def test_every_provider_says_what_it_can_do_and_which_setting_it_lacks(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/providers")).json()
    assert {one["name"] for one in listed} == set(ProviderType)
    fal = await provider(api, "FAL_STANDARD")
    assert (fal["queue"], fal["ready"], fal["missing"]) == ("fal", True, None)
    assert "TEXT_TO_IMAGE" in fal["capabilities"]["GENERATION"]
    fashn = await provider(api, "FASHN_STANDARD")
    assert (fashn["ready"], fashn["accounts"]) == (False, [])
    assert "FASHN_API_KEY" in fashn["missing"]
    local = await provider(api, "LOCAL")
    assert (local["ready"], local["queue"], local["accounts"]) == (True, None, [])


async def test_a_provider_shows_its_breaker_and_calls_and_no_key(
    api: httpx.AsyncClient, database: Database, ledger: PostgresLedger
) -> None:
    (before,) = (await provider(api, "FAL_STANDARD"))["accounts"]
    assert before["breaker"] == "CLOSED"
    calls = [await made(database, ledger) for _ in range(5)]
    await made(database, ledger)
    for call in calls:
        await ledger.uncertain(call.id, "no answer", [])
    fal = await provider(api, "FAL_STANDARD")
    assert (fal["in_flight"], fal["uncertain"]) == (1, 5)
    (account,) = fal["accounts"]
    assert (account["vendor"], account["breaker"], account["failures"]) == ("fal", "OPEN", 5)
    assert account["open_until"] is not None
    async with database.transaction() as session:
        await session.execute(update(ProviderAccount).values(open_until=None))
    (account,) = (await provider(api, "FAL_STANDARD"))["accounts"]
    assert account["breaker"] == "HALF_OPEN"
    shown = (await api.get("/providers")).text
    assert "key-secret" not in shown


async def test_calls_are_listed_for_an_administrator_newest_first(
    api: httpx.AsyncClient, database: Database, ledger: PostgresLedger
) -> None:
    first = await made(database, ledger)
    task = await add(database, fence=1)
    second, third = await made(database, ledger, task, "a"), await made(database, ledger, task, "b")
    await ledger.accepted(third.id, "r-1", {"status_url": "http://x/secret-address"}, [LINE])
    await ledger.uncertain(second.id, "no answer", [])
    said = (await api.get("/providers/calls", headers=ADMIN)).json()
    assert [one["id"] for one in said["calls"]] == [str(call.id) for call in (third, second, first)]
    assert {state: number for state, number in said["counts"].items() if number} == {
        "INTENT": 1,
        "ACCEPTED": 1,
        "UNCERTAIN": 1,
    }
    for query, expected in [
        ({"state": "UNCERTAIN"}, [second]),
        ({"task_id": str(task.id)}, [third, second]),
        ({"provider": "FASHN_STANDARD"}, []),
        ({"provider": "FAL_STANDARD", "limit": "1"}, [third]),
    ]:
        listed = (await api.get("/providers/calls", headers=ADMIN, params=query)).json()["calls"]
        assert [one["id"] for one in listed] == [str(call.id) for call in expected], query
    page = await api.get("/providers/calls", headers=ADMIN, params={"limit": "2"})
    rest = (await api.get(page.links["next"]["url"], headers=ADMIN)).json()
    assert [one["id"] for one in rest["calls"]] == [str(first.id)]


async def test_one_call_is_shown_with_its_requests_and_without_addresses(
    api: httpx.AsyncClient, database: Database, ledger: PostgresLedger
) -> None:
    call = await made(database, ledger)
    await ledger.accepted(call.id, "r-1", {"status_url": "http://x/secret-address"}, [LINE])
    await ledger.collected(call.id, {"files": [{"path": "a.png"}]}, {"images": 1}, None, [LINE])
    shown = (await api.get(f"/providers/calls/{call.id}", headers=ADMIN)).json()
    assert (shown["state"], shown["vendor_id"], shown["units"]["images"]) == ("COLLECTED", "r-1", 1)
    assert (shown["amount"], shown["currency"], shown["files"]) == (0.04, "USD", ["a.png"])
    assert [(line["method"], line["status"], line["request_id"]) for line in shown["requests"]] == [
        ("POST", 200, "r-1")
    ] * 2
    assert "secret" not in str(shown)


async def test_calls_are_for_administrators_alone(api: httpx.AsyncClient) -> None:
    for path in ("/providers/calls", f"/providers/calls/{uuid4()}"):
        assert (await api.get(path)).status_code == 403
        assert (await api.get(path, headers={"Authorization": "Bearer wrong-key"})).status_code == 401
    settle = await api.post(f"/providers/calls/{uuid4()}/settle", json={"action": "give_up"})
    assert settle.status_code == 403


async def test_what_is_no_call_is_refused(api: httpx.AsyncClient) -> None:
    assert (await api.get(f"/providers/calls/{uuid4()}", headers=ADMIN)).status_code == 404
    wrong = await api.get("/providers/calls/nothing", headers=ADMIN)
    assert (wrong.status_code, "`call_id`" in wrong.json()["detail"]) == (400, True)
    for query in ({"task_id": "nothing"}, {"state": "LOST"}, {"provider": "nobody"}):
        refused = await api.get("/providers/calls", headers=ADMIN, params=query)
        assert refused.status_code == 400, query
        assert f"`{next(iter(query))}`" in refused.json()["detail"]


async def test_a_task_shows_the_requests_that_were_made_for_it(
    api: httpx.AsyncClient, database: Database, ledger: PostgresLedger
) -> None:
    task = await add(database, fence=1, provider_type="FAL_STANDARD")
    call = await made(database, ledger, task)
    await ledger.accepted(call.id, "r-1", {}, [LINE])
    shown = (await api.get(f"/tasks/{task.id}")).json()
    (line,) = shown["service_requests"]
    assert (line["call_id"], line["part"], line["host"], line["status"]) == (
        str(call.id),
        "image",
        "queue.fal.run",
        200,
    )
    listed = (await api.get("/tasks/")).json()
    assert [one["service_requests"] for one in listed] == [None]
    local = await add(database)
    assert (await api.get(f"/tasks/{local.id}")).json()["service_requests"] is None


@pytest.fixture
async def uncertain(database: Database, ledger: PostgresLedger) -> Call:
    call = await made(database, ledger)
    await ledger.uncertain(call.id, "no answer", [])
    return call


async def state_of(database: Database, call: Call) -> str:
    async with database.transaction() as session:
        return (await session.get_one(ProviderCall, call.id)).state


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": "pay"}, "action"),
        ({"action": "collect"}, "vendor_id"),
        ({"action": "give_up", "vendor_id": "r-1"}, "vendor_id"),
        ({"action": "collect", "vendor_id": "../r-1"}, "vendor_id"),
        ({"action": "give_up", "reason": "x"}, "reason"),
    ],
)
async def test_a_wrong_word_about_a_call_names_its_field(
    api: httpx.AsyncClient, database: Database, uncertain: Call, body: dict[str, Any], field: str
) -> None:
    answer = await api.post(f"/providers/calls/{uncertain.id}/settle", json=body, headers=ADMIN)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert await state_of(database, uncertain) == "UNCERTAIN"
