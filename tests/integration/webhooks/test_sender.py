"""Webhooks from the outbox to real receivers: signed, retried, logged."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete
from standardwebhooks import Webhook, WebhookVerificationError

import compute
from compute.db.session import Database
from compute.db.tables import Task
from tests.integration.rows import add, claim, settle, start
from tests.integration.webhooks.receiver import (
    SECRET,
    Receiver,
    attempts,
    delivery,
    enqueue,
    eventually,
    receiving,
    sending,
    until_received,
    until_status,
)
from tests.patience import NEVER


async def test_the_signature_verifies(database: Database) -> None:
    async with receiving(Receiver()) as receiver, sending(database):
        [expected] = await enqueue(
            database, receiver.url, prompt='naïve "quotes" 猫 \\ \u2028', nested={"x": [1.5, None]}
        )
        await until_status(database, expected, "DELIVERED")
    [received] = receiver.received
    assert received.id == expected
    event = Webhook(SECRET).verify(received.body, received.headers)
    assert event == {"n": 0, "prompt": 'naïve "quotes" 猫 \\ \u2028', "nested": {"x": [1.5, None]}}
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"] == f"compute/{compute.__version__}"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(received.body + b" ", received.headers)


async def test_while_the_secret_changes_either_verifies(database: Database) -> None:
    new = "whsec_" + "bmV3a2V5" * 4
    async with receiving(Receiver()) as receiver, sending(database, secret=f"{new} {SECRET}"):
        [sent] = await enqueue(database, receiver.url)
        await until_status(database, sent, "DELIVERED")
    [received] = receiver.received
    assert Webhook(new).verify(received.body, received.headers) == Webhook(SECRET).verify(
        received.body, received.headers
    )
    assert len(received.headers["webhook-signature"].split(" ")) == 2


async def test_a_delivery_is_logged(database: Database) -> None:
    before = datetime.now(UTC)
    async with receiving(Receiver([202], delay=0.2)) as receiver, sending(database):
        [sent] = await enqueue(database, receiver.url)
        row = await until_status(database, sent, "DELIVERED")
    [attempt] = await attempts(database, sent)
    assert (attempt.status_code, attempt.error) == (202, None)
    assert 200 <= attempt.duration_ms <= (datetime.now(UTC) - before) / timedelta(milliseconds=1)
    assert row.attempts == 1
    assert row.delivered_at is not None
    assert before <= attempt.attempted_at <= row.delivered_at


async def test_a_retry_keeps_its_id_and_signs_anew(database: Database) -> None:
    async with receiving(Receiver([500, 302, 200])) as receiver, sending(database):
        [sent] = await enqueue(database, receiver.url)
        row = await until_status(database, sent, "DELIVERED")
    assert receiver.ids() == [sent] * 3
    assert len({received.body for received in receiver.received}) == 1
    for received in receiver.received:
        Webhook(SECRET).verify(received.body, received.headers)
    assert row.attempts == 3
    assert [(one.status_code, one.error) for one in await attempts(database, sent)] == [
        (500, "the receiver answered 500"),
        (302, "the receiver answered 302; redirects are not followed"),
        (200, None),
    ]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_receiver_may_ask_for_time(database: Database, status: int) -> None:
    async with receiving(Receiver([status, 200], headers={"Retry-After": "1"})) as receiver, sending(database):
        [sent] = await enqueue(database, receiver.url)
        await until_status(database, sent, "DELIVERED")
    first, second = await attempts(database, sent)
    assert second.attempted_at - first.attempted_at >= timedelta(seconds=1)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_receiver_gets_the_time_that_it_asks_for_and_no_more(database: Database, status: int) -> None:
    asked = timedelta(hours=1)
    headers = {"Retry-After": str(int(asked.total_seconds()))}
    async with receiving(Receiver([status], headers=headers)) as receiver, sending(database):
        [sent] = await enqueue(database, receiver.url)

        async def tried() -> bool:
            return (await delivery(database, sent)).attempts == 1

        await eventually(tried)
        seen = datetime.now(UTC)
        row = await delivery(database, sent)
    [first] = await attempts(database, sent)
    assert first.attempted_at + asked <= row.next_attempt_at <= seen + asked


async def test_gone_stops_at_once(database: Database) -> None:
    async with receiving(Receiver([410])) as receiver, sending(database):
        [sent] = await enqueue(database, receiver.url)
        row = await until_status(database, sent, "FAILED")
        await asyncio.sleep(0.3)
    assert len(receiver.received) == 1
    assert (row.attempts, row.delivered_at) == (1, None)


async def test_it_gives_up_after_max_attempts(database: Database) -> None:
    async with receiving(Receiver([500])) as receiver, sending(database, max_attempts=3):
        [sent] = await enqueue(database, receiver.url)
        row = await until_status(database, sent, "FAILED")
        await asyncio.sleep(0.3)
    assert len(receiver.received) == 3
    assert (row.attempts, row.delivered_at) == (3, None)
    assert len(await attempts(database, sent)) == 3


async def test_silence_and_refused_connections_are_retried(database: Database) -> None:
    async with receiving(Receiver(delay=NEVER)) as receiver, sending(database, max_attempts=2, timeout_seconds=0.2):
        [slow] = await enqueue(database, receiver.url)
        await until_status(database, slow, "FAILED")
    async with sending(database, max_attempts=2):
        [nobody] = await enqueue(database, "http://127.0.0.1:1/hook")
        await until_status(database, nobody, "FAILED")
    for sent, error in ((slow, "The receiver took too long."), (nobody, "The connection to the receiver failed.")):
        assert [(one.status_code, one.error) for one in await attempts(database, sent)] == [(None, error)] * 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/hook?token=hunter2", "http://10.1.2.3/hook", "ftp://example.com/", "nonsense"]
)
async def test_what_may_not_be_called_is_not(database: Database, url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with receiving(Receiver()) as receiver, sending(database, allowed=(), max_attempts=2):
        [sent] = await enqueue(database, url.format(port=receiver.url.split(":")[2].split("/")[0]))
        await until_status(database, sent, "FAILED")
    assert receiver.received == []
    logged = await attempts(database, sent)
    assert [one.status_code for one in logged] == [None, None]
    for one in logged:
        assert one.error is not None
        assert one.error.startswith("not sent: ")
        assert "127.0.0.1" not in one.error
    assert "hunter2" not in caplog.text
    assert SECRET not in caplog.text


async def test_the_payload_outlives_its_task(database: Database) -> None:
    async with receiving(Receiver()) as receiver:
        task = await add(database, webhook_url=receiver.url, origin_reference="order-7")
        [claimed] = await claim(database)
        await start(database, claimed)
        await settle(database, claimed)
        async with database.transaction() as session:
            await session.execute(delete(Task).where(Task.id == task.id))
        async with sending(database):
            await until_received(receiver)
    event = json.loads(receiver.received[0].body)
    assert (event["task_id"], event["status"]) == (str(task.id), "COMPLETED")
    assert (event["result_image_path"], event["origin_reference"]) == ("a.png", "order-7")
