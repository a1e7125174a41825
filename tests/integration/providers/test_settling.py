"""Settling, by an operator, of a call whose answer was lost, from the loss to the end of its task."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from compute.db.tables import ProviderCall
from tests.integration.providers.platform import AT_FAL, OpenPlatform, Platform, leading_to
from tests.patience import PATIENCE
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import from_nginx, reset_after_body
from tests.providers.standins.openai import OpenAI

ADMIN_KEY = "admin-key-of-some-length"


@pytest.fixture
async def fal(fal: Fal) -> Fal:
    """Its first answer is lost."""
    fal.faults.on("submit", reset_after_body(), call=1)
    return fal


@pytest.fixture
async def openai() -> AsyncIterator[OpenAI]:
    async with OpenAI() as stand_in:
        yield stand_in


@pytest.fixture
async def platform(opened: OpenPlatform, fal: Fal, openai: OpenAI) -> AsyncIterator[Platform]:
    vendors = leading_to(fal) | leading_to(openai)
    async with opened(admin_api_key=ADMIN_KEY, **vendors) as platform, platform.dispatching():
        yield platform


async def lost(platform: Platform, task_type: str = "GENERATION", **fields: Any) -> ProviderCall:
    """A call whose answer was lost, and whose task waits for news of it."""
    task = await platform.submit(task_type, **(fields or AT_FAL))
    async with asyncio.timeout(PATIENCE):
        while True:
            await platform.until(task["id"], "PENDING")
            calls = await platform.calls(task["id"])
            if calls and calls[0].state == "UNCERTAIN":
                return calls[0]
            await asyncio.sleep(0.02)


async def settle(platform: Platform, call: ProviderCall, action: str, **more: str) -> httpx.Response:
    return await platform.api.post(
        f"/providers/calls/{call.id}/settle",
        json={"action": action, **more},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
    )


async def test_a_call_that_was_found_is_collected_and_not_paid_again(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    answer = await settle(platform, call, "collect", vendor_id=fal.made[0].id)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["state"], said["settled"], said["vendor_id"]) == ("ACCEPTED", "collect", fal.made[0].id)
    done = await platform.until(str(call.task_id), "COMPLETED", "FAILED")
    assert done["status"] == "COMPLETED", done["errors"]
    (call,) = await platform.calls(str(call.task_id))
    assert (call.state, call.settled, fal.submits) == ("COLLECTED", "collect", 1)


async def test_an_id_that_the_vendor_does_not_know_is_refused(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    answer = await settle(platform, call, "collect", vendor_id="another-request")
    assert answer.status_code == 409
    assert "another-request" in answer.json()["detail"]
    (call,) = await platform.calls(str(call.task_id))
    assert (call.state, call.vendor_id, call.settled) == ("UNCERTAIN", None, None)
    assert fal.submits == 1


async def test_the_request_of_another_call_is_refused(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    other = await platform.submit("GENERATION", **AT_FAL)
    await platform.until(other["id"], "COMPLETED", "FAILED")
    answer = await settle(platform, call, "collect", vendor_id=fal.made[1].id)
    assert (answer.status_code, "another call's" in answer.json()["detail"]) == (409, True)
    assert (await platform.calls(str(call.task_id)))[0].state == "UNCERTAIN"


async def test_a_vendor_that_is_away_leaves_the_call_as_it_is(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    fal.faults.on("status", from_nginx())
    answer = await settle(platform, call, "collect", vendor_id=fal.made[0].id)
    assert answer.status_code == 503
    assert (await platform.calls(str(call.task_id)))[0].state == "UNCERTAIN"


async def test_a_call_that_is_given_up_ends_its_task(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    assert (await settle(platform, call, "give_up")).json()["state"] == "GIVEN_UP"
    task = await platform.until(str(call.task_id), "COMPLETED", "FAILED")
    assert task["status"] == "FAILED"
    assert "an operator gave up on it" in task["errors"][-1]
    assert fal.submits == 1


async def test_a_call_that_is_sent_again_is_another_one(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    assert (await settle(platform, call, "send_again")).json()["state"] == "RESENT"
    task = await platform.until(str(call.task_id), "COMPLETED", "FAILED")
    assert task["status"] == "COMPLETED", task["errors"]
    assert [one.state for one in await platform.calls(str(call.task_id))] == ["RESENT", "COLLECTED"]
    assert fal.submits == 2


async def test_of_two_operators_one_is_refused(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    answers = await asyncio.gather(
        *(settle(platform, call, action) for action in ("give_up", "send_again", "give_up", "send_again"))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    await platform.until(str(call.task_id), "COMPLETED", "FAILED")
    assert fal.submits <= 2


async def test_nothing_can_be_collected_of_a_vendor_that_answers_at_once(platform: Platform, openai: OpenAI) -> None:
    openai.faults.on("chat", reset_after_body(), call=1)
    call = await lost(platform, "LLM_INTERACTION", prompt="Say hello.")
    answer = await settle(platform, call, "collect", vendor_id="chatcmpl-1")
    assert answer.status_code == 409
    assert "answers at once" in answer.json()["detail"]
    assert (await settle(platform, call, "send_again")).status_code == 200
    task = await platform.until(str(call.task_id), "COMPLETED", "FAILED")
    assert task["status"] == "COMPLETED", task["errors"]


async def test_a_call_whose_task_has_ended_can_only_be_given_up(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    assert (await platform.api.post(f"/tasks/{call.task_id}/cancel")).status_code == 200
    for action, more in (("send_again", {}), ("collect", {"vendor_id": fal.made[0].id})):
        answer = await settle(platform, call, action, **more)
        assert answer.status_code == 409, action
        assert "CANCELLED" in answer.json()["detail"]
    assert (await settle(platform, call, "give_up")).json()["state"] == "GIVEN_UP"


async def test_only_what_is_uncertain_can_be_settled(platform: Platform, fal: Fal) -> None:
    call = await lost(platform)
    await settle(platform, call, "give_up")
    for action, more in (("give_up", {}), ("send_again", {}), ("collect", {"vendor_id": fal.made[0].id})):
        answer = await settle(platform, call, action, **more)
        assert answer.status_code == 409
        assert "GIVEN_UP" in answer.json()["detail"]
