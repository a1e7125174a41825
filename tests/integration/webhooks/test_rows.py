"""Claims and settles of the outbox, one at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, text, update

from compute.db.session import Database
from compute.db.tables import WebhookDelivery
from compute.webhooks.retry import AttemptOutcome, Backoff, Limits, decide
from compute.webhooks.rows import PostgresDeliveryStore
from compute.webhooks.store import ClaimedDelivery, DeliveryAttempt, DuePage, Lottery, Settled
from tests.integration.webhooks.receiver import attempts, delivery, enqueue, open_store

A = "https://a.example/hook"
ONE = Lottery(1, {})
SPREAD = """
UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 s' - CAST(:apart AS interval) * place
  FROM (SELECT id, CASE WHEN id = :hidden THEN 500.5 ELSE row_number() OVER () END AS place FROM webhook_deliveries)
    AS placed
 WHERE placed.id = webhook_deliveries.id
"""


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresDeliveryStore]:
    async with open_store(database) as store:
        yield store


async def take(store: PostgresDeliveryStore, *, lease: float = 60, **quotas: int) -> list[ClaimedDelivery]:
    return list(await store.claim(quotas or {"a.example": 10}, lease))


async def draw(store: PostgresDeliveryStore, lots: Mapping[str, Lottery]) -> Sequence[ClaimedDelivery]:
    return (await store.claim_by_lottery(lots, 60)).claimed


def ended(claimed: ClaimedDelivery, status: int) -> DeliveryAttempt:
    outcome = AttemptOutcome(datetime.now(UTC), 7, status, None if status == 200 else f"the receiver answered {status}")
    return DeliveryAttempt(
        claimed, outcome, decide(outcome, claimed.attempts + 1, Limits(), Backoff(first=100, jitter=0))
    )


async def end(store: PostgresDeliveryStore, claimed: ClaimedDelivery, status: int) -> Settled:
    [settled] = await store.settle([ended(claimed, status)])
    return settled


async def now(database: Database) -> datetime:
    """The time by the database's clock."""
    async with database.transaction() as session:
        return (await session.execute(select(func.now()))).scalar_one()


async def is_put_off(database: Database, delivery_id: UUID, seconds: float, since: datetime) -> bool:
    """Whether the delivery is due so long after something that was done between `since` and now."""
    due, wait = (await delivery(database, delivery_id)).next_attempt_at, timedelta(seconds=seconds)
    return since + wait <= due <= await now(database) + wait


async def test_a_claim_leases_what_is_due(database: Database, store: PostgresDeliveryStore) -> None:
    [due] = await enqueue(database, A)
    [later] = await enqueue(database, A)
    async with database.transaction() as session:
        statement = update(WebhookDelivery).where(WebhookDelivery.id == later)
        await session.execute(statement.values(next_attempt_at=datetime(2999, 1, 1, tzinfo=UTC)))
    since = await now(database)
    [claimed] = await take(store)
    assert (claimed.id, claimed.url, claimed.receiver, claimed.payload) == (due, A, "a.example", {"n": 0})
    assert (claimed.attempts, claimed.age >= 0) == (0, True)
    assert await is_put_off(database, due, 60, since)
    assert await take(store) == []


async def test_each_receiver_gets_its_room(database: Database, store: PostgresDeliveryStore) -> None:
    for name in "abc":
        await enqueue(database, f"https://{name}.example/hook", 5)
    claimed = await store.claim({"a.example": 1, "b.example": 3, "d.example": 3}, 60)
    assert sorted(one.receiver for one in claimed) == ["a.example", "b.example", "b.example", "b.example"]


async def test_a_probe_goes_to_any_of_a_hosts_paths(database: Database, store: PostgresDeliveryStore) -> None:
    """However much is due to one that fails. Each draw is as likely to find it as not."""
    await enqueue(database, "https://a.example/fails", 300)
    [living] = await enqueue(database, "https://a.example/well?of=many")
    for _ in range(100):
        since = await now(database)
        [claimed] = await draw(store, {"a.example": ONE, "b.example": ONE})
        if claimed.id == living:
            break
        assert claimed.url == "https://a.example/fails"
    assert (claimed.id, claimed.receiver, claimed.attempts) == (living, "a.example", 0)
    assert await is_put_off(database, living, 60, since)


async def test_a_probe_takes_the_longest_due_of_its_path(database: Database, store: PostgresDeliveryStore) -> None:
    sent = [(await enqueue(database, A))[0] for _ in range(3)]
    taken = [(await draw(store, {"a.example": ONE}))[0].id for _ in range(3)]
    assert taken == sent
    assert await draw(store, {"a.example": ONE}) == []


async def test_a_lot_gives_every_path_one_before_any_gets_a_second(
    database: Database, store: PostgresDeliveryStore
) -> None:
    for path, count in (("1", 30), ("2", 2), ("3?of=many#places", 1)):
        await enqueue(database, f"https://a.example/{path}", count)
    claimed = await draw(store, {"a.example": Lottery(5, {})})
    assert Counter(one.path for one in claimed) == {
        "https://a.example/1": 2,
        "https://a.example/2": 2,
        "https://a.example/3": 1,
    }


async def test_a_lot_heeds_the_weights(database: Database, store: PostgresDeliveryStore) -> None:
    for path in ("first", "last", "none", "plain"):
        await enqueue(database, f"https://a.example/{path}", 5)
        await enqueue(database, f"https://b.example/{path}")
    weights = {"https://a.example/first": -1.0, "https://a.example/last": 1.0, "https://a.example/none": None}

    async def paths(quota: int) -> list[str]:
        claimed = await draw(store, {"a.example": Lottery(quota, weights)})
        return sorted(one.path.removeprefix("https://a.example/") for one in claimed)

    assert await paths(1) == ["first"]
    assert await paths(2) == ["first", "plain"]
    assert await paths(4) == ["first", "last", "plain", "plain"]
    assert await paths(9) == ["first", "last", "plain", "plain"]
    # One receiver's weights are not another's.
    claimed = await draw(store, {"a.example": ONE, "b.example": Lottery(9, weights)})
    assert Counter(one.receiver for one in claimed) == {"a.example": 1, "b.example": 4}


@pytest.mark.parametrize("apart", ["1 s", "0 s"], ids=["one after the other", "in one moment"])
async def test_what_is_due_between_others_that_are_passed_over_is_found(
    database: Database, store: PostgresDeliveryStore, apart: str
) -> None:
    await enqueue(database, "https://a.example/fails", 500)
    [hidden] = await enqueue(database, "https://a.example/well")
    await enqueue(database, "https://a.example/fails", 500)
    async with database.transaction() as session:
        await session.execute(text(SPREAD), {"hidden": hidden, "apart": apart})
    found: list[UUID] = []
    after = None
    for _ in range(10):
        drawn = await store.claim_by_lottery({"a.example": Lottery(9, {"https://a.example/fails": None}, after)}, 60)
        found += [one.id for one in drawn.claimed]
        after = drawn.reached.get("a.example")
        if after is None:
            break
    assert (found, after) == ([hidden], None)


async def test_one_receiver_cannot_pass_for_many(database: Database, store: PostgresDeliveryStore) -> None:
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
    assert await store.due(None, 10) == DuePage(["a.example", "a.example:8443"], None)
    assert len(await take(store)) == len(spellings)


async def test_receivers_are_found_page_by_page(database: Database, store: PostgresDeliveryStore) -> None:
    for name in ("nonsense", "https://b.example", "https://a.example", "https://c.example", "https://a.example"):
        await enqueue(database, name)
    [later] = await enqueue(database, "https://aa.example")
    async with database.transaction() as session:
        statement = update(WebhookDelivery).where(WebhookDelivery.id == later)
        await session.execute(statement.values(next_attempt_at=datetime(2999, 1, 1, tzinfo=UTC)))
    assert await store.due(None, 2) == DuePage(["", "a.example"], "a.example")
    # What is not due is looked at, too.
    assert await store.due("a.example", 2) == DuePage(["b.example"], "b.example")
    assert await store.due("b.example", 2) == DuePage(["c.example"], None)
    assert await store.due(None, 5) == DuePage(["", "a.example", "b.example", "c.example"], "c.example")
    assert await store.due("c.example", 5) == DuePage([], None)


async def test_any_url_fits_into_the_index(database: Database, store: PostgresDeliveryStore) -> None:
    await enqueue(database, "https://" + "\U0001f600" * 8000 + ":1/")
    await enqueue(database, "https://a.example:" + "0" * 8000 + "80/")
    [first, second] = (await store.due(None, 10)).receivers
    assert (first, len(second)) == ("a.example:" + "0" * 245, 255)
    assert len(await store.claim({first: 1, second: 1}, 60)) == 2


async def test_a_failure_is_put_off(database: Database, store: PostgresDeliveryStore) -> None:
    [sent] = await enqueue(database, A)
    [claimed] = await take(store)
    since = await now(database)
    assert await end(store, claimed, 500) is Settled.MOVED
    assert await is_put_off(database, sent, 100, since)
    assert await take(store) == []


async def test_a_late_failure_leaves_the_new_claim_alone(database: Database, store: PostgresDeliveryStore) -> None:
    [sent] = await enqueue(database, A)
    [late] = await take(store, lease=0.01)
    await asyncio.sleep(0.05)
    [current] = await take(store)
    assert await end(store, late, 410) is Settled.LATE
    row = await delivery(database, sent)
    assert (row.status, row.attempts, row.next_attempt_at) == ("PENDING", 1, current.leased_until)
    assert await end(store, current, 200) is Settled.MOVED
    assert [one.status_code for one in await attempts(database, sent)] == [410, 200]


async def test_a_late_success_counts(database: Database, store: PostgresDeliveryStore) -> None:
    [sent] = await enqueue(database, A)
    [late] = await take(store, lease=0.01)
    await asyncio.sleep(0.05)
    [current] = await take(store)
    assert await end(store, late, 200) is Settled.MOVED
    assert await end(store, current, 500) is Settled.LATE
    assert (await delivery(database, sent)).status == "DELIVERED"


async def test_a_deleted_delivery_is_no_trouble(database: Database, store: PostgresDeliveryStore) -> None:
    [sent] = await enqueue(database, A)
    [claimed] = await take(store)
    async with database.transaction() as session:
        await session.execute(delete(WebhookDelivery).where(WebhookDelivery.id == sent))
    assert await end(store, claimed, 200) is Settled.GONE
    assert await attempts(database, sent) == []


async def test_one_locked_row_delays_itself_alone(database: Database, store: PostgresDeliveryStore) -> None:
    ids = await enqueue(database, A, 3)
    claimed = {one.id: one for one in await take(store)}
    async with database.transaction() as session:
        await session.get(WebhookDelivery, ids[1], with_for_update=True)
        settled = await store.settle([ended(claimed[one], 200) for one in ids])
    assert settled == [Settled.MOVED, Settled.LOCKED, Settled.MOVED]
    assert await attempts(database, ids[1]) == []
    assert await end(store, claimed[ids[1]], 200) is Settled.MOVED


async def test_what_is_too_old_ends_in_batches(database: Database, store: PostgresDeliveryStore) -> None:
    old = await enqueue(database, A, 5)
    async with database.transaction() as session:
        await session.execute(update(WebhookDelivery).values(created_at=datetime(2020, 1, 1, tzinfo=UTC)))
    [leased] = await take(store, **{"a.example": 1})
    [young] = await enqueue(database, A)
    assert [await store.expire(36 * 3600, 3) for _ in range(3)] == [3, 1, 0]
    for one in old:
        row = await delivery(database, one)
        log = await attempts(database, one)
        if one == leased.id:
            assert (row.status, log) == ("PENDING", [])
        else:
            assert (row.status, row.attempts) == ("FAILED", 0)
            assert [entry.error for entry in log] == ["given up: not delivered within 36 hours"]
    assert (await delivery(database, young)).status == "PENDING"
