"""Usage by day, tenant, type of tasks and provider, and that of one task."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from compute.db.session import Database
from compute.db.tables import ProviderCall, Task, UsageDay, UsageNews
from compute.providers.ledger.postgres import PostgresLedger
from compute.settings import Settings
from compute.settings.providers import PriceRule
from tests.integration.api.conftest import Painter, wait_for
from tests.integration.providers.test_ledger import begun, intent, open_ledger, running_task

DAY = timedelta(days=1)
LOCAL_PRICE = Decimal("0.5")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    prices = [PriceRule(vendor="local", per="gpu_second", amount=LOCAL_PRICE)]
    return settings.model_copy(update={"prices": prices, "currency": "EUR"})


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    async with open_ledger(database) as ledger:
        yield ledger


@pytest.fixture
def today() -> date:
    """Asked for by each test, since a run of all tests may see midnight."""
    return datetime.now(UTC).date()


@pytest.fixture
async def used(database: Database, today: date) -> None:
    rows = [
        (UsageDay, today, "acme", "GENERATION", "LOCAL", {"tasks": 2, "gpu_seconds": 3.0, "amount": Decimal("0.3")}),
        (UsageNews, today, "acme", "GENERATION", "LOCAL", {"tasks": 1, "gpu_seconds": 1.5, "amount": Decimal("0.1")}),
        (UsageDay, today, "acme", "EDITING", "FAL_STANDARD", {"calls": 4, "images": 4.0, "amount": Decimal("0.16")}),
        (UsageDay, today - DAY, "other", "GENERATION", "LOCAL", {"tasks": 7, "gpu_seconds": 7.0}),
        (UsageNews, today, "", "", "AI_CORE", {"calls": 1, "input_tokens": 900.0}),
        (UsageDay, today - timedelta(days=40), "acme", "GENERATION", "LOCAL", {"tasks": 100}),
    ]
    async with database.transaction() as session:
        for table, day, tenant, task_type, provider, values in rows:
            session.add(table(day=day, tenant=tenant, task_type=task_type, provider=provider, **values))


async def ask(api: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await api.get("/usage", params=query)
    assert answer.status_code == 200, answer.text
    said: list[dict[str, Any]] = answer.json()["usage"]
    return said


@pytest.mark.usefixtures("used")
async def test_sums_of_days_and_news_are_one(api: httpx.AsyncClient, today: date) -> None:
    said = (await api.get("/usage")).json()
    assert (said["first"], said["last"], said["currency"]) == (
        (today - timedelta(days=29)).isoformat(),
        today.isoformat(),
        "EUR",
    )
    keys = [(one["day"], one["tenant"], one["task_type"], one["provider"]) for one in said["usage"]]
    assert keys == [
        ((today - DAY).isoformat(), "other", "GENERATION", "LOCAL"),
        (today.isoformat(), None, None, "AI_CORE"),
        (today.isoformat(), "acme", "EDITING", "FAL_STANDARD"),
        (today.isoformat(), "acme", "GENERATION", "LOCAL"),
    ]
    local = said["usage"][-1]
    assert (local["tasks"], local["gpu_seconds"], local["amount"]) == (3, 4.5, 0.4)
    assert (said["usage"][1]["calls"], said["usage"][1]["input_tokens"]) == (1, 900.0)


@pytest.mark.usefixtures("used")
async def test_groups_and_filters(api: httpx.AsyncClient, today: date) -> None:
    assert [(one["tenant"], one["tasks"]) for one in await ask(api, group_by="tenant", task_type="GENERATION")] == [
        ("acme", 3),
        ("other", 7),
    ]
    (one,) = await ask(api, group_by="provider", tenant="acme", provider="FAL_STANDARD")
    assert (one["calls"], one["images"], one["day"], one["tenant"]) == (4, 4.0, None, None)
    by_day = await ask(api, group_by="provider,day", provider="LOCAL")
    assert [(one["day"], one["tasks"]) for one in by_day] == [((today - DAY).isoformat(), 7), (today.isoformat(), 3)]
    long_ago = (today - timedelta(days=40)).isoformat()
    assert [one["tasks"] for one in await ask(api, **{"from": long_ago, "to": long_ago})] == [100]


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize("group_by", ["day,tenant,task_type,provider", "provider", "tenant,day"])
async def test_pages_have_every_sum_once(api: httpx.AsyncClient, group_by: str) -> None:
    expected = await ask(api, group_by=group_by)
    seen: list[dict[str, Any]] = []
    address: str | None = f"/usage?group_by={group_by}&limit=1"
    while address is not None:
        answer = await api.get(address)
        seen += answer.json()["usage"]
        address = answer.links["next"]["url"] if "next" in answer.links else None
    assert seen == expected


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"to": "1764547200"}, "to"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2024-01-01", "to": "2026-03-01"}, "from"),
        ({"group_by": "model"}, "group_by"),
        ({"group_by": "day,day"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"task_type": "NOTHING"}, "task_type"),
        ({"provider": "NOBODY"}, "provider"),
        ({"limit": "1001"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"tenants": "x"}, "tenants"),
    ],
)
async def test_a_wrong_parameter_is_named(api: httpx.AsyncClient, query: dict[str, str], named: str) -> None:
    answer = await api.get("/usage", params=query)
    assert answer.status_code == 400, answer.text
    assert f"`{named}`" in answer.json()["detail"]


@pytest.mark.usefixtures("used")
async def test_a_cursor_is_one_of_the_same_groups(api: httpx.AsyncClient) -> None:
    cursor = (await api.get("/usage", params={"group_by": "provider", "limit": "1"})).headers["x-next-cursor"]
    answer = await api.get("/usage", params={"group_by": "tenant", "cursor": cursor})
    assert (answer.status_code, "`cursor`" in answer.json()["detail"]) == (400, True)


async def test_a_day_may_be_the_first_there_is(api: httpx.AsyncClient) -> None:
    assert await ask(api, to=date.min.isoformat()) == []


async def test_a_task_here_shows_how_long_a_model_worked(api: httpx.AsyncClient, worker: Painter) -> None:
    worker.seconds_per_step = 0.02
    task = {"prompt": "a hat", "width": 64, "height": 64, "steps": 2, "task_type": "GENERATION"}
    accepted = (await api.post("/tasks/", json=task)).json()
    done = await wait_for(api, accepted["id"], "COMPLETED")
    spent = done["metadata"]["timings"]["draw_ms"] / 1000
    assert spent > 0.03
    used = done["usage"]
    assert (used["gpu_seconds"], used["calls"], used["currency"]) == (spent, 0, "EUR")
    assert used["amount"] == pytest.approx(spent * float(LOCAL_PRICE), abs=1e-6)
    (summed,) = await ask(api)
    assert (summed["tasks"], summed["gpu_seconds"], summed["provider"]) == (1, pytest.approx(spent), "LOCAL")
    assert [one["usage"] for one in (await api.get("/tasks/")).json()] == [None]


async def test_a_task_elsewhere_shows_the_sum_of_its_calls(
    api: httpx.AsyncClient, database: Database, ledger: PostgresLedger
) -> None:
    task = await running_task(database, provider_type="FAL_STANDARD")
    for part in ("a", "b"):
        call = await begun(ledger, intent(task, part))
        await ledger.collected(call.id, {"files": []}, {"calls": 1.0, "images": 2.0}, None, [])
    lost = await begun(ledger, intent(task, "c"))
    await ledger.uncertain(lost.id, "no answer", [])
    used = (await api.get(f"/tasks/{task.id}")).json()["usage"]
    assert (used["calls"], used["uncertain_calls"], used["images"], used["amount"]) == (2, 1, 4.0, 0.08)
    assert (used["input_tokens"], used["gpu_seconds"]) == (None, None)
    async with database.transaction() as session:
        await session.execute(update(ProviderCall).values(amount=None))
        await session.execute(update(Task).values(status="COMPLETED"))
    assert (await api.get(f"/tasks/{task.id}")).json()["usage"]["amount"] is None
