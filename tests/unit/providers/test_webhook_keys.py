"""The time for which fal's keys are believed."""

from collections.abc import AsyncIterator

import pytest

from compute.errors import Unauthorized, Unavailable
from compute.providers.calls.http import HttpClient
from compute.providers.vendors.fal.webhooks import FalWebhooks
from tests.providers.standins.fal import USER, Fal
from tests.providers.standins.faults import from_nginx, html
from tests.providers.standins.webhooks import ed_message

START = 1_800_000_000
BODY = b'{"request_id": "r-1"}'


class Clock:
    now = float(START)


@pytest.fixture
async def fal() -> AsyncIterator[Fal]:
    async with Fal() as stand_in:
        yield stand_in


@pytest.fixture
async def webhooks(fal: Fal) -> AsyncIterator[FalWebhooks]:
    async with HttpClient() as http:
        yield FalWebhooks(http, f"{fal.url('rest')}/.well-known/jwks.json", now=lambda: Clock.now)


@pytest.fixture(autouse=True)
def _from_the_start() -> None:
    Clock.now = START


async def verify(webhooks: FalWebhooks, fal: Fal) -> None:
    timestamp = str(int(Clock.now))
    signature = fal.keys.sign(ed_message("r-1", USER, timestamp, BODY))
    signed = {"request-id": "r-1", "user-id": USER, "timestamp": timestamp, "signature": signature}
    await webhooks.verify(webhooks.head({f"x-fal-webhook-{name}": text for name, text in signed.items()}), BODY)


async def test_a_new_key_is_learnt_within_a_minute(fal: Fal, webhooks: FalWebhooks) -> None:
    await verify(webhooks, fal)
    fal.keys.rotate()
    fal.keys.rotate()
    with pytest.raises(Unauthorized):
        await verify(webhooks, fal)
    Clock.now += 61
    await verify(webhooks, fal)
    assert len(fal.arrived("jwks")) == 2


async def test_keys_are_believed_for_a_day(fal: Fal, webhooks: FalWebhooks) -> None:
    await verify(webhooks, fal)
    fal.faults.on("jwks", from_nginx())
    Clock.now += 24 * 3600 - 1
    await verify(webhooks, fal)
    Clock.now += 2
    with pytest.raises(Unavailable):
        await verify(webhooks, fal)


async def test_what_is_no_list_of_keys_replaces_none(fal: Fal, webhooks: FalWebhooks) -> None:
    await verify(webhooks, fal)
    fal.faults.on("jwks", html())
    fal.keys.rotate()
    fal.keys.rotate()
    Clock.now += 61
    with pytest.raises(Unauthorized):
        await verify(webhooks, fal)
