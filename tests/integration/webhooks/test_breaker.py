"""Receivers that are not well: they wait, and the others do not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update

from compute.db.session import Database
from compute.db.tables import WebhookDelivery
from compute.webhooks.sender import Breaker
from compute.webhooks.store import Lottery
from tests.integration.webhooks.receiver import (
    QUICK,
    Receiver,
    attempts,
    enqueue,
    eventually,
    open_store,
    receiving,
    sending,
    statuses,
    until_received,
    until_status,
)
from tests.patience import NEVER

OPEN = replace(QUICK, breaker=Breaker(failures=3, first=NEVER, longest=NEVER, jitter=0))
DUE = """
INSERT INTO webhook_deliveries (id, task_id, url, payload)
SELECT gen_random_uuid(), gen_random_uuid(), :url || n % :receivers || '/hook', '{}'
  FROM generate_series(1, :count) AS n
"""


async def backlog(database: Database, url: str, count: int, receivers: int = 1) -> None:
    """Deliveries that are due to the receivers whose addresses begin with `url`."""
    async with database.transaction() as session:
        await session.execute(text(DUE), {"url": url, "count": count, "receivers": receivers})


async def several_looks(database: Database, healthy: Receiver) -> None:
    """Until the sender has looked at what is due, and sent, several times."""
    for _ in range(3):
        [sent] = await enqueue(database, healthy.url)
        await until_status(database, sent, "DELIVERED")


async def attempted(database: Database, url: str) -> list[int]:
    async with database.transaction() as session:
        found = await session.scalars(select(WebhookDelivery.attempts).where(WebhookDelivery.url == url))
        return sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("answer", "headers", "requests"),
    [(500, {}, 3), (503, {}, 3), (429, {}, 3), (429, {"Retry-After": "1"}, 1), (503, {"Retry-After": "1"}, 1)],
)
async def test_an_unwell_receiver_is_left_alone_and_its_deliveries_lose_no_attempt(
    database: Database, answer: int, headers: dict[str, str], requests: int
) -> None:
    async with receiving(Receiver([answer], headers=headers)) as unwell, receiving(Receiver()) as healthy:
        await enqueue(database, unwell.url, 30)
        async with sending(database, policy=OPEN):
            await until_received(unwell, requests)
            await several_looks(database, healthy)
        assert len(unwell.received) == requests
        assert await attempted(database, unwell.url) == [1] * requests + [0] * (30 - requests)


async def test_a_receiver_that_is_not_there_is_left_alone(database: Database) -> None:
    async with receiving(Receiver()) as healthy:
        await enqueue(database, "http://127.0.0.1:1/hook", 30)
        async with sending(database, policy=OPEN):
            await several_looks(database, healthy)

            async def fallen() -> bool:
                return sum(await attempted(database, "http://127.0.0.1:1/hook")) == 3

            await eventually(fallen)
            await several_looks(database, healthy)
    assert await attempted(database, "http://127.0.0.1:1/hook") == [1] * 3 + [0] * 27


@pytest.mark.parametrize("answer", [302, 400, 401, 404, 410])
async def test_refusing_messages_is_no_illness(database: Database, answer: int) -> None:
    async with receiving(Receiver([answer])) as receiver:
        await enqueue(database, receiver.url, 10)
        async with sending(database, policy=OPEN, max_attempts=1):
            await until_received(receiver, 10)

            async def all_failed() -> bool:
                return await statuses(database) == {"FAILED"}

            await eventually(all_failed)


async def test_one_that_comes_back_gets_everything(database: Database) -> None:
    policy = replace(QUICK, breaker=Breaker(failures=3, first=0.1, factor=1, jitter=0))
    async with receiving(Receiver([500] * 5 + [200])) as receiver, sending(database, policy=policy):
        sent = await enqueue(database, receiver.url, 30)

        async def all_delivered() -> bool:
            return await statuses(database) == {"DELIVERED"}

        await eventually(all_delivered)
    assert len(receiver.received) == 35
    assert set(receiver.ids()) == set(sent)


async def test_what_waits_too_long_is_given_up(database: Database) -> None:
    policy = replace(OPEN, expire=0.05)
    async with receiving(Receiver([500])) as receiver, sending(database, policy=policy):
        sent = await enqueue(database, receiver.url, 10)
        await until_received(receiver, 3)
        async with database.transaction() as session:
            too_old = datetime.now(UTC) - timedelta(seconds=policy.limits.max_age + 60)
            await session.execute(update(WebhookDelivery).values(created_at=too_old))
        # All of these fall due in one moment, so which three are tried first is not said.
        [never_tried, *_] = [one for one in sent if one not in receiver.ids()]
        given_up = await until_status(database, never_tried, "FAILED")
    assert len(receiver.received) == 3
    assert given_up.attempts == 0
    [entry] = await attempts(database, given_up.id)
    assert (entry.status_code, entry.error) == (None, "given up: not delivered within 36 hours")


async def read_by(database: Database, since: int = 0) -> int:
    """How many rows and index entries of deliveries the server has read so far, of sessions that have ended."""
    statement = text(
        "SELECT pg_stat_force_next_flush(), (SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables "
        "WHERE relname = 'webhook_deliveries') + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes "
        "WHERE relname = 'webhook_deliveries')"
    )
    async with database.transaction() as session:
        return int((await session.execute(statement)).one()[1]) - since


async def test_a_claim_reads_what_it_takes_and_not_the_backlog_of_the_dead(database: Database) -> None:
    await backlog(database, "http://127.1.0.", 20_000, receivers=100)
    await enqueue(database, "http://127.2.0.1/hook", 5)
    before = await read_by(database)
    async with open_store(database) as store:
        page = await store.due(None, 500)
        claimed = await store.claim({"127.2.0.1": 10}, 60)
    assert (len(page.receivers), len(claimed)) == (101, 5)

    async def counted() -> bool:
        return await read_by(database, before) >= len(claimed)

    await eventually(counted)
    # Each receiver's first, what was claimed twice (found, then changed), and little more.
    assert await read_by(database, before) < 1000


async def test_a_claim_by_lot_reads_a_part_of_what_is_passed_over(database: Database) -> None:
    await backlog(database, "http://127.1.0.", 20_000)
    await enqueue(database, "http://127.1.0.0/well", 5)
    before = await read_by(database)
    async with open_store(database) as store:
        lot = Lottery(10, {"http://127.1.0.0/hook": None})
        claimed = (await store.claim_by_lottery({"127.1.0.0": lot}, 60)).claimed
    assert [one.path for one in claimed] == ["http://127.1.0.0/well"] * 5

    async def counted() -> bool:
        return await read_by(database, before) >= len(claimed)

    await eventually(counted)
    # All of these fell due in one moment, of which more is looked at than of others.
    assert await read_by(database, before) < 5000


async def test_the_living_are_found_behind_many_dead(database: Database) -> None:
    """More receivers than one look meets. None of these may be called, which is found out at once."""
    await backlog(database, "http://10.0.0.", 250, receivers=250)
    await backlog(database, "http://10.0.1.", 250, receivers=250)
    await backlog(database, "http://10.0.2.", 250, receivers=250)
    async with receiving(Receiver()) as healthy:
        await enqueue(database, healthy.url, 3)
        async with sending(database, policy=OPEN):
            await until_received(healthy, 3)


async def test_locked_rows_delay_themselves_alone(database: Database) -> None:
    async with receiving(Receiver(delay=0.2)) as receiver, sending(database):
        locked = await enqueue(database, receiver.url, 10)
        await until_received(receiver, 1)
        async with database.transaction() as session:
            statement = select(WebhookDelivery.id).where(WebhookDelivery.id.in_(locked)).with_for_update()
            await session.execute(statement)
            [other] = await enqueue(database, receiver.url)
            await until_status(database, other, "DELIVERED")
        for one in locked:
            await until_status(database, one, "DELIVERED")
    assert sorted(receiver.ids()) == sorted([*locked, other])


async def test_a_receiver_gets_no_more_than_its_bound_at_once(database: Database) -> None:
    policy = replace(QUICK, in_flight=6, per_receiver=3)
    async with receiving(Receiver(delay=0.02)) as receiver, sending(database, policy=policy):
        await enqueue(database, receiver.url, 40)
        await until_received(receiver, 40)
    assert receiver.most_at_once <= 3


async def test_all_together_get_no_more_than_the_bound_at_once(database: Database) -> None:
    policy = replace(QUICK, in_flight=3, per_receiver=32)
    async with receiving(Receiver(delay=0.02)) as receiver, sending(database, policy=policy):
        await enqueue(database, receiver.url, 40)
        await until_received(receiver, 40)
    assert receiver.most_at_once <= 3
