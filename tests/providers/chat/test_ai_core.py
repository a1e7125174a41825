"""AI_CORE: what its configuration does, what a result holds, and that no question is paid for twice."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from pydantic import ValidationError

from compute.dispatch.retry import RetryPolicy, classify
from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.calls.call import CallState
from compute.providers.types.ai_core import AiCore, AiCoreProviderConfig
from compute.schemas.enums import ErrorCategory, ProviderCapability, ProviderType
from compute.settings import Settings
from compute.tasks.leases import ClaimedTask, FallBack, Lease, Release
from compute.tasks.operations import Converse, RemoveBackground
from compute.tasks.operations import Picture as StoredPicture
from compute.tasks.registry import all_kinds
from tests.patience import PATIENCE
from tests.providers.chat.vendors import CHATS, Chat, StandInOfChat, paid_chats
from tests.providers.harness import Desk, Outcome, open_desk
from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    broken_stream,
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    html,
    rate_limited,
    redirected,
    refused,
    reset_after_body,
    reset_before_body,
    reset_mid_body,
)
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.server import Fault
from tests.servers import listening

OPENAI, ANTHROPIC, GEMINI, OLLAMA = CHATS
every_chat = pytest.mark.parametrize("chat", CHATS, ids=str)
every_paid_chat = pytest.mark.parametrize("chat", paid_chats(), ids=str)
QUESTION = Converse("Which colour?")
KEYS = {"openai_api_key": "a", "anthropic_api_key": "b", "gemini_api_key": "c"}


async def run(desk: Desk, chat: Chat, *, config: dict[str, Any] | None = None, **fields: Any) -> Outcome:
    """Ask in a task of its own, unless `task_id` says which."""
    task = {name: fields.pop(name) for name in ("task_id", "fence") if name in fields}
    chosen = {"ai_provider": chat.name, "model": chat.model} | (config or {})
    spec = {"prompt": "Which colour?", "provider_config": chosen} | fields
    return await desk.run("LLM_INTERACTION", spec, ProviderType.AI_CORE, **task)


@every_chat
async def test_an_answer_is_said_as_it_comes_and_kept_with_its_tokens(chat: Chat, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        outcome = await run(desk, chat)
        assert outcome.metadata is not None
        assert outcome.text == outcome.metadata["text"] == "You asked: Which colour?"
        assert sum(type(event).__name__ == "Said" for event in outcome.events) > 1
        told = {name: outcome.metadata[name] for name in ("ai_provider", "model", "finish_reason")}
        assert told == {"ai_provider": chat.name, "model": chat.model, "finish_reason": chat.finish[0]}
        tokens = [outcome.metadata[name] for name in ("input_tokens", "output_tokens")]
        assert all(isinstance(count, int) and count > 0 for count in tokens)
        [call] = desk.ledger.of("answer")
        assert (call.state, call.units["output_tokens"]) == (CallState.COLLECTED, tokens[1])
        assert [(line.method, line.status) for line in desk.ledger.requests] == [("POST", 200)]


@every_chat
async def test_configuration_reaches_the_vendor(chat: Chat, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        await run(desk, chat, config={"max_tokens": 55, "temperature": 0.25})
        seen = chat.last(stand_in)
        assert (seen.model, seen.max_tokens, seen.temperature) == (chat.model, 55, 0.25)


@every_chat
async def test_what_the_request_says_itself_wins(chat: Chat, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        config = {"max_tokens": 55, "temperature": 0.25}
        await run(desk, chat, config=config, max_tokens=66, temperature=0.0, system_prompt="Be brief.")
        seen = chat.last(stand_in)
        assert (seen.max_tokens, seen.temperature, seen.system) == (66, 0.0, "Be brief.")


@every_chat
async def test_images_are_shown_in_a_size_that_vendors_take(chat: Chat, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        small = await desk.store(Image.new("RGBA", (60, 40), (200, 0, 0, 128)))
        large = await desk.store(Image.new("RGB", (3200, 1600), "teal"))
        outcome = await run(desk, chat, input_images=[small, large])
        shown = [Image.open(io.BytesIO(data)) for data in chat.last(stand_in).images]
        assert [(image.format, image.size) for image in shown] == [("JPEG", (60, 40)), ("JPEG", (1568, 784))]
        assert set(chat.last(stand_in).types) <= {"image/jpeg"}
        assert outcome.metadata is not None
        assert outcome.metadata["inputs"].keys() == {small, large}


@every_chat
async def test_an_answer_fits_the_schema_of_the_request(chat: Chat, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        outcome = await run(desk, chat, response_schema=schema)
        assert chat.last(stand_in).schema == schema
        assert json.loads(outcome.text).keys() == {"colour"}


async def test_an_image_that_is_gone_is_named(openai: OpenAI, tmp_path: Path) -> None:
    async with open_desk(tmp_path, **OPENAI.settings(openai)) as desk:
        with pytest.raises(InvalidInput, match="gone") as refused_:
            await run(desk, OPENAI, input_images=["inputs/gone.png"])
        assert refused_.value.field == "input_images.0"
        assert openai.submits == 0


async def test_vendor_and_model_have_defaults(anthropic: Anthropic, tmp_path: Path) -> None:
    models = {"anthropic": "claude-of-the-settings"}
    async with open_desk(tmp_path, **ANTHROPIC.settings(anthropic), chat_models=models) as desk:
        outcome = await desk.run("LLM_INTERACTION", {"prompt": "Which colour?"}, ProviderType.AI_CORE)
        assert outcome.text == "You asked: Which colour?"
        assert ANTHROPIC.last(anthropic).model == "claude-of-the-settings"


async def test_a_key_that_was_removed_meanwhile_leaves_the_task_to_its_fallback(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        with pytest.raises(ProviderFailed, match="Set OPENAI_API_KEY") as failed:
            await run(desk, OPENAI)
    spec = '{"fallback": {"queue": "inference", "provider_type": "LOCAL", "spec": {}}}'
    with_fallback = ClaimedTask(Lease(uuid4(), 1), "LLM_INTERACTION", 0, spec)
    policy = RetryPolicy(max_retries=3, backoff_seconds=1.0)
    assert isinstance(policy.failed(with_fallback, classify(failed.value)), FallBack)
    # Without one it waits for the operator, and what was paid is not given up.
    assert isinstance(policy.failed(with_fallback._replace(spec_json="{}"), classify(failed.value)), Release)


# --- what is checked before a task is accepted ----------------------------------------------------------------------


@every_paid_chat
def test_a_vendor_without_a_key_is_refused(chat: Chat) -> None:
    config = AiCoreProviderConfig.model_validate({"ai_provider": chat.name})
    with pytest.raises(InvalidInput, match=f"Set {chat.key_setting} to use"):
        AiCore().check(QUESTION, config, Settings(ollama_host="http://127.0.0.1:1"))
    AiCore().check(QUESTION, config, Settings(**KEYS))


def test_ollama_needs_no_key() -> None:
    AiCore().check(QUESTION, AiCoreProviderConfig(ai_provider="ollama"), Settings())


def test_without_any_vendor_the_settings_are_named() -> None:
    with pytest.raises(InvalidInput, match="OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY or OLLAMA_HOST"):
        AiCore().check(QUESTION, AiCoreProviderConfig(), Settings())
    AiCore().check(QUESTION, AiCoreProviderConfig(), Settings(anthropic_api_key="a"))
    assert AiCore().account(Settings(**KEYS)).vendor == "openai"


def test_a_vendor_without_a_model_needs_one_named() -> None:
    settings = Settings(openai_api_key="a", chat_models={})
    with pytest.raises(InvalidInput, match="Name a model of openai") as refused_:
        AiCore().check(QUESTION, AiCoreProviderConfig(), settings)
    assert refused_.value.field == "provider_config.model"
    AiCore().check(QUESTION, AiCoreProviderConfig(model="gpt-5"), settings)


def test_it_answers_questions_alone() -> None:
    with pytest.raises(InvalidInput, match="answers questions"):
        AiCore().check(RemoveBackground((StoredPicture("a.png", "image"),)), AiCoreProviderConfig(), Settings(**KEYS))
    for kind in all_kinds().values():
        offered = {ProviderCapability.TEXT, ProviderCapability.VISION} if kind.name == "LLM_INTERACTION" else set()
        assert AiCore().capabilities(kind) == offered


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"ai_provider": "mistral"}, "ai_provider"),
        ({"provider_type": "LOCAL"}, "provider_type"),
        ({"model": ""}, "model"),
        ({"model": "a/../b"}, "model"),
        ({"model": "a?key=b"}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 1}, "top_p"),
    ],
)
def test_configuration_that_cannot_be_used_is_named(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused_:
        AiCoreProviderConfig.model_validate(config)
    assert {error["loc"][0] for error in refused_.value.errors()} == {field}


@pytest.mark.parametrize("model", ["gpt-6.2-astra", "hf.co/user/model:Q4_K_M", "gemma3:4b", "claude-opus-4-5-20251101"])
def test_models_of_all_vendors_can_be_named(model: str) -> None:
    assert AiCoreProviderConfig(model=model).model == model


# --- a second run of the same task ----------------------------------------------------------------------------------


@every_chat
async def test_a_second_run_has_the_answer_that_was_paid_for(chat: Chat, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        task = uuid4()
        first = await run(desk, chat, task_id=task)
        second = await run(desk, chat, task_id=task, fence=2)
        assert second.text == first.text
        assert second.metadata is not None
        assert first.metadata is not None
        for name in ("text", "input_tokens", "output_tokens", "model", "finish_reason", "provider_request_id"):
            assert second.metadata[name] == first.metadata[name]
        assert stand_in.submits == 1


LOST = [
    reset_before_body(),
    reset_after_body(),
    reset_mid_body(),
    hang_before_headers(),
    hang_mid_body(),
    html(),
    from_nginx(500),
    from_nginx(502),
    redirected(),
]


@every_paid_chat
@pytest.mark.parametrize("fault", LOST, ids=str)
async def test_a_question_whose_answer_was_lost_is_not_asked_again(chat: Chat, fault: Fault, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **_hasty(chat, stand_in, fault)) as desk:
        stand_in.faults.on(chat.route(True), fault)
        task = uuid4()
        for fence in (1, 2, 3):
            with pytest.raises(CallUncertain) as told:
                await run(desk, chat, task_id=task, fence=fence)
            assert not told.value.charged
        assert len(stand_in.arrived(chat.route(True))) == 1
        [call] = desk.ledger.of("answer")
        assert call.state is CallState.UNCERTAIN
        desk.ledger.settle(call.id, CallState.RESENT)
        _be_patient(desk)
        assert (await run(desk, chat, task_id=task, fence=4)).text == "You asked: Which colour?"
        assert len(stand_in.arrived(chat.route(True))) == 2


@pytest.mark.parametrize("fault", LOST, ids=str)
async def test_a_question_that_costs_nothing_is_asked_again(fault: Fault, tmp_path: Path) -> None:
    async with OLLAMA.make() as stand_in, open_desk(tmp_path, **_hasty(OLLAMA, stand_in, fault)) as desk:
        stand_in.faults.on("chat", fault)
        task = uuid4()
        with pytest.raises(ProviderFailed, match="no usable answer") as told:
            await run(desk, OLLAMA, task_id=task)
        assert not isinstance(told.value, CallUncertain)
        _be_patient(desk)
        assert (await run(desk, OLLAMA, task_id=task, fence=2)).text == "You asked: Which colour?"
        assert len(stand_in.arrived("chat")) == 2


@every_paid_chat
@pytest.mark.parametrize(
    "fault", [refused(Trouble.SERVER), refused(Trouble.OVERLOADED), rate_limited(1), broken_stream(1)], ids=str
)
async def test_a_question_that_was_refused_is_asked_again(chat: Chat, fault: Fault, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        stand_in.faults.on(chat.route(True), fault)
        task = uuid4()
        with pytest.raises(ProviderFailed) as told:
            await run(desk, chat, task_id=task)
        assert not isinstance(told.value, CallUncertain)
        assert (await run(desk, chat, task_id=task, fence=2)).text == "You asked: Which colour?"
        assert stand_in.submits == 2
        assert [call.state for call in desk.ledger.of("answer")] == [CallState.FAILED, CallState.COLLECTED]


@every_chat
async def test_a_question_that_never_left_is_asked_again(chat: Chat, tmp_path: Path) -> None:
    with listening() as closed:
        port = closed.getsockname()[1]
    async with chat.make() as stand_in:
        there = chat.settings(stand_in)
        nowhere = {name: value.replace(stand_in.url(), f"http://127.0.0.1:{port}") for name, value in there.items()}
        async with open_desk(tmp_path, **nowhere) as desk:
            task = uuid4()
            with pytest.raises(ProviderFailed, match="AI_CORE could not be reached"):
                await run(desk, chat, task_id=task)
            back = replace(desk, settings=desk.settings.model_copy(update=_parsed(there)))
            assert (await run(back, chat, task_id=task, fence=2)).text == "You asked: Which colour?"
            assert stand_in.submits == 1


@every_paid_chat
async def test_a_refusal_of_content_is_told_as_one(chat: Chat, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        chat.will(stand_in, refuses=True)
        with pytest.raises(ProviderFailed) as told:
            await run(desk, chat)
        assert told.value.category is ErrorCategory.CONTENT_POLICY


def _hasty(chat: Chat, stand_in: StandInOfChat, fault: Fault) -> dict[str, Any]:
    """Settings with a deadline that is missed soon, for a fault that would never end."""
    return chat.settings(stand_in) | ({"provider_wait_seconds": 0.5} if "hang" in fault.name else {})


def _be_patient(desk: Desk) -> None:
    desk.settings = desk.settings.model_copy(update={"provider_wait_seconds": PATIENCE})


def _parsed(values: dict[str, Any]) -> dict[str, Any]:
    """As settings hold them."""
    made = Settings(**values)
    return {name: getattr(made, name) for name in values}
