"""Calls at a vendor whose tasks have ended, or are gone."""

import asyncio

import pytest

from tests.integration.providers.platform import AT_FAL, HELD, OpenPlatform, Platform, leading_to
from tests.patience import PATIENCE
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import hang_before_headers, held, refused
from tests.providers.standins.openai import OpenAI


@pytest.fixture
async def fal(fal: Fal) -> Fal:
    """Its jobs go on until they are finished or stopped."""
    fal.plan = HELD
    return fal


async def cancelled(platform: Platform, fal: Fal, count: int = 1) -> list[str]:
    """Tasks that the vendor has accepted, and that were cancelled since."""
    tasks = [(await platform.submit("GENERATION", **AT_FAL))["id"] for _ in range(count)]
    for task_id in tasks:
        await platform.until_accepted(task_id)
        await platform.api.post(f"/tasks/{task_id}/cancel")
    return tasks


async def test_a_task_that_is_removed_is_stopped_at_its_vendor_all_the_same(opened: OpenPlatform, fal: Fal) -> None:
    async with opened(**leading_to(fal)) as platform, platform.dispatching():
        (task_id,) = await cancelled(platform, fal)
        await platform.api.delete(f"/tasks/{task_id}")
        assert await platform.keeper.look() == 1
        assert len(fal.arrived("cancel")) == 1
        assert [call.state for call in await platform.calls(task_id)] == ["CANCELLED"]


async def test_a_task_that_is_removed_while_its_vendor_is_told_harms_nobody(opened: OpenPlatform, fal: Fal) -> None:
    removed = asyncio.Event()
    fal.faults.on("cancel", held(removed, refused(Trouble.UNAVAILABLE)))
    async with opened(**leading_to(fal)) as platform, platform.dispatching():
        tasks = await cancelled(platform, fal, 2)
        looking = asyncio.create_task(platform.keeper.look())
        await fal.until(lambda: fal.hanging == 1)
        await platform.until_calls(lambda calls: "CANCELLED" in {call.state for call in calls}, *tasks)
        for task_id in tasks:
            await platform.api.delete(f"/tasks/{task_id}")
        removed.set()
        assert await looking == 2
        # The one that could not be told is told later; the other is gone with its task.
        assert [call.state for call in await platform.calls(*tasks)] == ["ACCEPTED"]
        assert len(fal.arrived("cancel")) == 2


async def test_a_vendor_that_cannot_be_told_is_told_later(
    opened: OpenPlatform, fal: Fal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compute.providers.ledger.keeper._EVERY_SECONDS", 0.2)
    fal.faults.on("cancel", refused(Trouble.UNAVAILABLE))
    async with opened(**leading_to(fal)) as platform, platform.dispatching():
        (task_id,) = await cancelled(platform, fal)
        await platform.keeper.look()
        assert [call.state for call in await platform.calls(task_id)] == ["ACCEPTED"]
        async with asyncio.timeout(PATIENCE):
            while [call.state for call in await platform.calls(task_id)] != ["CANCELLED"]:
                await platform.keeper.look()
                await asyncio.sleep(0.05)
        assert len(fal.arrived("cancel")) == 2


async def test_a_followed_request_of_somebody_else_is_not_cancelled(opened: OpenPlatform, fal: Fal) -> None:
    async with opened(**leading_to(fal)) as platform, platform.dispatching():
        theirs = await platform.submit("GENERATION", **AT_FAL)
        await fal.until(lambda: bool(fal.made))
        followed = {"provider_config": {"fal_request_id": fal.made[0].id}}
        mine = await platform.submit("GENERATION", **AT_FAL, **followed)
        await platform.until_accepted(mine["id"])
        await platform.api.post(f"/tasks/{mine['id']}/cancel")
        await platform.keeper.look()
        assert fal.arrived("cancel") == []
        await fal.finish(fal.made[0])
        assert (await platform.until(theirs["id"], "COMPLETED", "FAILED"))["status"] == "COMPLETED"


async def test_a_cancelled_answer_is_cut_off_and_says_that_it_may_be_billed(opened: OpenPlatform) -> None:
    async with OpenAI() as openai:
        openai.faults.always("chat", hang_before_headers())
        async with opened(**leading_to(openai)) as platform, platform.dispatching():
            task = await platform.submit("LLM_INTERACTION", prompt="a poem")
            await openai.until(lambda: openai.hanging == 1)
            await platform.api.post(f"/tasks/{task['id']}/cancel")
            platform.keeper.heard(task["id"])
            (call,) = await platform.until_states(task["id"], "CANCELLED")
            assert "may be billed" in (call.error or "")


async def test_a_task_that_was_sent_cannot_be_changed(opened: OpenPlatform, fal: Fal) -> None:
    async with opened(**leading_to(fal)) as platform:
        async with platform.dispatching():
            app = {"fal_app_id": "acme/first", "fal_parameters": {"colour": "red"}}
            task = await platform.submit("EXPERIMENTAL_FAL", **app)
            await fal.until(lambda: bool(fal.arrived("status")))
        # It was handed back.
        assert (await platform.task(task["id"]))["status"] == "PENDING"
        answer = await platform.api.put(f"/tasks/{task['id']}", json={"fal_parameters": {"colour": "blue"}})
        assert answer.status_code == 409
        assert "was sent to its provider" in answer.text
