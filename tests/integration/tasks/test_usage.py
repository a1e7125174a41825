"""Usage: counted exactly once, by the day in UTC, and outliving the tasks."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, select, text

from compute.db.session import Database
from compute.db.tables import Task, UsageDay, UsageNews
from compute.dispatch.store import PostgresDispatchStore
from compute.providers.calls.call import Call
from compute.providers.ledger.postgres import PostgresLedger
from compute.settings.providers import PriceRule
from compute.tasks.leases import Complete, Start
from compute.tasks.prices import PriceTable
from compute.tasks.usage import add_up
from tests.integration.providers.test_ledger import begun, intent, open_ledger, running_task
from tests.integration.rows import add, claim, lease_of
from tests.patience import PATIENCE

PRICES = PriceTable([PriceRule(vendor="local", per="gpu_second", amount=Decimal("0.001"))])
Sums = dict[tuple[str, str, str], dict[str, Any]]


def outcome(draw_ms: float | None = 1500.0) -> dict[str, Any]:
    return {"artifacts": [], "metadata": {"model": "tiny", "timings": {"draw_ms": draw_ms} if draw_ms else {}}}


async def complete(database: Database, results: list[dict[str, Any]], **values: Any) -> list[Complete]:
    """Tasks that a worker completes, some of them told of as started before."""
    for _ in results:
        await add(database, **values)
    tasks = await claim(database, len(results))
    store = PostgresDispatchStore(database, PRICES)
    starts = [Start(lease_of(task), "replica", "test") for task in tasks]
    await store.write(starts[::2], lease_seconds=PATIENCE)
    ends = [Complete(start.lease, one, start) for start, one in zip(starts, results, strict=True)]
    assert await store.write([*starts, *ends], lease_seconds=PATIENCE) == [True] * (len(starts) + len(ends))
    await store.close()
    return ends


async def sums(database: Database) -> tuple[Sums, Sums]:
    """What is summed by day, and what is news."""
    found: list[Sums] = []
    async with database.transaction() as session:
        for table in (UsageDay, UsageNews):
            sums: Sums = {}
            for row in await session.scalars(select(table)):
                one = sums.setdefault((row.tenant, row.task_type, row.provider), {})
                for name in ("tasks", "calls", "images", "gpu_seconds", "amount"):
                    one[name] = one.get(name, 0) + getattr(row, name)
            found.append(sums)
    return found[0], found[1]


async def test_completed_tasks_are_counted_with_the_work_of_this_cluster(database: Database) -> None:
    await complete(database, [outcome(), outcome(500.0), outcome(None)], tenant="acme")
    await complete(database, [outcome()], tenant="other", provider_type="FAL_STANDARD")
    _, news = await sums(database)
    assert news == {
        ("acme", "GENERATION", "LOCAL"): {
            "tasks": 3,
            "calls": 0,
            "images": 0,
            "gpu_seconds": 2.0,
            "amount": Decimal("0.002"),
        },
        ("other", "GENERATION", "FAL_STANDARD"): {
            "tasks": 1,
            "calls": 0,
            "images": 0,
            "gpu_seconds": 1.5,
            "amount": Decimal("0.0015"),
        },
    }
    await add_up(database)
    assert await sums(database) == (news, {})


async def test_a_write_that_is_repeated_counts_once(database: Database) -> None:
    ends = await complete(database, [outcome()] * 4)
    store = PostgresDispatchStore(database, PRICES)
    assert await store.write(ends, lease_seconds=PATIENCE) == [True] * 4, "an earlier try took effect"
    await store.close()
    (one,) = (await sums(database))[1].values()
    assert (one["tasks"], one["gpu_seconds"]) == (4, 6.0)


async def test_a_lost_lease_counts_nothing(database: Database) -> None:
    await add(database)
    (task,) = await claim(database)
    lease = lease_of(task)._replace(fence=task.fence + 1)
    store = PostgresDispatchStore(database, PRICES)
    await store.write([Complete(lease, outcome(), Start(lease, "replica", "test"))], lease_seconds=PATIENCE)
    await store.close()
    assert await sums(database) == ({}, {})


async def collect(ledger: PostgresLedger, call: Call, units: dict[str, float]) -> None:
    await ledger.collected(call.id, {"files": [], "data": {"model": "m"}}, units, "r-1", [])


async def test_calls_are_counted_when_they_are_collected_once(database: Database) -> None:
    async with open_ledger(database) as ledger:
        first = await begun(ledger, intent(await running_task(database, tenant="acme")))
        second = await begun(ledger, intent(None, "evaluation/1"))
        lost = await begun(ledger, intent(await running_task(database)))
        await asyncio.gather(*(collect(ledger, first, {"calls": 1.0, "images": 2.0}) for _ in range(5)))
        await collect(ledger, second, {"calls": 1.0})
        await ledger.uncertain(lost.id, "no answer", [])
        await ledger.failed(first.id, "PROVIDER_ERROR", "late", blames=True, pause=0.0, requests=[])
    _, news = await sums(database)
    assert {key: (one["calls"], one["images"], one["amount"]) for key, one in news.items()} == {
        ("acme", "GENERATION", "FAL_STANDARD"): (1, 2.0, Decimal("0.04")),
        ("", "", "FAL_STANDARD"): (1, 0.0, Decimal("0.04")),
    }


async def test_sums_outlive_the_tasks(database: Database) -> None:
    await complete(database, [outcome()])
    async with database.transaction() as session:
        await session.execute(delete(Task))
    await add_up(database)
    (one,) = (await sums(database))[0].values()
    assert one["tasks"] == 1


async def test_several_who_add_up_at_once_count_each_news_once(database: Database) -> None:
    for _ in range(10):
        await complete(database, [outcome()])
    await asyncio.gather(*(add_up(database) for _ in range(4)), complete(database, [outcome()]))
    await add_up(database)
    days, news = await sums(database)
    assert ([one["tasks"] for one in days.values()], news) == ([11], {})


async def test_a_day_is_one_of_utc_whatever_the_server_says(database: Database) -> None:
    async with database.transaction() as session:
        name = (await session.execute(text("SELECT quote_ident(current_database())"))).scalar_one()
        # There it is another day for most of the time.
        await session.execute(text(f"ALTER DATABASE {name} SET timezone = 'Pacific/Kiritimati'"))
    await database.engine.dispose()
    await complete(database, [outcome()])
    async with open_ledger(database) as ledger:
        call = await begun(ledger, intent(await running_task(database)))
        await collect(ledger, call, {"calls": 1.0})
    async with database.transaction() as session:
        assert (await session.execute(text("SHOW timezone"))).scalar_one() == "Pacific/Kiritimati"
        days = set(await session.scalars(select(UsageNews.day)))
        (at,) = await session.scalars(select(Task.completed_at).where(Task.completed_at.is_not(None)))
    assert min(days) == at.astimezone(UTC).date()
    assert max(days) <= datetime.now(UTC).date()
