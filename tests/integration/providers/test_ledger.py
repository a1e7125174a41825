"""The ledger of paid calls in Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select, update

from compute.db.session import Database
from compute.db.tables import ProviderAccount, ProviderCall, Task
from compute.errors import LeaseLost, ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.call import Call, CallState, Intent
from compute.providers.calls.ledger import Pause, ServiceRequest
from compute.providers.ledger.gate import AccountLimits, Limits
from compute.providers.ledger.postgres import PostgresLedger
from compute.schemas.enums import TaskStatus
from tests.integration.rows import add

ACCOUNT = Account("fal", "key-id:key-secret")
LINE = ServiceRequest("POST", "queue.fal.run", "/fal-ai/flux/dev", 200, 12.5, "r-1")


@asynccontextmanager
async def open_ledger(database: Database, **values: Any) -> AsyncIterator[PostgresLedger]:
    chosen = {"limits": Limits(), "budget_seconds": 3600.0, "price": lambda *_: Decimal("0.04")} | values
    ledger = PostgresLedger(database, **chosen)
    running = asyncio.create_task(ledger.run())
    try:
        yield ledger
    finally:
        ledger.close()
        await running


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    async with open_ledger(database) as ledger:
        yield ledger


async def running_task(database: Database, **values: Any) -> Task:
    task = await add(database, fence=1, **values)
    async with database.transaction() as session:
        await session.execute(update(Task).where(Task.id == task.id).values(status=TaskStatus.EXECUTING))
    return task


def intent(task: Task | None, part: str = "image", **values: Any) -> Intent:
    given: dict[str, Any] = {"task_id": task and task.id, "fence": task and task.fence, "account": ACCOUNT}
    return Intent(part, "FAL_STANDARD", endpoint="queue.fal.run/fal-ai/flux/dev", **(given | values))


async def begun(ledger: PostgresLedger, asked: Intent) -> Call:
    call = await ledger.begin(asked)
    assert isinstance(call, Call)
    return call


async def row(database: Database, call: Call) -> ProviderCall:
    async with database.transaction() as session:
        found = await session.get(ProviderCall, call.id)
    assert found is not None
    return found


async def account(database: Database) -> ProviderAccount:
    async with database.transaction() as session:
        found = await session.scalar(select(ProviderAccount))
    assert found is not None
    return found


async def test_a_call_is_durable_before_it_may_leave(database: Database, ledger: PostgresLedger) -> None:
    task = await running_task(database, tenant="acme")
    call = await begun(ledger, intent(task))
    assert call.is_new
    stored = await row(database, call)
    assert (stored.state, stored.task_id, stored.tenant, stored.task_type) == (
        "INTENT",
        task.id,
        "acme",
        "GENERATION",
    )
    assert ACCOUNT.key not in str(vars(stored))


async def test_each_state_is_what_the_next_run_finds(database: Database, ledger: PostgresLedger) -> None:
    task = await running_task(database)
    call = await begun(ledger, intent(task))
    lost = await begun(ledger, intent(task))
    assert (lost.id, lost.state, lost.is_new) == (call.id, CallState.INTENT, False)

    await ledger.accepted(call.id, "r-1", {"status_url": "http://x/status"}, [LINE])
    resumed = await begun(ledger, intent(task))
    assert (resumed.state, resumed.vendor_id, resumed.addresses) == (
        CallState.ACCEPTED,
        "r-1",
        {"status_url": "http://x/status"},
    )

    await ledger.collected(call.id, {"files": [], "text": None, "data": {}}, {"images": 1}, None, [LINE])
    collected = await begun(ledger, intent(task))
    assert (collected.state, collected.units, collected.vendor_id) == (CallState.COLLECTED, {"images": 1}, "r-1")
    stored = await row(database, call)
    assert stored.amount == Decimal("0.04")
    assert [line["request_id"] for line in stored.requests] == ["r-1", "r-1"]


async def test_a_fallback_makes_calls_of_its_own_for_the_same_part(database: Database, ledger: PostgresLedger) -> None:
    task = await running_task(database)
    first = await begun(ledger, intent(task))
    await ledger.uncertain(first.id, "no answer", [])
    other = await begun(ledger, replace(intent(task), provider="VERTEX"))
    assert other.is_new
    assert (await begun(ledger, intent(task))).state is CallState.UNCERTAIN


async def test_what_is_collected_stays_collected(database: Database, ledger: PostgresLedger) -> None:
    call = await begun(ledger, intent(await running_task(database)))
    await ledger.collected(call.id, {"files": []}, {}, "r-1", [])
    await ledger.failed(call.id, "PROVIDER_ERROR", "late", blames=True, pause=0.0, requests=[])
    await ledger.accepted(call.id, "r-2", {}, [])
    assert ((await row(database, call)).state, (await row(database, call)).vendor_id) == ("COLLECTED", "r-1")


async def test_a_failed_call_is_followed_by_another_and_an_uncertain_one_is_not(
    database: Database, ledger: PostgresLedger
) -> None:
    task = await running_task(database)
    first = await begun(ledger, intent(task))
    await ledger.failed(first.id, "PROVIDER_ERROR", "no", blames=True, pause=0.0, requests=[])
    second = await begun(ledger, intent(task))
    assert second.is_new
    assert second.attempt == 2
    await ledger.uncertain(second.id, "no answer", [])
    third = await begun(ledger, intent(task))
    assert (third.id, third.state, third.is_new) == (second.id, CallState.UNCERTAIN, False)
    assert third.error == "no answer"


@pytest.mark.parametrize("values", [{"fence": 2}, {"status": TaskStatus.CANCELLED}, {"status": TaskStatus.PENDING}])
async def test_nothing_leaves_for_a_task_that_is_no_longer_the_runs(
    database: Database, ledger: PostgresLedger, values: dict[str, Any]
) -> None:
    task = await running_task(database)
    async with database.transaction() as session:
        await session.execute(update(Task).where(Task.id == task.id).values(values))
    with pytest.raises(LeaseLost):
        await ledger.begin(intent(task))


async def test_the_concurrency_limit_holds_over_all_replicas(database: Database) -> None:
    limits = Limits({"fal": AccountLimits(concurrency=3)})
    tasks = [await running_task(database) for _ in range(10)]
    async with open_ledger(database, limits=limits) as one, open_ledger(database, limits=limits) as other:
        answers = await asyncio.gather(
            *((one if number % 2 else other).begin(intent(task)) for number, task in enumerate(tasks))
        )
        calls = [answer for answer in answers if isinstance(answer, Call)]
        assert len(calls) == 3
        await one.failed(calls[0].id, "PROVIDER_ERROR", "no", blames=False, pause=0.0, requests=[])
        waiting = [task for task, answer in zip(tasks, answers, strict=True) if isinstance(answer, Pause)]
        again = await asyncio.gather(*(other.begin(intent(task)) for task in waiting))
        assert sum(isinstance(answer, Call) for answer in again) == 1


async def test_the_rate_limit_holds_over_all_replicas(database: Database) -> None:
    limits = Limits({"fal": AccountLimits(per_minute=4)})
    tasks = [await running_task(database) for _ in range(9)]
    async with open_ledger(database, limits=limits) as one, open_ledger(database, limits=limits) as other:
        answers = [await (one if number % 2 else other).begin(intent(task)) for number, task in enumerate(tasks)]
    assert [isinstance(answer, Call) for answer in answers] == [True] * 4 + [False] * 5
    pause = answers[-1]
    assert isinstance(pause, Pause)
    assert 50 < pause.seconds <= 60


async def test_the_breaker_opens_for_the_account_and_one_call_probes_it(database: Database) -> None:
    async with open_ledger(database) as one, open_ledger(database) as other:
        for _ in range(5):
            call = await begun(one, intent(await running_task(database)))
            await one.failed(call.id, "PROVIDER_ERROR", "500", blames=True, pause=0.0, requests=[])
        refused = await other.begin(intent(await running_task(database)))
        assert isinstance(refused, Pause)
        assert refused.broken
        elsewhere = intent(await running_task(database), account=Account("fal", "another"))
        assert isinstance(await other.begin(elsewhere), Call)
        async with database.transaction() as session:
            await session.execute(update(ProviderAccount).where(ProviderAccount.openings > 0).values(open_until=None))
        probe = await begun(other, intent(await running_task(database)))
        assert isinstance(await one.begin(intent(await running_task(database))), Pause)
        await other.collected(probe.id, {"files": []}, {}, None, [])
        assert isinstance(await one.begin(intent(await running_task(database))), Call)


async def test_a_refusal_for_its_content_does_not_count_against_the_vendor(
    database: Database, ledger: PostgresLedger
) -> None:
    for _ in range(6):
        call = await begun(ledger, intent(await running_task(database)))
        await ledger.failed(call.id, "INVALID_INPUT", "no", blames=False, pause=0.0, requests=[])
    assert (await account(database)).failures == 0


async def test_a_pause_that_the_vendor_asks_for_is_everybodys(database: Database, ledger: PostgresLedger) -> None:
    call = await begun(ledger, intent(await running_task(database)))
    await ledger.failed(call.id, "PROVIDER_ERROR", "slow down", blames=False, pause=30.0, requests=[])
    pause = await ledger.begin(intent(await running_task(database)))
    assert isinstance(pause, Pause)
    assert 25 < pause.seconds <= 30


async def test_a_task_whose_calls_took_too_long_makes_no_new_one(database: Database) -> None:
    task = await running_task(database)
    async with open_ledger(database, budget_seconds=0.0) as ledger:
        call = await begun(ledger, intent(task))
        assert (await begun(ledger, intent(task))).id == call.id
        with pytest.raises(ProviderFailed) as caught:
            await ledger.begin(intent(task, part="another"))
        assert caught.value.hopeless


async def test_a_write_waits_for_a_database_that_is_away(database: Database, ledger: PostgresLedger) -> None:
    call = await begun(ledger, intent(await running_task(database)))
    async with database.transaction() as session:
        await session.connection()
        connection = await session.connection()
        await connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    await ledger.accepted(call.id, "r-1", {}, [])
    assert (await row(database, call)).state == "ACCEPTED"


async def test_calls_go_with_their_task_unless_a_vendor_may_be_paid_for_them(
    database: Database, ledger: PostgresLedger
) -> None:
    task = await running_task(database)
    open_one, lost, ended = [await begun(ledger, intent(task, part)) for part in ("open", "lost", "ended")]
    await ledger.uncertain(lost.id, "no answer", [])
    await ledger.collected(ended.id, {"files": []}, {}, None, [])
    async with database.transaction() as session:
        await session.delete(await session.get_one(Task, task.id))
    async with database.transaction() as session:
        left = {call.id for call in await session.scalars(select(ProviderCall))}
    assert left == {open_one.id, lost.id}
    # What is told of one that is gone harms nobody.
    await ledger.failed(ended.id, "PROVIDER_ERROR", "late", blames=True, pause=0.0, requests=[])
    await ledger.collected(ended.id, {"files": []}, {}, None, [])


async def test_an_id_that_a_vendor_says_twice_is_the_first_ones(database: Database, ledger: PostgresLedger) -> None:
    first, second, third = [await begun(ledger, intent(await running_task(database))) for _ in range(3)]
    assert await ledger.accepted(first.id, "same", {}, [])
    assert not await ledger.accepted(second.id, "same", {}, [])
    # Repeated, as after a lost answer.
    assert await ledger.accepted(first.id, "same", {}, [])
    assert await ledger.accepted(third.id, "same", {"followed": ""}, [])
    assert (await row(database, second)).vendor_id is None
    # A follower takes the id from nobody.
    assert await ledger.accepted(first.id, "same", {}, [])


async def test_ids_are_told_apart_within_one_batch_and_by_vendor(database: Database, ledger: PostgresLedger) -> None:
    calls = [await begun(ledger, intent(await running_task(database))) for _ in range(3)]
    other = await begun(ledger, intent(await running_task(database), account=Account("fashn", "a-key")))
    answers = await asyncio.gather(
        ledger.accepted(calls[0].id, "same", {"followed": ""}, []),
        ledger.accepted(calls[1].id, "same", {}, []),
        ledger.accepted(calls[2].id, "same", {}, []),
        ledger.accepted(other.id, "same", {}, []),
    )
    assert answers == [True, True, False, True]


async def test_what_a_webhook_has_found_is_not_lost_to_a_late_timeout(
    database: Database, ledger: PostgresLedger
) -> None:
    call = await begun(ledger, intent(await running_task(database)))
    await ledger.accepted(call.id, "r-1", {}, [])
    await ledger.uncertain(call.id, "no answer in time", [])
    assert ((await row(database, call)).state, (await row(database, call)).vendor_id) == ("ACCEPTED", "r-1")


async def test_a_call_needs_no_task(database: Database, ledger: PostgresLedger) -> None:
    asked = intent(None)
    call = await begun(ledger, asked)
    assert call.is_new
    # The same write again, as after a lost answer.
    assert (await begun(ledger, asked)).is_new
    assert (await row(database, call)).task_id is None


async def test_a_call_without_a_task_is_waited_for_while_another_process_may_get_its_answer(database: Database) -> None:
    async with open_ledger(database, answer_seconds=60.0) as ledger:
        call = await begun(ledger, intent(None, "evaluation/1"))
        assert isinstance(await ledger.begin(intent(None, "evaluation/1")), Pause)
        async with database.transaction() as session:
            await session.execute(update(ProviderCall).values(created_at=func.now() - timedelta(seconds=61)))
        lost = await begun(ledger, intent(None, "evaluation/1"))
        assert (lost.id, lost.is_new) == (call.id, False)


async def test_a_call_without_a_task_is_found_by_its_part(database: Database, ledger: PostgresLedger) -> None:
    call = await begun(ledger, intent(None, "training/1/caption/ab"))
    lost = await begun(ledger, intent(None, "training/1/caption/ab"))
    assert (lost.id, lost.state, lost.is_new) == (call.id, CallState.INTENT, False)
    other = await begun(ledger, intent(None, "training/2/caption/ab"))
    assert other.is_new

    await ledger.collected(call.id, {"files": [], "text": "a red dress", "data": {}}, {}, None, [])
    again = await begun(ledger, intent(None, "training/1/caption/ab"))
    assert (again.state, again.result) == (CallState.COLLECTED, {"files": [], "text": "a red dress", "data": {}})

    await ledger.failed(other.id, "PROVIDER_ERROR", "It is down.", blames=False, pause=0.0, requests=[])
    second = await begun(ledger, intent(None, "training/2/caption/ab"))
    assert (second.is_new, second.attempt) == (True, 2)
