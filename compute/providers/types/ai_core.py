"""AI_CORE: language models of OpenAI, Anthropic, Google and Ollama answer questions."""

from functools import partial
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from compute.errors import InvalidInput, ProviderFailed
from compute.media.codec import encode
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.calls.call import Collected
from compute.providers.chat.base import ChatImage, ChatRequest, ChatVendor
from compute.providers.chat.fitting import misfit
from compute.providers.chat.registry import available, chat_vendors
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Converse, Operation, Picture
from compute.tasks.registry import TaskKind
from compute.worker.context import RunContext

__all__ = ["AiCore", "AiCoreProviderConfig"]

_SECONDS = 300.0
_QUOTED = 200
"""Characters of an answer that does not fit its schema."""
_MOST_SIDE = 1568
"""Pixels. Vendors make larger images smaller themselves, after they have counted their bytes."""


class AiCoreProviderConfig(JsonBody):
    """Settings of AI_CORE."""

    provider_type: Literal["AI_CORE"] = "AI_CORE"
    ai_provider: Literal["openai", "anthropic", "gemini", "ollama"] | None = Field(
        default=None, description="Vendor of the model; by default the first of these that is set up."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        # A part of an address at some vendors: no part of it is `.` or `..`.
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*([:/][A-Za-z0-9][A-Za-z0-9._-]*)*$",
        description="The model, as the vendor calls it; by default what COMPUTE_CHAT_MODELS says.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Most tokens of an answer, unless the request says so itself. By default the model's own limit; "
        "8192 at Anthropic, which wants one.",
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="How freely the model answers, unless the request says so itself; by default the model's own. "
        "Models that reason take none.",
    )


class AiCore(RemoteProvider[AiCoreProviderConfig]):
    """AI_CORE. A question is one call; its text is said as it comes."""

    name = ProviderType.AI_CORE
    config_model = AiCoreProviderConfig
    queue = "llm"

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        if kind.name is not TaskType.LLM_INTERACTION:
            return frozenset()
        return frozenset({ProviderCapability.TEXT, ProviderCapability.VISION})

    def account(self, settings: Settings) -> Account:
        return _vendor(AiCoreProviderConfig(), settings).account(settings)

    def accounts(self, settings: Settings) -> list[Account]:
        vendors = chat_vendors()
        return [vendors[name].account(settings) for name in available(settings)] or super().accounts(settings)

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        assert isinstance(config, AiCoreProviderConfig)  # noqa: S101 - made by its own model
        _question(operation)
        _model(config, settings, _vendor(config, settings))

    async def work(self, assignment: Assignment[AiCoreProviderConfig]) -> None:
        question, config, context = _question(assignment.operation), assignment.config, assignment.context
        settings = assignment.settings
        vendor = _vendor(config, settings)
        request = ChatRequest(
            _model(config, settings, vendor),
            question.prompt,
            system=question.system,
            images=tuple([await _shown(context, one) for one in question.images]),
            answer_schema=question.answer_schema,
            max_tokens=question.max_tokens or config.max_tokens,
            temperature=config.temperature if question.temperature is None else question.temperature,
            seconds=min(_SECONDS, settings.provider_wait_seconds),
        )
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            context.say(text)

        collected = await assignment.calls.direct(
            "answer",
            vendor.account(settings),
            vendor.endpoint(settings, request),
            lambda log: vendor.ask(settings, request, say, log),
            free=vendor.free,
        )
        if not said and collected.text:
            context.say(collected.text)  # An earlier run has paid for it.
        await _check(context, vendor, collected, question)
        _note(context, vendor, collected)


def _question(operation: Operation | None) -> Converse:
    if not isinstance(operation, Converse):
        raise InvalidInput("AI_CORE answers questions, and does nothing else.", field="provider_type")
    return operation


def _vendor(config: AiCoreProviderConfig, settings: Settings) -> ChatVendor:
    """The vendor that is asked for, and is set up.

    Raises:
        InvalidInput: a setting is missing; names it.
    """
    name: str | None = config.ai_provider or next(iter(available(settings)), None)
    if name is None:
        raise InvalidInput(
            "Set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY or OLLAMA_HOST to use AI_CORE.",
            field="provider_type",
        )
    vendor = chat_vendors()[name]
    vendor.account(settings)
    return vendor


def _model(config: AiCoreProviderConfig, settings: Settings, vendor: ChatVendor) -> str:
    model = config.model or settings.chat_models.get(vendor.name)
    if model is None:
        raise InvalidInput(
            f"Name a model of {vendor.name}, or set one in COMPUTE_CHAT_MODELS.", field="provider_config.model"
        )
    return model


async def _shown(context: RunContext, picture: Picture) -> ChatImage:
    image = await context.load(picture.path, field=picture.field)
    return ChatImage(await context.compute(partial(_encoded, image)), "image/jpeg")


def _encoded(image: Image.Image) -> bytes:
    smaller = image.copy()
    smaller.thumbnail((_MOST_SIDE, _MOST_SIDE), Image.Resampling.LANCZOS)
    return encode(smaller, "jpeg")


async def _check(context: RunContext, vendor: ChatVendor, collected: Collected, question: Converse) -> None:
    """Raises:
    ProviderFailed: the answer does not have the form that was asked for. It is paid and in the ledger, and the same
        question is not paid again.
    """
    if question.answer_schema is None:
        return
    fault = await context.compute(partial(misfit, collected.text, question.answer_schema))
    if fault is not None:
        begins = " ".join((collected.text or "")[:_QUOTED].split())
        raise ProviderFailed(
            f"The answer of {vendor.name} does not fit response_schema. {fault} It ended with finish_reason "
            f"{collected.data.get('finish_reason')}, and begins: {begins}",
            hopeless=True,
        )


def _note(context: RunContext, vendor: ChatVendor, collected: Collected) -> None:
    counted = {
        name: int(collected.units[name]) for name in ("input_tokens", "output_tokens") if name in collected.units
    }
    context.note(
        text=collected.text or "",
        ai_provider=vendor.name,
        model=collected.data.get("model"),
        finish_reason=collected.data.get("finish_reason"),
        provider_request_id=collected.vendor_id,
        **counted,
    )
