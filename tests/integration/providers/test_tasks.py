"""Tasks at providers elsewhere, from the request to its end, over real HTTP and a real database."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.api.conftest import Painter
from tests.integration.providers.platform import AT_FAL, HELD, OpenPlatform, Platform, leading_to
from tests.patience import PATIENCE
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import held, refused, reset_after_body
from tests.providers.standins.jobs import Plan
from tests.providers.standins.openai import OpenAI


async def test_a_task_is_done_elsewhere_and_says_by_whom(opened: OpenPlatform, fal: Fal) -> None:
    async with opened(**leading_to(fal)) as platform, platform.dispatching():
        task = await platform.until((await platform.submit("GENERATION", **AT_FAL))["id"], "COMPLETED", "FAILED")
        assert task["status"] == "COMPLETED", task["errors"]
        assert task["provider_type"] == "FAL_STANDARD"
        assert task["metadata"]["provider_request_id"] == fal.made[0].id
        (call,) = await platform.calls(task["id"])
        assert (call.state, call.vendor_id) == ("COLLECTED", fal.made[0].id)
        assert fal.submits == 1


async def test_a_request_without_the_settings_of_its_provider_is_refused(opened: OpenPlatform) -> None:
    async with opened() as platform:
        answer = await platform.api.post("/tasks/", json={"task_type": "GENERATION", "origin_instance": "x", **AT_FAL})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "provider_type"]
        assert "FAL_KEY" in answer.json()["detail"][0]["msg"]


async def test_a_task_goes_on_by_its_id_after_its_dispatcher_is_gone(opened: OpenPlatform, fal: Fal) -> None:
    fal.plan = HELD
    async with opened(**leading_to(fal)) as platform:
        async with platform.dispatching():
            task = await platform.submit("GENERATION", **AT_FAL)
            await fal.until(lambda: bool(fal.arrived("status")))
        async with platform.dispatching():
            await fal.finish(fal.made[0])
            done = await platform.until(task["id"], "COMPLETED", "FAILED")
        assert done["status"] == "COMPLETED", done["errors"]
        assert (fal.submits, done["retry_count"]) == (1, 0)


async def test_a_cancelled_task_is_cancelled_at_the_vendor(opened: OpenPlatform, fal: Fal) -> None:
    fal.plan = HELD
    async with opened(**leading_to(fal)) as platform, platform.dispatching():
        task = await platform.submit("GENERATION", **AT_FAL)
        await fal.until(lambda: bool(fal.arrived("status")))
        await platform.api.post(f"/tasks/{task['id']}/cancel")
        await platform.until(task["id"], "CANCELLED")
        await platform.keeper.look()
        assert len(fal.arrived("cancel")) == 1
        (call,) = await platform.calls(task["id"])
        assert call.state == "CANCELLED"
        assert "may bill" in (call.error or "")
        assert await platform.keeper.look() == 0


async def test_a_lost_answer_is_never_asked_for_again(
    opened: OpenPlatform, fal: Fal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compute.providers.calls.record._LOOKS_AGAIN_SECONDS", 0.1)
    fal.faults.on("submit", reset_after_body())
    async with opened(**leading_to(fal), provider_uncertain_seconds=0.2) as platform, platform.dispatching():
        task = await platform.until((await platform.submit("GENERATION", **AT_FAL))["id"], "COMPLETED", "FAILED")
        assert task["status"] == "FAILED"
        assert task["error_category"] == "PROVIDER_ERROR"
        assert "may have been paid" in task["errors"][-1]
        (call,) = await platform.calls(task["id"])
        assert call.state == "UNCERTAIN"
        assert fal.submits == 1


async def test_a_refusal_is_tried_again_within_the_budget(opened: OpenPlatform, fal: Fal) -> None:
    fal.faults.on("submit", refused(Trouble.SERVER), refused(Trouble.SERVER))
    async with opened(**leading_to(fal)) as platform, platform.dispatching(max_retries=2):
        task = await platform.until((await platform.submit("GENERATION", **AT_FAL))["id"], "COMPLETED", "FAILED")
        assert (task["status"], task["retry_count"]) == ("COMPLETED", 2)
        assert [call.state for call in await platform.calls(task["id"])] == ["FAILED", "FAILED", "COLLECTED"]


async def test_the_fallback_has_the_last_try_and_the_task_says_so(opened: OpenPlatform, fal: Fal) -> None:
    fal.faults.always("submit", refused(Trouble.SERVER))
    async with opened(Painter(), **leading_to(fal)) as platform, platform.dispatching(max_retries=2):
        asked = {**AT_FAL, "provider_config": {"fal_app_id": "fal-ai/flux/dev"}, "fallback_provider_type": "LOCAL"}
        task = await platform.until((await platform.submit("GENERATION", **asked))["id"], "COMPLETED", "FAILED")
        assert task["status"] == "COMPLETED", task["errors"]
        assert (task["provider_type"], task["fell_back_from"]) == ("LOCAL", "FAL_STANDARD")
        assert task["provider_config"] is None
        assert fal.submits == 2
        assert len(task["errors"]) == 2
        assert task["metadata"]["outputs"][0]["path"].startswith("generations/")


async def test_no_fallback_for_what_another_provider_would_refuse_too(opened: OpenPlatform, fal: Fal) -> None:
    fal.plan = Plan(("IN_QUEUE", "COMPLETED"), failure="content_policy_violation")
    async with opened(Painter(), **leading_to(fal)) as platform, platform.dispatching():
        asked = {**AT_FAL, "fallback_provider_type": "LOCAL"}
        task = await platform.until((await platform.submit("GENERATION", **asked))["id"], "COMPLETED", "FAILED")
        assert (task["status"], task["error_category"]) == ("FAILED", "CONTENT_POLICY")
        assert fal.submits == 1


async def test_local_work_falls_back_to_a_provider(opened: OpenPlatform, fal: Fal) -> None:
    class Broken(Painter):
        def prepare(self, request: Any) -> Any:
            raise RuntimeError("the model is broken")

    async with opened(Broken(), **leading_to(fal)) as platform, platform.dispatching(max_retries=0):
        asked = {**AT_FAL, "provider_type": "LOCAL", "fallback_provider_type": "FAL_STANDARD"}
        task = await platform.until((await platform.submit("GENERATION", **asked))["id"], "COMPLETED", "FAILED")
        assert task["status"] == "COMPLETED", task["errors"]
        assert (task["provider_type"], task["fell_back_from"]) == ("FAL_STANDARD", "LOCAL")


async def test_text_streams_through_the_events_as_it_comes(opened: OpenPlatform) -> None:
    async with OpenAI() as openai, opened(**leading_to(openai)) as platform, platform.dispatching():
        task = await platform.submit("LLM_INTERACTION", prompt="a poem about a red coat")
        said, names = "", []
        async with asyncio.timeout(PATIENCE), platform.api.stream("GET", f"/tasks/{task['id']}/events") as lines:
            name = ""
            async for line in lines.aiter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                    names.append(name)
                elif key == "data" and name == "text":
                    event = json.loads(value)
                    assert event["offset"] == len(said)
                    said += event["text"]
                elif key == "data" and name == "completed":
                    done = json.loads(value)
        assert done["result_text"]
        assert said == done["result_text"]
        assert done["input_tokens"] > 0
        assert names[-1] == "completed"
        assert openai.submits == 1


@asynccontextmanager
async def stopping(platform: Platform, answer: asyncio.Event) -> AsyncIterator[None]:
    """A Dispatcher that ends with the block. What waits for the answer gets it once its run was told to stop."""

    async def let_go() -> None:
        await platform.until_stopped()
        answer.set()

    async with platform.dispatching():
        yield
        letting_go = asyncio.create_task(let_go())
    letting_go.cancel()


async def test_a_run_that_is_handed_back_during_its_submit_keeps_the_answer(opened: OpenPlatform, fal: Fal) -> None:
    answer = asyncio.Event()
    fal.faults.on("submit", held(answer))
    async with opened(**leading_to(fal)) as platform:
        async with stopping(platform, answer):
            task = await platform.submit("GENERATION", **AT_FAL)
            await fal.until(lambda: fal.hanging == 1)
        assert fal.arrived("status") == []
        assert [call.state for call in await platform.calls(task["id"])] == ["ACCEPTED"]
        async with platform.dispatching():
            done = await platform.until(task["id"], "COMPLETED", "FAILED")
        assert done["status"] == "COMPLETED", done["errors"]
        assert fal.submits == 1


async def test_a_run_that_is_handed_back_during_an_answer_keeps_it(opened: OpenPlatform) -> None:
    answer = asyncio.Event()
    async with OpenAI() as openai:
        openai.faults.on("chat", held(answer))
        async with opened(**leading_to(openai)) as platform:
            async with stopping(platform, answer):
                task = await platform.submit("LLM_INTERACTION", prompt="a poem about a red coat")
                await openai.until(lambda: openai.hanging == 1)
            assert (await platform.task(task["id"]))["status"] == "PENDING"
            assert [call.state for call in await platform.calls(task["id"])] == ["COLLECTED"]
            async with platform.dispatching():
                done = await platform.until(task["id"], "COMPLETED", "FAILED")
            assert done["status"] == "COMPLETED", done["errors"]
            assert done["result_text"]
            assert openai.submits == 1
