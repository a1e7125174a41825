"""What becomes of calls at a vendor once their tasks have ended, or are gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from compute.settings import Settings
from tests.integration.api.conftest import KEY
from tests.integration.providers.platform import Platform, open_platform
from tests.patience import PATIENCE
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import hang_before_headers, refused
from tests.providers.standins.jobs import Plan
from tests.providers.standins.openai import OpenAI

AT_FAL = {"prompt": "a red coat", "width": 64, "height": 64, "seed": 7, "provider_type": "FAL_STANDARD"}
Opened = Callable[..., AbstractAsyncContextManager[Platform]]


@pytest.fixture
async def fal() -> AsyncIterator[Fal]:
    async with Fal() as stand_in:
        stand_in.plan = Plan(("IN_QUEUE", "IN_PROGRESS", "COMPLETED"), held=True)
        yield stand_in


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> Opened:
    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Platform]:
        chosen = Settings(
            api_key=KEY, database_url=database_url, home=tmp_path, media_allowed_hosts="127.0.0.1", **settings
        )
        async with open_platform(chosen) as platform, platform.dispatching():
            yield platform

    return opened


def of(fal: Fal) -> dict[str, Any]:
    return {"fal_key": fal.key, "fal_queue_url": fal.url("queue")}


async def cancelled(platform: Platform, fal: Fal, count: int = 1) -> list[str]:
    """Tasks that the vendor has accepted, and that were cancelled since."""
    tasks = [(await platform.submit("GENERATION", **AT_FAL))["id"] for _ in range(count)]
    for task_id in tasks:
        async with asyncio.timeout(PATIENCE):
            while not any(call.vendor_id for call in await platform.calls(task_id)):
                await asyncio.sleep(0.02)
        await platform.api.post(f"/tasks/{task_id}/cancel")
    return tasks


async def test_a_task_that_is_removed_is_stopped_at_its_vendor_all_the_same(opened: Opened, fal: Fal) -> None:
    async with opened(**of(fal)) as platform:
        (task_id,) = await cancelled(platform, fal)
        await platform.api.delete(f"/tasks/{task_id}")
        assert await platform.keeper.look() == 1
        assert len(fal.arrived("cancel")) == 1
        assert [call.state for call in await platform.calls(task_id)] == ["CANCELLED"]


async def test_a_task_that_is_removed_while_its_vendor_is_told_harms_nobody(opened: Opened, fal: Fal) -> None:
    fal.faults.on("cancel", hang_before_headers())
    async with opened(**of(fal)) as platform:
        first, second = await cancelled(platform, fal, 2)
        looking = asyncio.create_task(platform.keeper.look())
        await fal.until(lambda: fal.hanging == 1)
        await platform.api.delete(f"/tasks/{first}")
        await platform.api.delete(f"/tasks/{second}")
        await looking
        left = [*await platform.calls(first), *await platform.calls(second)]
        # The one that could not be told is told later; the other is gone with its task.
        assert [call.state for call in left] == ["ACCEPTED"]
        assert len(fal.arrived("cancel")) == 2


async def test_a_vendor_that_cannot_be_told_is_told_later(opened: Opened, fal: Fal) -> None:
    fal.faults.on("cancel", refused(Trouble.UNAVAILABLE))
    async with opened(**of(fal)) as platform:
        (task_id,) = await cancelled(platform, fal)
        await platform.keeper.look()
        assert [call.state for call in await platform.calls(task_id)] == ["ACCEPTED"]
        async with asyncio.timeout(PATIENCE):
            while [call.state for call in await platform.calls(task_id)] != ["CANCELLED"]:
                await platform.keeper.look()
                await asyncio.sleep(0.1)
        assert len(fal.arrived("cancel")) == 2


async def test_a_followed_request_of_somebody_else_is_not_cancelled(opened: Opened, fal: Fal) -> None:
    async with opened(**of(fal)) as platform:
        theirs = await platform.submit("GENERATION", **AT_FAL)
        await fal.until(lambda: bool(fal.made))
        followed = {"provider_config": {"fal_request_id": fal.made[0].id}}
        mine = await platform.submit("GENERATION", **AT_FAL, **followed)
        async with asyncio.timeout(PATIENCE):
            while not any(call.vendor_id for call in await platform.calls(mine["id"])):
                await asyncio.sleep(0.02)
        await platform.api.post(f"/tasks/{mine['id']}/cancel")
        await platform.keeper.look()
        assert fal.arrived("cancel") == []
        await fal.finish(fal.made[0])
        assert (await platform.until(theirs["id"], "COMPLETED", "FAILED"))["status"] == "COMPLETED"


async def test_a_cancelled_answer_is_cut_off_and_says_that_it_may_be_billed(opened: Opened) -> None:
    async with OpenAI() as openai:
        openai.faults.always("chat", hang_before_headers())
        settings = {"openai_api_key": openai.key, "openai_base_url": f"{openai.url()}/v1"}
        async with opened(**settings) as platform:
            task = await platform.submit("LLM_INTERACTION", prompt="a poem")
            await openai.until(lambda: openai.hanging == 1)
            await platform.api.post(f"/tasks/{task['id']}/cancel")
            platform.keeper.heard(task["id"])
            async with asyncio.timeout(PATIENCE):
                while [call.state for call in await platform.calls(task["id"])] != ["CANCELLED"]:
                    await asyncio.sleep(0.02)
            (call,) = await platform.calls(task["id"])
            assert "may be billed" in (call.error or "")


async def test_a_task_that_was_sent_cannot_be_changed(opened: Opened, fal: Fal) -> None:
    async with opened(**of(fal)) as platform:
        app = {"fal_app_id": "acme/first", "fal_parameters": {"colour": "red"}}
        task = await platform.submit("EXPERIMENTAL_FAL", **app)
        await fal.until(lambda: bool(fal.arrived("status")))
        fal.faults.always("status", refused(Trouble.UNAUTHORIZED))
        await platform.until(task["id"], "PENDING")
        answer = await platform.api.put(f"/tasks/{task['id']}", json={"fal_parameters": {"colour": "blue"}})
        assert answer.status_code == 409
        assert "was sent to its provider" in answer.text
