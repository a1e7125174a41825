"""Choice of the vision model."""

from typing import Any

import pytest

from compute.errors import InvalidInput
from compute.evaluation.vision import VisionModel
from compute.schemas.evaluation import VisionProvider
from compute.settings import Settings

KEYS = {"anthropic_api_key": "sk-ant-key", "gemini_api_key": "AIza-key"}


def chosen(provider: VisionProvider | None = None, **settings: Any) -> str:
    return VisionModel.of(Settings(**settings), provider, field="provider").vendor.name


@pytest.mark.parametrize(
    ("settings", "vendor"),
    [
        (KEYS, "anthropic"),
        (KEYS | {"openai_api_key": "sk-key"}, "openai"),
        (KEYS | {"vision_provider": "gemini"}, "gemini"),
        (KEYS | {"ollama_host": "http://127.0.0.1:11434"}, "anthropic"),
        ({"ollama_host": "http://127.0.0.1:11434"}, "ollama"),
        ({"vision_provider": "ollama"}, "ollama"),
    ],
)
def test_the_one_that_is_named_or_the_first_that_is_set_up(settings: dict[str, Any], vendor: str) -> None:
    assert chosen(**settings) == vendor


def test_a_request_may_name_another() -> None:
    assert chosen(VisionProvider.GEMINI, **KEYS) == "gemini"


@pytest.mark.parametrize(
    ("provider", "settings", "said"),
    [
        (None, {}, "OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY or OLLAMA_HOST"),
        (VisionProvider.OPENAI, KEYS, "Set OPENAI_API_KEY"),
        (None, {"vision_provider": "openai"} | KEYS, "Set OPENAI_API_KEY"),
        (None, KEYS | {"chat_models": {"openai": "gpt-5.4-mini"}}, "model of anthropic in COMPUTE_CHAT_MODELS"),
    ],
)
def test_a_missing_setting_is_named(provider: VisionProvider | None, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as missing:
        chosen(provider, **settings)
    assert missing.value.field == "provider"


@pytest.mark.parametrize("word", ["OpenAI", "openai", "OPENAI"])
def test_a_vendor_is_known_in_any_case(word: str) -> None:
    assert VisionProvider(word) is VisionProvider.OPENAI
