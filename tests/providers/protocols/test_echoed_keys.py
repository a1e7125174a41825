"""A vendor that repeats the key in a failure: neither a task nor the ledger nor the log tells it."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compute.errors import ProviderFailed
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from compute.schemas.enums import ProviderType
from tests.providers.chat.vendors import CHATS, Chat, paid_chats
from tests.providers.harness import open_desk
from tests.providers.queued.bench import QUEUED, Queued, bench, every_vendor
from tests.providers.queued.specs import stored
from tests.providers.standins.exchange import Reply, Trouble
from tests.providers.standins.faults import refused
from tests.providers.standins.gemini import Gemini, Outcome
from tests.providers.standins.jobs import Plan
from tests.providers.standins.server import Call, Fault

KEY = "sk-id-0123456789:secret/part-0123456789"
SECRETS = (KEY, "secret/part-0123456789", "secret\\/part-0123456789")
every_trouble = pytest.mark.parametrize("trouble", list(Trouble), ids=str)
every_paid_chat = pytest.mark.parametrize("chat", paid_chats(), ids=str)


def _told(value: Any) -> Any:
    """The same JSON with the key in every sentence."""
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_told(one) for one in value]
    return f"{value} The key is {KEY}." if isinstance(value, str) and " " in value else value


def echoing(fault: Fault | None = None) -> Fault:
    """The fault's answer, or the vendor's, with the key in its id header and in each of its sentences."""

    async def play(call: Call) -> Reply:
        reply = await (call.answer() if fault is None else fault.play(call))
        if isinstance(reply.body, bytes) and "json" in reply.headers.get("Content-Type", ""):
            reply = replace(reply, body=json.dumps(_told(json.loads(reply.body))).encode())
        name = call.stand_in.id_header
        return replace(reply, headers={**reply.headers, name: f"req-{KEY}"}) if name else reply

    return Fault(f"echoing {fault or 'the answer'}", play)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor that asks for time is looked at again at once."""
    monkeypatch.setattr("compute.providers.calls.following._LONGEST_PAUSE_SECONDS", 0.05)


def tells_no_key(told: str) -> None:
    assert [one for one in SECRETS if one in told] == []


async def _failing(queued: Queued, tmp_path: Path, route: str, fault: Fault, plan: Plan | None = None) -> str:
    async with bench(queued, tmp_path, wait=0.2, fetch=0.2) as one:
        one.stand_in.key = KEY
        for name in ("fal_key", "fashn_api_key", "magnific_api_key"):
            if getattr(one.desk.settings, name) is not None:
                secret = type(getattr(one.desk.settings, name))(KEY)
                one.desk.settings = one.desk.settings.model_copy(update={name: secret})
        one.stand_in.plan = plan or one.stand_in.plan
        one.stand_in.faults.always(route, fault)
        assert await one.run_to_the_end(most=1) is None
        assert one.stand_in.faults.played
        return one.told() + "".join(error.detail for error in one.errors)


@every_vendor
@every_trouble
@pytest.mark.parametrize("point", ["submit", "status"])
async def test_a_queue_s_refusal_tells_no_key(
    queued: Queued, point: str, trouble: Trouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "compute")
    told = await _failing(queued, tmp_path, queued.routes[point], echoing(refused(trouble, f"No, {KEY} may not.")))
    tells_no_key(told + caplog.text)


@every_trouble
async def test_a_result_that_is_refused_tells_no_key(
    trouble: Trouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "compute")
    told = await _failing(QUEUED[0], tmp_path, "result", echoing(refused(trouble, f"No, {KEY} may not.")))
    tells_no_key(told + caplog.text)


@every_vendor
async def test_a_job_that_fails_tells_no_key(queued: Queued, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "compute")
    states = {"fashn": ("failed",), "magnific": ("FAILED",)}.get(queued.name, queued.states)
    plan = Plan(states, failure=queued.lost)
    told = await _failing(queued, tmp_path, queued.routes["status"], echoing(), plan)
    tells_no_key(told + caplog.text)


async def _asked(chat: Chat, stand_in: Any, *, streamed: bool) -> str:
    log: list[ServiceRequest] = []
    with pytest.raises((ProviderFailed, OutcomeUnknownError, NotDeliveredError)) as raised:
        await chat.ask(stand_in, streamed=streamed, log=log)
    return f"{raised.value!r} {getattr(raised.value, 'detail', '')} {log}"


@every_paid_chat
@every_trouble
@pytest.mark.parametrize("streamed", [False, True], ids=["at-once", "streamed"])
async def test_a_language_model_s_refusal_tells_no_key(chat: Chat, trouble: Trouble, streamed: bool) -> None:
    async with chat.make() as stand_in:
        stand_in.key = KEY
        stand_in.faults.on(chat.route(streamed), echoing(refused(trouble, f"No, {KEY} may not.")))
        tells_no_key(await _asked(chat, stand_in, streamed=streamed))


@every_paid_chat
@pytest.mark.parametrize("streamed", [False, True], ids=["at-once", "streamed"])
async def test_a_language_model_that_refuses_in_its_answer_tells_no_key(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        stand_in.key = KEY
        chat.will(stand_in, text=f"I shall not talk about {KEY}.", refuses=True)
        tells_no_key(await _asked(chat, stand_in, streamed=streamed))


@pytest.mark.parametrize("finish", ["SAFETY", "NO_IMAGE"])
async def test_an_image_that_is_not_made_tells_no_key(finish: str, tmp_path: Path) -> None:
    async with Gemini(KEY) as gemini, open_desk(tmp_path, gemini_api_key=KEY, gemini_base_url=gemini.url()) as desk:
        gemini.outcomes.append(Outcome(finish=finish, text=f"I know {KEY}."))
        with pytest.raises(ProviderFailed) as raised:
            await desk.run("GENERATION", await stored(desk, "GENERATION"), ProviderType.VERTEX)
        assert gemini.submits == 1
        tells_no_key(f"{raised.value!r} {raised.value.detail} {desk.ledger.rows()} {desk.ledger.requests}")


def test_every_paid_vendor_is_here() -> None:
    assert {one.name for one in QUEUED} == {"fal", "fashn", "magnific"}
    assert {one.name for one in CHATS if not one.free} == {"openai", "anthropic", "gemini"}
