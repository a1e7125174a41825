"""One receiver's trouble stays its own, and several senders keep out of each other's way."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from compute.db.session import Database
from compute.db.tables import WebhookDelivery
from tests.integration.webhooks.receiver import (
    QUICK,
    Load,
    Receiver,
    attempts,
    delivery,
    enqueue,
    eventually,
    receiving,
    sending,
    statuses,
    until_received,
    until_status,
)
from tests.patience import NEVER, PATIENCE


async def test_a_hanging_receiver_delays_nobody_else(database: Database) -> None:
    async with receiving(Receiver(delay=NEVER)) as hanging, receiving(Receiver()) as healthy:
        # More than one claim looks at: the healthy receiver's delivery lies behind all of it.
        await enqueue(database, hanging.url, 1500)
        await enqueue(database, healthy.url, 3)
        # No time limit ever makes room by ending the hanging request.
        async with sending(database, timeout_seconds=NEVER):
            await until_received(hanging)
            await until_received(healthy, 3)
            await asyncio.sleep(0.2)
    assert len(hanging.received) == 1


async def test_hanging_receivers_do_not_use_up_the_sender(database: Database) -> None:
    hanging = [Receiver(delay=NEVER) for _ in range(3)]
    async with receiving(hanging[0]), receiving(hanging[1]), receiving(hanging[2]), receiving(Receiver()) as healthy:
        for receiver in hanging:
            await enqueue(database, receiver.url, 20)
        await enqueue(database, healthy.url, 20)
        async with sending(database, policy=replace(QUICK, in_flight=8), timeout_seconds=NEVER):
            await until_received(healthy, 20)
            for receiver in hanging:
                await until_received(receiver)
    assert [len(receiver.received) for receiver in hanging] == [1, 1, 1]


async def test_a_prompt_receiver_gets_more_at_once_up_to_the_bound(database: Database) -> None:
    load = Load()
    async with receiving(Receiver(delay=0.02)) as receiver, sending(database, load=load):
        await enqueue(database, receiver.url, 100)
        await until_received(receiver, 100)
    # How many of them are there at once depends on the machine, too.
    assert load.most >= 4
    assert receiver.most_at_once <= QUICK.per_receiver


async def test_a_backlog_does_not_wait_for_the_poll(database: Database) -> None:
    async with receiving(Receiver()) as receiver:
        await enqueue(database, receiver.url, 100)
        async with sending(database, policy=replace(QUICK, poll=NEVER)):
            await until_received(receiver, 100)


async def test_two_senders_send_nothing_twice(database: Database, database_url: str) -> None:
    other = Database(database_url)
    async with receiving(Receiver(delay=0.01)) as first, receiving(Receiver(delay=0.01)) as second:
        async with sending(database, owner="one"), sending(other, owner="two"):
            for _ in range(10):
                await enqueue(database, first.url, 10)
                await enqueue(database, second.url, 10)

            async def all_delivered() -> bool:
                return await statuses(database) == {"DELIVERED"}

            await eventually(all_delivered)
        await other.close()
    counts = Counter(first.ids() + second.ids())
    assert len(counts) == 200
    assert set(counts.values()) == {1}


async def test_a_killed_senders_delivery_is_sent_again_after_its_lease(database: Database) -> None:
    timeout, margin = PATIENCE, 1.0
    policy = replace(QUICK, lease_margin=margin)
    begun = datetime.now(UTC)
    async with receiving(Receiver(delay=NEVER)) as receiver:
        [sent] = await enqueue(database, receiver.url)
        async with sending(database, policy=policy, timeout_seconds=timeout) as doomed:
            await until_received(receiver)
            seen = datetime.now(UTC)
            doomed.cancel()
        row = await delivery(database, sent)
        assert (row.status, row.attempts) == ("PENDING", 0)
        lease = timedelta(seconds=timeout + margin)
        # ClaimedDelivery between these two moments, for so long and no longer.
        assert begun + lease <= row.next_attempt_at <= seen + lease
        # It ends sooner than that, and it is not sent before.
        due = datetime.now(UTC) + timedelta(seconds=0.5)
        async with database.transaction() as session:
            await session.execute(update(WebhookDelivery).values(next_attempt_at=due))
        receiver.delay = 0
        async with sending(database, policy=policy, timeout_seconds=timeout):
            await until_status(database, sent, "DELIVERED")
    assert receiver.ids() == [sent, sent]
    [attempt] = await attempts(database, sent)
    assert attempt.attempted_at >= due


async def test_stopping_is_never_overheard(database: Database) -> None:
    """A request that ends just when the sender is told to stop must not keep it running."""
    async with receiving(Receiver()) as receiver:
        for round_number in range(1, 21):
            async with sending(database):
                await enqueue(database, receiver.url)
                await until_received(receiver, round_number)
