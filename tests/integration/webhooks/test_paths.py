"""A path that fails, and others of its host that work."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from compute.db.session import Database
from compute.db.tables import WebhookDelivery
from compute.webhooks.sender import Breaker
from tests.integration.webhooks.receiver import (
    QUICK,
    Receiver,
    attempts,
    enqueue,
    eventually,
    receiving,
    sending,
    until_received,
    until_status,
)
from tests.patience import NEVER

FAILING = [pytest.param(Receiver([500]), id="fails"), pytest.param(Receiver(delay=NEVER), id="hangs")]
TIMEOUT = 2.0


async def attempts_at(database: Database, url: str) -> int:
    async with database.transaction() as session:
        statement = select(func.sum(WebhookDelivery.attempts)).where(WebhookDelivery.url == url)
        return int((await session.scalars(statement)).one())


async def all_arrive(database: Database, url: str, count: int) -> None:
    """One after the other, each at the first attempt, or when this process was held up in the midst of that."""
    for _ in range(count):
        [sent] = await enqueue(database, url)
        await until_status(database, sent, "DELIVERED")
        told = [one.error for one in await attempts(database, sent)]
        assert [error for error in told if error != "The receiver took too long."] == [None]


@pytest.mark.parametrize("failing", FAILING)
async def test_what_is_due_to_a_path_that_fails_waits_alone(database: Database, failing: Receiver) -> None:
    policy = replace(QUICK, breaker=Breaker(failures=3, first=NEVER, longest=NEVER, jitter=0))
    async with receiving(replace(failing, received=[])) as receiver:
        well = receiver.url.replace("/hook", "/well")
        async with sending(database, policy=policy, timeout_seconds=TIMEOUT):
            await all_arrive(database, well, 1)
            await enqueue(database, receiver.url, 300)

            async def apart() -> bool:
                return await attempts_at(database, receiver.url) >= 3

            await eventually(apart)
            await all_arrive(database, well, 20)
        # Three in a row, and what was on its way with them.
        assert await attempts_at(database, receiver.url) <= 4


@pytest.mark.parametrize("failing", FAILING)
async def test_a_host_that_was_closed_for_a_path_opens_for_the_others(database: Database, failing: Receiver) -> None:
    policy = replace(QUICK, breaker=Breaker(failures=3, first=0.05, factor=2, longest=NEVER, jitter=0))
    async with receiving(replace(failing, received=[])) as receiver:
        await enqueue(database, receiver.url, 300)
        async with sending(database, policy=policy, timeout_seconds=TIMEOUT):
            await until_received(receiver, 3)
            await all_arrive(database, receiver.url.replace("/hook", "/well"), 20)
        # The pauses double, so that they are few however long it takes.
        assert await attempts_at(database, receiver.url) < 30


async def test_a_path_that_works_again_gets_everything(database: Database) -> None:
    policy = replace(QUICK, breaker=Breaker(failures=3, first=0.1, factor=1, jitter=0))
    async with receiving(Receiver([500] * 10 + [200])) as receiver:
        well = receiver.url.replace("/hook", "/well")
        async with sending(database, policy=policy):
            sent = await enqueue(database, receiver.url, 100)
            await all_arrive(database, well, 5)
            for one in sent:
                await until_status(database, one, "DELIVERED")
        assert await attempts_at(database, receiver.url) <= 110


async def test_a_host_with_a_path_for_each_delivery_is_left_alone_as_a_whole(database: Database) -> None:
    policy = replace(QUICK, breaker=Breaker(failures=3, first=NEVER, longest=NEVER, jitter=0))
    async with receiving(Receiver([500])) as receiver, receiving(Receiver()) as healthy:
        async with sending(database, policy=policy):
            await all_arrive(database, receiver.url.replace("/hook", "/well"), 1)
            urls = [receiver.url.replace("/hook", f"/{number}") for number in range(100)]
            for url in urls:
                await enqueue(database, url)
            await until_received(receiver, 4)
            await all_arrive(database, healthy.url, 20)
        # Three in a row, and what was on its way with them.
        assert sum([await attempts_at(database, url) for url in urls]) <= 4
