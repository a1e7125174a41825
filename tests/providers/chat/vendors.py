"""The vendors of language models in one table, for tests that ask all of them the same."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer
from compute.providers.chat.base import ChatRequest
from compute.providers.chat.registry import chat_vendors
from compute.settings import Settings
from tests.patience import PATIENCE
from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.gemini import Gemini, Outcome
from tests.providers.standins.ollama import Ollama
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.server import StandIn
from tests.providers.standins.texts import Completion

__all__ = ["CHATS", "Chat", "Seen", "StandInOfChat", "paid_chats"]

StandInOfChat = OpenAI | Anthropic | Gemini | Ollama


@dataclass(frozen=True)
class Seen:
    """What a vendor was asked, however it wants it said."""

    model: str
    prompt: str
    system: str | None
    images: list[bytes]
    types: list[str]
    """Content types of the images, where they are said."""
    schema: Mapping[str, Any] | None
    max_tokens: int | None
    temperature: float | None


@dataclass(frozen=True)
class Chat:
    """One vendor and its stand-in.

    Attributes:
        routes: Of the stand-in, at once and streamed.
        finish: Its words for the usual end, and for an answer that was cut off.
    """

    name: str
    make: Callable[[], StandInOfChat]
    model: str
    settings: Callable[[Any], dict[str, Any]]
    routes: tuple[str, str]
    seen: Callable[[Mapping[str, Any], str], Seen]
    finish: tuple[str, str]
    key_setting: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def free(self) -> bool:
        return chat_vendors()[self.name].free

    def route(self, streamed: bool) -> str:
        return self.routes[streamed]

    def request(self, prompt: str = "Which colour?", *, seconds: float = PATIENCE, **more: Any) -> ChatRequest:
        return ChatRequest(self.model, prompt, seconds=seconds, **more)

    async def ask(
        self,
        stand_in: StandIn,
        request: ChatRequest | None = None,
        *,
        streamed: bool = False,
        parts: list[str] | None = None,
        log: list[ServiceRequest] | None = None,
    ) -> Answer:
        """Ask the vendor; `parts` gets the text as it comes."""
        heard: list[str] = [] if parts is None else parts
        return await chat_vendors()[self.name].ask(
            Settings(**self.settings(stand_in)),
            request or self.request(),
            heard.append if streamed else None,
            [] if log is None else log,
        )

    def last(self, stand_in: StandIn) -> Seen:
        """What it was asked last."""
        arrival = stand_in.paid[-1]
        return self.seen(arrival.json, arrival.path)

    def will(
        self, stand_in: StandInOfChat, *, text: str | None = None, refuses: bool = False, cut_off: bool = False
    ) -> None:
        """Set how it answers the next question."""
        finish = self.finish[1] if cut_off else ""
        if isinstance(stand_in, Gemini):
            stand_in.outcomes.append(Outcome(finish="SAFETY" if refuses else finish or "STOP", text=text))
        else:
            stand_in.completions.append(Completion(text, refuses=refuses, stop=finish))


def _openai(body: Mapping[str, Any], path: str) -> Seen:
    *system, user = body["messages"]
    urls = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
    schema = body.get("response_format", {}).get("json_schema", {})
    assert not schema or (schema["strict"] is True and schema["name"])
    return Seen(
        body["model"],
        user["content"][0]["text"],
        system[0]["content"] if system else None,
        [base64.b64decode(url.partition(",")[2]) for url in urls],
        [url.partition(";")[0].removeprefix("data:") for url in urls],
        schema.get("schema"),
        body.get("max_completion_tokens"),
        body.get("temperature"),
    )


def _anthropic(body: Mapping[str, Any], path: str) -> Seen:
    content = body["messages"][0]["content"]
    sources = [part["source"] for part in content if part["type"] == "image"]
    return Seen(
        body["model"],
        content[-1]["text"],
        body.get("system"),
        [base64.b64decode(source["data"]) for source in sources],
        [source["media_type"] for source in sources],
        body.get("output_config", {}).get("format", {}).get("schema"),
        body["max_tokens"],
        body.get("temperature"),
    )


def _gemini(body: Mapping[str, Any], path: str) -> Seen:
    parts, config = body["contents"][0]["parts"], body.get("generationConfig", {})
    images = [part["inlineData"] for part in parts if "inlineData" in part]
    schema = config.get("responseJsonSchema")
    assert (config.get("responseMimeType") == "application/json") is (schema is not None)
    return Seen(
        path.rpartition("/")[2].partition(":")[0],
        parts[-1]["text"],
        body["systemInstruction"]["parts"][0]["text"] if "systemInstruction" in body else None,
        [base64.urlsafe_b64decode(image["data"].replace("+", "-").replace("/", "_")) for image in images],
        [image.get("mimeType") or image["mime_type"] for image in images],
        schema,
        config.get("maxOutputTokens"),
        config.get("temperature"),
    )


def _ollama(body: Mapping[str, Any], path: str) -> Seen:
    *system, user = body["messages"]
    options = body.get("options") or {}
    return Seen(
        body["model"],
        user["content"],
        system[0]["content"] if system else None,
        [base64.b64decode(image) for image in user.get("images") or ()],
        [],
        body.get("format") or None,
        options.get("num_predict"),
        options.get("temperature"),
    )


CHATS = [
    Chat(
        "openai",
        OpenAI,
        "gpt-5.4-mini",
        lambda one: {"openai_api_key": one.key, "openai_base_url": one.url() + "/v1"},
        ("chat", "chat"),
        _openai,
        ("stop", "length"),
        "OPENAI_API_KEY",
    ),
    Chat(
        "anthropic",
        Anthropic,
        "claude-haiku-4-5",
        lambda one: {"anthropic_api_key": one.key, "anthropic_base_url": one.url()},
        ("messages", "messages"),
        _anthropic,
        ("end_turn", "max_tokens"),
        "ANTHROPIC_API_KEY",
    ),
    Chat(
        "gemini",
        Gemini,
        "gemini-3.8-flash",
        lambda one: {"gemini_api_key": one.key, "gemini_base_url": one.url()},
        ("generate", "stream"),
        _gemini,
        ("STOP", "MAX_TOKENS"),
        "GEMINI_API_KEY",
    ),
    Chat(
        "ollama",
        Ollama,
        "gemma3:4b",
        lambda one: {"ollama_host": one.url()},
        ("chat", "chat"),
        _ollama,
        ("stop", "length"),
    ),
]


def paid_chats() -> list[Chat]:
    return [chat for chat in CHATS if not chat.free]
