"""An answer that does not fit the schema of its question is not taken as if it did."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from compute.errors import ProviderFailed
from compute.providers.calls.call import CallState
from compute.providers.chat.fitting import misfit
from compute.schemas.enums import ErrorCategory, ProviderType
from tests.providers.chat.vendors import CHATS, Chat
from tests.providers.harness import Desk, Outcome, open_desk

every_chat = pytest.mark.parametrize("chat", CHATS, ids=str)
COLOUR = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        (None, "not JSON"),
        ("no json here", "not JSON"),
        ('```json\n{"colour": "red"}\n```', "not JSON"),
        ('{"colour": "re', "not JSON"),
        ('{"colour": NaN}', "not JSON"),
        (DEEP, "not JSON"),
        ('["red"]', "not a JSON object"),
        ("{}", "'colour' is a required property."),
        ('{"colour": 7}', "At colour: 7 is not of type 'string'."),
    ],
)
def test_what_does_not_fit_is_told_in_words(text: str | None, said: str) -> None:
    assert said in (misfit(text, COLOUR) or "")


@pytest.mark.parametrize("text", ['{"colour": "red"}', ' {"colour": "", "more": [1]}\n'])
def test_what_fits_is_taken(text: str) -> None:
    assert misfit(text, COLOUR) is None


def laughs(levels: int) -> dict[str, Any]:
    """A schema whose check doubles with each level."""
    inner = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(levels)}
    return {"type": "object", "$defs": inner | {f"l{levels}": {"type": "object"}}, "$ref": "#/$defs/l0"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "banana"}}},
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/nowhere"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
        {"type": "object", "$ref": "#"},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        {"type": "object", "properties": 7, "required": "a"},
        {"type": "object", "properties": {"a": {"multipleOf": 0}}},
        laughs(60),
    ],
)
@pytest.mark.parametrize("value", ["a" * 40 + "!", 7, {"a" * 40 + "!": 1}])
def test_a_schema_that_cannot_be_checked_asks_for_an_object_and_is_done_soon(schema: Any, value: Any) -> None:
    began = time.process_time()
    said = misfit(json.dumps({"a": value, "a" * 40 + "!": 1}), schema)
    assert said is None or "is not of type 'string'" in said
    assert misfit("[]", schema) == "It is not a JSON object."
    assert time.process_time() - began < 10


async def ask(desk: Desk, chat: Chat, **fields: Any) -> Outcome:
    spec = {"prompt": "Which colour?", "provider_config": {"ai_provider": chat.name, "model": chat.model}}
    return await desk.run("LLM_INTERACTION", spec | {"response_schema": COLOUR}, ProviderType.AI_CORE, **fields)


@every_chat
@pytest.mark.parametrize("cut_off", [False, True], ids=["whole", "cut-off"])
async def test_an_answer_that_does_not_fit_fails_the_task_and_is_paid_once(
    chat: Chat, cut_off: bool, tmp_path: Path
) -> None:
    text = '{"colour": "re' if cut_off else "no json here " * 100
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        chat.will(stand_in, text=text, cut_off=cut_off)
        task_id = uuid4()
        for fence in (1, 2):
            with pytest.raises(ProviderFailed, match="does not fit response_schema") as raised:
                await ask(desk, chat, task_id=task_id, fence=fence)
            assert (raised.value.hopeless, raised.value.category) == (True, ErrorCategory.PROVIDER_ERROR)
            assert f"finish_reason {chat.finish[cut_off]}," in raised.value.detail
            assert text[:180].strip() in raised.value.detail
            assert len(raised.value.detail) < 500
        [call] = desk.ledger.of("answer")
        assert (call.state, (call.result or {})["text"]) == (CallState.COLLECTED, text)
        assert stand_in.submits == 1


@every_chat
async def test_without_a_schema_any_answer_is_one(chat: Chat, tmp_path: Path) -> None:
    async with chat.make() as stand_in, open_desk(tmp_path, **chat.settings(stand_in)) as desk:
        chat.will(stand_in, text='{"colour": "re', cut_off=True)
        spec = {"prompt": "Which colour?", "provider_config": {"ai_provider": chat.name, "model": chat.model}}
        outcome = await desk.run("LLM_INTERACTION", spec, ProviderType.AI_CORE)
        assert outcome.metadata is not None
        assert outcome.metadata["finish_reason"] == chat.finish[1]
