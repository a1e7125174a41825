"""The vendors of vision models, each with its stand-in and the settings that lead to it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.gemini import Gemini, Outcome
from tests.providers.standins.ollama import Ollama
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.server import StandIn
from tests.providers.standins.texts import Completion

__all__ = ["GOOD", "VENDORS", "Vendor"]

GOOD: dict[str, Any] = {
    "framing": "full_body",
    "view_angle": "front",
    "shot_type_confidence": 0.9,
    "human_detected": True,
    "number_of_people": 1,
    "human_presence_confidence": 0.8,
    "anatomy_correct": True,
    "anatomy_issues": [],
    "anatomy_confidence": 0.7,
    "gender": "FEMALE",
    "gender_confidence": 0.6,
    "collage_detected": False,
    "garment_description": "A red coat.",
    "subject_description": "A woman.",
    "scene_description": "A street.",
}
_MODELS = {"openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-3-pro", "ollama": "gemma3:4b"}


@dataclass(frozen=True)
class Vendor:
    """One vendor, and how its stand-in is told what to say."""

    name: str
    make: Callable[[], StandIn]
    route: str
    lead: Callable[[Any], dict[str, Any]]
    """Settings that lead to its stand-in."""
    cut_off: str
    """Its word for an answer that reached the limit of tokens."""

    def __str__(self) -> str:
        return self.name

    def settings(self, stand_in: StandIn) -> dict[str, Any]:
        return {**self.lead(stand_in), "chat_models": _MODELS}

    def say(self, stand_in: Any, answer: object, stop: str = "") -> None:
        """Have the model answer with this next: text, or an object."""
        text = answer if isinstance(answer, str) else json.dumps(answer)
        if self.name == "gemini":
            stand_in.outcomes.append(Outcome(text=text, finish=stop or "STOP"))
        else:
            stand_in.completions.append(Completion(text, stop=stop))

    def refuse(self, stand_in: Any) -> None:
        """Have the model refuse the next image."""
        if self.name == "gemini":
            stand_in.outcomes.append(Outcome(blocked="SAFETY"))
        else:
            stand_in.completions.append(Completion(refuses=True))


VENDORS = [
    Vendor(
        "openai",
        OpenAI,
        "chat",
        lambda one: {"openai_api_key": SecretStr(one.key), "openai_base_url": one.url() + "/v1"},
        "length",
    ),
    Vendor(
        "anthropic",
        Anthropic,
        "messages",
        lambda one: {"anthropic_api_key": SecretStr(one.key), "anthropic_base_url": one.url()},
        "max_tokens",
    ),
    Vendor(
        "gemini",
        Gemini,
        "generate",
        lambda one: {"gemini_api_key": SecretStr(one.key), "gemini_base_url": one.url()},
        "MAX_TOKENS",
    ),
    Vendor("ollama", Ollama, "chat", lambda one: {"ollama_host": one.url()}, "length"),
]
