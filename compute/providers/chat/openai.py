"""OpenAI: chat completions."""

import asyncio
import base64
from functools import partial
from typing import Any

from compute.errors import ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.answers import json_of, mapping
from compute.providers.calls.http import HttpResponse
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer, OutcomeUnknownError
from compute.providers.calls.sdk import loaded, one_request
from compute.providers.chat.base import ChatImage, ChatRequest, ChatVendor, OnText
from compute.providers.chat.reply import Reply, policy
from compute.providers.vendors.refusals import not_its_own, parsed, refusal, retry_after
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings

__all__ = ["OpenAIChat"]

_POLICY = frozenset({"content_policy_violation", "content_filter", "moderation_blocked", "invalid_prompt"})
_POOR = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_STATUS = {"rate_limit_exceeded": 429, "invalid_request_error": 400, "invalid_api_key": 401, "model_not_found": 404}
"""What an error in a stream, which began with 200, would have had."""


class OpenAIChat(ChatVendor):
    """OpenAI."""

    name = "openai"

    def account(self, settings: Settings) -> Account:
        return Account.of_key(self.name, settings.openai_api_key, setting="OPENAI_API_KEY", user=self.name)

    def endpoint(self, settings: Settings, request: ChatRequest) -> str:
        return f"{settings.openai_base_url.rstrip('/')}/chat/completions"

    async def ask(
        self, settings: Settings, request: ChatRequest, on_text: OnText | None, log: list[ServiceRequest]
    ) -> Answer:
        key = self.account(settings).key
        http, openai = await loaded("httpx2"), await loaded("openai")
        # Images become base64: megabytes of it.
        asked = await asyncio.to_thread(_asked, request)
        said = _Said(request.model, on_text)
        async with (
            one_request(
                http,
                self.endpoint(settings, request),
                seconds=request.seconds,
                log=log,
                refused=partial(_refused, key),
                headers={"Authorization": f"Bearer {key}", "OpenAI-Organization": None, "OpenAI-Project": None},
            ) as wire,
            http.AsyncClient(**wire.options) as client,
        ):
            chat = openai.AsyncOpenAI(
                api_key=key,
                base_url=settings.openai_base_url,
                max_retries=0,
                http_client=client,
                timeout=wire.options["timeout"],
            ).chat.completions
            if on_text is None:
                made = await chat.with_raw_response.create(**asked)
                said.take(json_of(made.http_response.content))
            else:
                events = await chat.create(**asked, stream=True, stream_options={"include_usage": True})
                try:
                    async for event in events:
                        said.take(event.to_dict(warnings=False))
                except openai.APIError as error:
                    if not isinstance(error, openai.APIConnectionError):
                        raise _said_no(key, mapping(error.body), wire.request_id) from error
                    raise
            return said.answer(wire.request_id)


class _Said(Reply):
    refusal = ""

    def take(self, part: Any) -> None:
        """Take a completion, or a part of its stream."""
        self.model = part.get("model") or self.model
        usage = mapping(part.get("usage"))
        self.input_tokens = usage.get("prompt_tokens", self.input_tokens)
        self.output_tokens = usage.get("completion_tokens", self.output_tokens)
        for choice in (part.get("choices") or ())[:1]:
            message = choice.get("delta") or choice.get("message") or {}
            self.say(message.get("content"))
            self.refusal += message.get("refusal") or ""
            self.finish = choice.get("finish_reason") or self.finish

    def answer(self, vendor_id: str | None) -> Answer:
        if self.refusal:
            raise policy("OpenAI", self.refusal, vendor_id)
        if self.finish == "content_filter":
            raise policy("OpenAI", "The answer was left out by the content filter.", vendor_id)
        return super().answer(vendor_id)


def _asked(request: ChatRequest) -> dict[str, Any]:
    asked: dict[str, Any] = {"model": request.model, "messages": _messages(request)}
    if request.answer_schema is not None:
        schema = {"name": "answer", "schema": request.answer_schema, "strict": True}
        asked["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.max_tokens is not None:
        asked["max_completion_tokens"] = request.max_tokens
    if request.temperature is not None:
        asked["temperature"] = request.temperature
    return asked


def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "text", "text": request.prompt}]
    content += [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in request.images]
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": content}]


def _data_url(image: ChatImage) -> str:
    return f"data:{image.content_type};base64,{base64.b64encode(image.data).decode()}"


def _refused(key: str, response: HttpResponse) -> ProviderFailed | OutcomeUnknownError:
    error = mapping(mapping(parsed(response)).get("error"))
    if not isinstance(error.get("message"), str):
        return not_its_own("OpenAI", response)
    return _no(key, error, response.status, response.request_id, retry_after(response.headers))


def _said_no(key: str, error: Any, request_id: str | None) -> ProviderFailed | OutcomeUnknownError:
    """The error that came in a stream."""
    if not isinstance(error.get("message"), str):
        return OutcomeUnknownError("Its answer ended in an error without words.")
    words = (str(error.get("code")), str(error.get("type")))
    status = next((_STATUS[word] for word in words if word in _STATUS), 500)
    return _no(key, error, status, request_id, None)


def _no(key: str, error: Any, status: int, request_id: str | None, seconds: float | None) -> ProviderFailed:
    words = {str(error.get("code")), str(error.get("type"))}
    return refusal(
        "OpenAI",
        error["message"],
        status=status,
        request_id=request_id,
        seconds=seconds,
        category=ErrorCategory.CONTENT_POLICY if words & _POLICY else None,
        poor=bool(words & _POOR) or status == 402,
        secrets=(key,),
    )
