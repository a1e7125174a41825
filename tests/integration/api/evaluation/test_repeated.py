"""Evaluations that are asked for again, or whose clients have gone: each is paid for once."""

import asyncio

from compute.db.session import Database
from compute.settings import Settings
from tests.integration.api.evaluation.conftest import OPENAI, asked, calls, client_of, leading, picture
from tests.patience import PATIENCE
from tests.providers.standins.faults import held
from tests.providers.standins.server import StandIn


async def test_a_repeated_request_with_its_key_is_paid_once(settings: Settings, openai: StandIn) -> None:
    headers = {"Idempotency-Key": "look-1"}
    async with client_of(leading(settings, OPENAI, openai)) as client:
        answers = [await client.post("/evaluation/", json=asked(), headers=headers) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert openai.submits == 1


async def test_one_that_is_repeated_at_another_process_waits_there_and_is_not_paid(
    settings: Settings, openai: StandIn, database: Database
) -> None:
    openai.seconds = 1.0
    seeing, headers = leading(settings, OPENAI, openai), {"Idempotency-Key": "look-4"}
    async with client_of(seeing) as one, client_of(seeing) as other:
        asking = [
            asyncio.create_task(client.post("/evaluation/", json=asked(), headers=headers)) for client in (one, other)
        ]
        first, second = await asyncio.gather(*asking)
        assert first.json()["success"], first.text
        assert second.content == first.content
        assert openai.submits == 1
        assert [call.state for call in await calls(database)] == ["COLLECTED"]
        # Another image under the same key is another request.
        changed = await other.post("/evaluation/", json=asked(image_data=picture(colour="blue")), headers=headers)
        assert changed.status_code == 422
    assert openai.submits == 1


async def test_one_that_is_repeated_meanwhile_waits_and_is_not_paid(settings: Settings, openai: StandIn) -> None:
    answer = asyncio.Event()
    openai.faults.on("chat", held(answer), call=1)
    headers = {"Idempotency-Key": "look-2"}
    async with client_of(leading(settings, OPENAI, openai)) as client:
        asking = [asyncio.create_task(client.post("/evaluation/", json=asked(), headers=headers)) for _ in range(2)]
        await openai.until(lambda: openai.hanging == 1)
        # Nothing tells that the other one waits; should it come later, it is answered from what is kept.
        await asyncio.sleep(0.3)
        answer.set()
        answers = await asyncio.gather(*asking)
    assert answers[0].content == answers[1].content
    assert openai.submits == 1


async def test_what_was_asked_is_followed_to_its_end_though_its_client_has_gone(
    settings: Settings, openai: StandIn, database: Database
) -> None:
    answer = asyncio.Event()
    openai.faults.on("chat", held(answer), call=1)
    async with client_of(leading(settings, OPENAI, openai)) as client:
        leaving = asyncio.create_task(client.post("/evaluation/", json=asked()))
        await openai.until(lambda: openai.hanging == 1)
        leaving.cancel()
        # The API hears of it.
        await asyncio.sleep(0.3)
        answer.set()
        async with asyncio.timeout(PATIENCE):
            while [call.state for call in await calls(database)] != ["COLLECTED"]:
                await asyncio.sleep(0.05)
    assert openai.submits == 1


async def test_one_whose_client_has_gone_is_answered_when_it_comes_again(settings: Settings, openai: StandIn) -> None:
    openai.seconds = 0.5
    headers = {"Idempotency-Key": "look-3"}
    async with client_of(leading(settings, OPENAI, openai)) as client:
        leaving = asyncio.create_task(client.post("/evaluation/", json=asked(), headers=headers))
        await openai.until(lambda: openai.submits == 1)
        leaving.cancel()
        again = await client.post("/evaluation/", json=asked(), headers=headers)
        assert again.json()["success"], again.text
        assert again.headers["Idempotency-Replayed"] == "true"
    assert openai.submits == 1
