"""Webhooks: signed as each vendor signs them, and duplicate, reordered, late, forged or of a wrong clock."""

import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.providers.receiver import Receiver, fal_keys, is_fals, is_standard, receiving
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.faults import reset_after_body
from tests.providers.standins.jobs import Job, JobStandIn, Plan
from tests.providers.standins.magnific import Magnific
from tests.providers.standins.webhooks import Forgery
from tests.providers.vendors import VENDORS, Vendor, with_webhook

FAL, FASHN, MAGNIFIC = VENDORS[:3]
every_vendor = pytest.mark.parametrize("vendor", [FAL, FASHN, MAGNIFIC], ids=str)
TEN_MINUTES = 600.0


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def ended(client: httpx.AsyncClient, vendor: Vendor, stand_in: JobStandIn, receiver: Receiver) -> Job:
    """A job that has ended and has told so, or is about to."""
    (await vendor.post(client, stand_in, with_webhook(vendor, receiver.url))).raise_for_status()
    job = stand_in.made[-1]
    await stand_in.finish(job)
    await stand_in.webhooks.idle()
    return job


@every_vendor
async def test_a_job_tells_its_end_by_itself(vendor: Vendor, client: httpx.AsyncClient, receiver: Receiver) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        job = await ended(client, vendor, stand_in, receiver)
        assert job.id.encode() in receiver.messages[-1].body
        assert stand_in.webhooks.outbox[-1].statuses == [200]


@every_vendor
async def test_a_webhook_comes_twice(vendor: Vendor, client: httpx.AsyncClient, receiver: Receiver) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.webhooks.copies = 2
        await ended(client, vendor, stand_in, receiver)
        bodies = [one.body for one in receiver.messages]
        assert len(bodies) == 2 * len(stand_in.webhooks.outbox)
        assert len(set(bodies)) == len(stand_in.webhooks.outbox)


@every_vendor
async def test_webhooks_come_in_another_order(vendor: Vendor, client: httpx.AsyncClient, receiver: Receiver) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.webhooks.automatic = False
        jobs = [await ended(client, vendor, stand_in, receiver) for _ in range(2)]
        assert receiver.messages == []
        for delivery in reversed(stand_in.webhooks.outbox):
            assert await stand_in.webhooks.send(delivery) == 200
        assert jobs[1].id.encode() in receiver.messages[0].body
        assert jobs[0].id.encode() in receiver.messages[-1].body
        assert [one.body for one in receiver.messages] == [one.body for one in reversed(stand_in.webhooks.outbox)]


@every_vendor
async def test_a_webhook_that_nobody_took_comes_again(
    vendor: Vendor, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        receiver.status = 503
        await ended(client, vendor, stand_in, receiver)
        receiver.status = 200
        await stand_in.webhooks.send_again()
        await stand_in.webhooks.send_again()
        assert [one.statuses for one in stand_in.webhooks.outbox] == [[503, 200]] * len(stand_in.webhooks.outbox)


async def test_a_receiver_that_is_away_is_noted(fal: Fal, client: httpx.AsyncClient) -> None:
    async with receiving() as receiver:
        gone = receiver.url
    await ended(client, FAL, fal, Receiver(gone))
    assert fal.webhooks.outbox[0].statuses == [0]


async def test_a_webhook_comes_after_the_cancel(fal: Fal, client: httpx.AsyncClient, receiver: Receiver) -> None:
    fal.plan = Plan(("IN_PROGRESS", "COMPLETED"), obeys_cancel=False)
    said = (await FAL.post(client, fal, with_webhook(FAL, receiver.url))).json()
    await client.put(said["cancel_url"], headers=FAL.headers)
    assert receiver.messages == []
    await fal.finish(fal.made[0])
    await fal.webhooks.idle()
    assert [one.data["status"] for one in receiver.messages] == ["OK"]


@every_vendor
async def test_a_submit_whose_answer_was_lost_is_found_by_its_webhook(
    vendor: Vendor, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        stand_in.faults.on(vendor.paid.route, reset_after_body())
        with pytest.raises(httpx.NetworkError):
            await vendor.post(client, stand_in, with_webhook(vendor, receiver.url))
        job = stand_in.made[0]
        await stand_in.finish(job)
        await stand_in.webhooks.idle()
        last = receiver.messages[-1]
        assert (last.path, job.id in last.body.decode()) == ("/hook?task=41", True)
        assert await vendor.poll(client, stand_in, job) == vendor.states[2]


async def test_fals_signature(fal: Fal, client: httpx.AsyncClient, receiver: Receiver) -> None:
    await ended(client, FAL, fal, receiver)
    fal.keys.rotate()
    await ended(client, FAL, fal, receiver)
    keys = await fal_keys(client, fal.url("rest"))
    assert len(keys) > 1
    assert [is_fals(one, keys, time.time()) for one in receiver.messages] == [True, True]
    assert receiver.messages[0].headers["X-Fal-Webhook-Request-Id"] == fal.made[0].id


async def test_magnifics_signature(magnific: Magnific, client: httpx.AsyncClient, receiver: Receiver) -> None:
    await ended(client, MAGNIFIC, magnific, receiver)
    assert [is_standard(one, magnific.secret) for one in receiver.messages] == [True, True]
    assert all(one.headers["webhook-signature"].count("v1,") == 2 for one in receiver.messages)


async def test_fashn_signs_nothing(fashn: Fashn, client: httpx.AsyncClient, receiver: Receiver) -> None:
    await ended(client, FASHN, fashn, receiver)
    assert not [name for name in receiver.messages[0].headers if "signature" in name.lower()]


@pytest.mark.parametrize("forgery", Forgery, ids=lambda one: one.name)
async def test_a_forgery_of_fals(fal: Fal, forgery: Forgery, client: httpx.AsyncClient, receiver: Receiver) -> None:
    await ended(client, FAL, fal, receiver)
    await fal.webhooks.send(fal.webhooks.outbox[0], forgery=forgery)
    keys = await fal_keys(client, fal.url("rest"))
    assert [is_fals(one, keys, time.time()) for one in receiver.messages] == [True, False]


@pytest.mark.parametrize("forgery", Forgery, ids=lambda one: one.name)
async def test_a_forgery_of_magnifics(
    magnific: Magnific, forgery: Forgery, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await ended(client, MAGNIFIC, magnific, receiver)
    await magnific.webhooks.send(magnific.webhooks.outbox[-1], forgery=forgery)
    assert [is_standard(one, magnific.secret) for one in receiver.messages] == [True, True, False]


async def test_a_forgery_of_fashns_is_seen_at_its_status_only(
    fashn: Fashn, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await ended(client, FASHN, fashn, receiver)
    await fashn.webhooks.send(fashn.webhooks.outbox[0], forgery=Forgery.BODY)
    true, forged = [one.data for one in receiver.messages]
    response = await client.get(f"{fashn.url()}/v1/status/{true['id']}", headers=FASHN.headers)
    assert response.json() == true != forged


@pytest.mark.parametrize("skew", [-TEN_MINUTES, TEN_MINUTES])
async def test_a_clock_is_ten_minutes_wrong(
    fal: Fal, magnific: Magnific, skew: float, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    fal.webhooks.skew = magnific.webhooks.skew = skew
    await ended(client, FAL, fal, receiver)
    await ended(client, MAGNIFIC, magnific, receiver)
    from_fal, *from_magnific = receiver.messages
    keys = await fal_keys(client, fal.url("rest"))
    assert not is_fals(from_fal, keys, time.time())
    assert is_fals(from_fal, keys, time.time() + skew)
    assert [is_standard(one, magnific.secret) for one in from_magnific] == [False, False]
