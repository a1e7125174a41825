"""Claims and settles of the outbox, one at a time."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import delete, func, select, update

from compute.db.session import Database
from compute.db.tables import WebhookDelivery
from compute.events.webhook_retry import Backoff, DeliveryStatus, Outcome, Verdict
from compute.events.webhook_rows import Claimed, claim, settle
from tests.integration.events.receiver import attempts, delivery, enqueue

A = "https://a.example/hook"


async def take(database: Database, *, limit: int = 10, lease: float = 60, **rooms: int) -> list[Claimed]:
    async with database.transaction() as session:
        return await claim(session, limit=limit, rooms=rooms, lease_seconds=lease)


async def end(database: Database, claimed: Claimed, status: int, *, max_attempts: int = 10) -> Verdict | None:
    error = None if status == 200 else f"the receiver answered {status}"
    outcome = Outcome(datetime.now(UTC), 7, status, error)
    async with database.transaction() as session:
        return await settle(session, claimed, outcome, max_attempts=max_attempts, backoff=Backoff(first=100, jitter=0))


async def wait_seconds(database: Database, delivery_id: UUID) -> float:
    """How long from now, by the database's clock, until the delivery is due."""
    async with database.transaction() as session:
        row = await session.get_one(WebhookDelivery, delivery_id)
        now = (await session.execute(select(func.now()))).scalar_one()
    return (row.next_attempt_at - now).total_seconds()


async def test_a_claim_leases_what_is_due(database: Database) -> None:
    [due] = await enqueue(database, A)
    [later] = await enqueue(database, A)
    async with database.transaction() as session:
        statement = update(WebhookDelivery).where(WebhookDelivery.id == later)
        await session.execute(statement.values(next_attempt_at=datetime(2999, 1, 1, tzinfo=UTC)))
    [claimed] = await take(database)
    assert (claimed.id, claimed.url, claimed.receiver, claimed.payload) == (due, A, "a.example", {"n": 0})
    assert 55 < await wait_seconds(database, due) <= 60
    assert await take(database) == []


async def test_an_unknown_receiver_gets_one_and_a_known_one_its_room(database: Database) -> None:
    await enqueue(database, "https://a.example/hook", 5)
    await enqueue(database, "https://b.example/hook", 5)
    await enqueue(database, "https://c.example/hook", 5)
    async with database.transaction() as session:
        claimed = await claim(session, limit=10, rooms={"b.example": 3, "c.example": 0}, lease_seconds=60)
    assert sorted(one.receiver for one in claimed) == ["a.example", "b.example", "b.example", "b.example"]


async def test_one_receiver_cannot_pass_for_many(database: Database) -> None:
    spellings = [
        "https://a.example",
        "https://A.example/1",
        "http://a.example?2",
        "https://a.EXAMPLE#3",
        "HTTPS://a.example/",
    ]
    for url in spellings:
        await enqueue(database, url)
    await enqueue(database, "https://a.example:8443/")
    assert sorted(one.receiver for one in await take(database)) == ["a.example", "a.example:8443"]


async def test_the_limit_is_shared_fairly(database: Database) -> None:
    await enqueue(database, "https://a.example/hook", 5)
    await enqueue(database, "https://b.example/hook", 5)
    async with database.transaction() as session:
        claimed = await claim(session, limit=4, rooms={"a.example": 8, "b.example": 8}, lease_seconds=60)
    assert sorted(one.receiver for one in claimed) == ["a.example", "a.example", "b.example", "b.example"]


async def test_a_failure_is_put_off(database: Database) -> None:
    [sent] = await enqueue(database, A)
    [claimed] = await take(database)
    assert await end(database, claimed, 500) == Verdict(DeliveryStatus.PENDING, 100)
    assert 95 < await wait_seconds(database, sent) <= 100
    assert await take(database) == []


async def test_a_late_failure_leaves_the_new_claim_alone(database: Database) -> None:
    [sent] = await enqueue(database, A)
    [late] = await take(database, lease=0.01)
    await asyncio.sleep(0.05)
    [current] = await take(database)
    assert await end(database, late, 410) is None
    row = await delivery(database, sent)
    assert (row.status, row.attempts, row.next_attempt_at) == ("PENDING", 1, current.leased_until)
    assert await end(database, current, 200) == Verdict(DeliveryStatus.DELIVERED)
    assert [one.status_code for one in await attempts(database, sent)] == [410, 200]


async def test_a_late_success_counts(database: Database) -> None:
    [sent] = await enqueue(database, A)
    [late] = await take(database, lease=0.01)
    await asyncio.sleep(0.05)
    [current] = await take(database)
    assert await end(database, late, 200) == Verdict(DeliveryStatus.DELIVERED)
    assert await end(database, current, 500) is None
    assert (await delivery(database, sent)).status == "DELIVERED"


async def test_a_deleted_delivery_is_no_trouble(database: Database) -> None:
    [sent] = await enqueue(database, A)
    [claimed] = await take(database)
    async with database.transaction() as session:
        await session.execute(delete(WebhookDelivery).where(WebhookDelivery.id == sent))
    assert await end(database, claimed, 200) is None
    assert await attempts(database, sent) == []
