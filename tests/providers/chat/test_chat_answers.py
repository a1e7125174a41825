"""Questions to each vendor, and their answers, at once and streamed."""

import json
import subprocess
import sys
from pathlib import Path

import anthropic.types
import openai.types
import pytest

from compute.errors import InvalidInput
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.chat.base import ChatImage
from compute.providers.chat.registry import available, chat_vendors
from compute.settings import Settings
from tests.providers.chat.vendors import CHATS, Chat, paid_chats
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.images import draw, fingerprint

every_chat = pytest.mark.parametrize("chat", CHATS, ids=str)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["at-once", "streamed"])
PICTURES = (draw(fingerprint("one"), (64, 48)), draw(fingerprint("two"), (48, 64)))
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}, "sure": {"type": "boolean"}},
    "required": ["colour", "sure"],
    "additionalProperties": False,
}


@every_chat
@both_ways
async def test_a_question_is_answered_with_text_tokens_model_and_end(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        parts: list[str] = []
        answer = await chat.ask(stand_in, streamed=streamed, parts=parts)
        assert answer.text == "You asked: Which colour?"
        assert answer.data == {"model": chat.model, "finish_reason": chat.finish[0]}
        assert answer.units["input_tokens"] > 0
        assert answer.units["output_tokens"] > 0
        assert (answer.vendor_id is None) is (chat.name == "ollama")
        assert "".join(parts) == (answer.text if streamed else "")
        assert len(parts) > 1 or not streamed
        assert stand_in.submits == 1


@every_chat
@both_ways
async def test_a_plain_question_says_nothing_but_itself(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        await chat.ask(stand_in, streamed=streamed)
        seen = chat.last(stand_in)
        assert (seen.model, seen.prompt, seen.system, seen.images) == (chat.model, "Which colour?", None, [])
        assert (seen.schema, seen.temperature) == (None, None)
        assert seen.max_tokens == (8192 if chat.name == "anthropic" else None)


@every_chat
@both_ways
async def test_every_part_of_a_question_reaches_the_vendor(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        images = tuple(ChatImage(picture, "image/png") for picture in PICTURES)
        request = chat.request(system="Be brief.", images=images, max_tokens=77, temperature=0.0)
        answer = await chat.ask(stand_in, request, streamed=streamed)
        seen = chat.last(stand_in)
        assert (seen.system, seen.max_tokens, seen.temperature) == ("Be brief.", 77, 0.0)
        assert seen.images == list(PICTURES)
        assert set(seen.types) <= {"image/png"}
        assert answer.text is not None
        assert answer.text.count("[image ") == 2


@every_chat
@both_ways
async def test_an_answer_fits_the_schema(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        answer = await chat.ask(stand_in, chat.request(answer_schema=SCHEMA), streamed=streamed)
        assert chat.last(stand_in).schema == SCHEMA
        assert json.loads(answer.text or "").keys() == {"colour", "sure"}


@every_chat
@both_ways
async def test_an_answer_that_was_cut_off_says_so(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        chat.will(stand_in, text="It is", cut_off=True)
        answer = await chat.ask(stand_in, streamed=streamed)
        assert (answer.text, answer.data["finish_reason"]) == ("It is", chat.finish[1])


@every_chat
@both_ways
async def test_an_empty_answer_is_an_answer(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        chat.will(stand_in, text="")
        assert (await chat.ask(stand_in, streamed=streamed)).text == ""


@every_chat
@both_ways
async def test_one_question_is_one_line_of_the_log(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        log: list[ServiceRequest] = []
        answer = await chat.ask(stand_in, streamed=streamed, log=log)
        [line] = log
        assert (line.method, line.status, line.error, line.times) == ("POST", 200, None, 1)
        assert line.host == stand_in.url().removeprefix("http://")
        assert line.path == stand_in.paid[0].path
        assert line.ms > 0
        if stand_in.id_header:
            assert line.request_id == answer.vendor_id


@every_chat
async def test_the_ledger_knows_the_address_of_a_question(chat: Chat) -> None:
    async with chat.make() as stand_in:
        await chat.ask(stand_in)
        endpoint = chat_vendors()[chat.name].endpoint(Settings(**chat.settings(stand_in)), chat.request())
        assert endpoint == stand_in.url() + stand_in.paid[0].path


@pytest.mark.parametrize("chat", paid_chats(), ids=str)
def test_a_missing_key_is_named(chat: Chat) -> None:
    with pytest.raises(InvalidInput, match=rf"^Set {chat.key_setting} to use {chat.name}\.$") as refused:
        chat_vendors()[chat.name].account(Settings())
    assert refused.value.field == "provider_type"


def test_ollama_needs_no_key() -> None:
    assert chat_vendors()["ollama"].account(Settings()).vendor == "ollama"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("gpu.local:8000", "http://gpu.local:8000"),
        ("https://ollama.example/", "https://ollama.example"),
        ("[::1]", "http://[::1]:11434"),
    ],
)
def test_ollamas_address_is_written_as_its_own_tools_take_it(host: str, address: str) -> None:
    endpoint = chat_vendors()["ollama"].endpoint(Settings(ollama_host=host), CHATS[3].request())
    assert endpoint == f"{address}/api/chat"


def test_vendors_are_available_in_their_order_once_they_are_set_up() -> None:
    assert available(Settings()) == []
    keys = {"anthropic_api_key": "a", "openai_api_key": "b", "gemini_api_key": "c"}
    assert available(Settings(ollama_host="http://127.0.0.1:1", **keys)) == [chat.name for chat in CHATS]
    assert available(Settings(anthropic_api_key="a")) == ["anthropic"]


async def test_gemini_is_asked_over_vertex(gemini: Gemini) -> None:
    settings = Settings(gemini_api_key=gemini.key, gemini_base_url=gemini.url(), google_vertex=True)
    for hear, method in ((None, "generateContent"), (list[str]().append, "streamGenerateContent")):
        await chat_vendors()["gemini"].ask(settings, CHATS[2].request(), hear, [])
        assert gemini.paid[-1].path == f"/v1beta1/publishers/google/models/gemini-3.8-flash:{method}"


def test_the_models_of_the_settings_are_those_that_the_vendors_clients_name() -> None:
    models = Settings().chat_models
    assert models.keys() == chat_vendors().keys()
    assert models["openai"] in openai.types.ChatModel.__args__  # type: ignore[attr-defined]
    assert f'"{models["anthropic"]}"' in Path(anthropic.types.model.__file__).read_text()


async def test_keys_and_addresses_in_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC", "GOOGLE", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", "a-wrong-key")
        monkeypatch.setenv(f"{name}_BASE_URL", "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("OPENAI_ORG_ID", "another-organisation")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "another-token")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-api-key: another-key")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer another-key")
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("OLLAMA_API_KEY", "a key for nobody")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    for chat in CHATS:
        async with chat.make() as stand_in:
            await chat.ask(stand_in)
            [arrival] = stand_in.paid
            assert not {"OpenAI-Organization", "OpenAI-Project"} & set(arrival.headers)
            assert "another" not in str(arrival.headers)
            assert chat.name == "openai" or "Authorization" not in arrival.headers


def test_what_only_checks_requests_loads_no_vendors_client() -> None:
    clients = "{'openai', 'anthropic', 'ollama', 'google.genai', 'httpx2'}"
    code = (
        "import sys; from compute.providers.registry import all_providers; "
        "from compute.providers.chat.registry import available; from compute.settings import Settings; "
        f"all_providers(); available(Settings()); print(sorted({clients} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert ran.stdout.strip() == "[]"


@every_chat
@both_ways
async def test_a_text_can_be_stored_whatever_is_in_it(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        chat.will(stand_in, text="red\x00 \ud83d\U0001f9e5 coat")
        parts: list[str] = []
        answer = await chat.ask(stand_in, streamed=streamed, parts=parts)
        assert answer.text is not None
        assert answer.text.encode().decode().startswith("red ")
        assert "\U0001f9e5 coat" in answer.text
        assert "\x00" not in "".join(parts)
