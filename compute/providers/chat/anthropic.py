"""Anthropic: messages."""

import asyncio
import base64
from functools import partial
from typing import Any

from compute.errors import ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.answers import count_of, json_of, mapping, total
from compute.providers.calls.http import HttpResponse
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer, OutcomeUnknownError
from compute.providers.calls.sdk import loaded, one_request
from compute.providers.chat.base import ChatImage, ChatRequest, ChatVendor, OnText
from compute.providers.chat.reply import Reply, policy
from compute.providers.vendors.refusals import not_its_own, parsed, refusal, retry_after
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings

__all__ = ["AnthropicChat"]

_MAX_TOKENS = 8192
"""Anthropic takes no request without a limit."""
_POLICY = ("content filtering policy", "usage policy")
_POOR = ("credit balance", "billing")
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error in a stream, which began with 200, would have had."""


class AnthropicChat(ChatVendor):
    """Anthropic."""

    name = "anthropic"

    def account(self, settings: Settings) -> Account:
        return Account.of_key(self.name, settings.anthropic_api_key, setting="ANTHROPIC_API_KEY", user=self.name)

    def endpoint(self, settings: Settings, request: ChatRequest) -> str:
        return f"{settings.anthropic_base_url.rstrip('/')}/v1/messages"

    async def ask(
        self, settings: Settings, request: ChatRequest, on_text: OnText | None, log: list[ServiceRequest]
    ) -> Answer:
        key = self.account(settings).key
        http, anthropic = await loaded("httpx2"), await loaded("anthropic")
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
                headers={"x-api-key": key, "Authorization": None},
            ) as wire,
            http.AsyncClient(**wire.options) as client,
        ):
            messages = anthropic.AsyncAnthropic(
                api_key=key,
                base_url=settings.anthropic_base_url,
                max_retries=0,
                http_client=client,
                timeout=wire.options["timeout"],
                open_telemetry=False,
            ).messages
            if on_text is None:
                made = await messages.with_raw_response.create(**asked)
                said.take(json_of(made.http_response.content))
            else:
                events = await messages.create(**asked, stream=True)
                try:
                    async for event in events:
                        said.hear(event.to_dict(warnings=False))
                except anthropic.APIStatusError as error:
                    raise _said_no(key, error.body, wire.request_id) from error
            return said.answer(wire.request_id)


class _Said(Reply):
    _why = ""
    _ended = True

    def take(self, message: Any) -> None:
        """Take a whole message."""
        self._begin(message)
        for block in message["content"]:
            self.say(block.get("text"))
        self._end(message)

    def hear(self, event: Any) -> None:
        """Take an event of a stream. Those of other types than these say nothing."""
        match event.get("type"):
            case "message_start":
                self._ended = False
                self._begin(event["message"])
            case "content_block_delta":
                self.say(event["delta"].get("text"))
            case "message_delta":
                self._end({**event["delta"], "usage": event.get("usage")})
            case "message_stop":
                self._ended = True

    def answer(self, vendor_id: str | None) -> Answer:
        if self.finish == "refusal":
            raise policy("Anthropic", self._why or self.text or "The model refuses to answer.", vendor_id)
        if not self._ended:
            self.finish = None
        return super().answer(vendor_id)

    def _begin(self, message: Any) -> None:
        self.model = message.get("model") or self.model
        usage = mapping(message.get("usage"))
        counts = [usage.get(f"{kind}input_tokens") for kind in ("", "cache_creation_", "cache_read_")]
        self.input_tokens = total(counts) if count_of(counts[0]) is not None else None

    def _end(self, message: Any) -> None:
        self.finish = message.get("stop_reason") or self.finish
        self.output_tokens = mapping(message.get("usage")).get("output_tokens", self.output_tokens)
        self._why = mapping(message.get("stop_details")).get("explanation") or self._why


def _asked(request: ChatRequest) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens or _MAX_TOKENS,
        "messages": [
            {"role": "user", "content": [*map(_image, request.images), {"type": "text", "text": request.prompt}]}
        ],
    }
    if request.system:
        asked["system"] = request.system
    if request.answer_schema is not None:
        asked["output_config"] = {"format": {"type": "json_schema", "schema": request.answer_schema}}
    if request.temperature is not None:
        # The client has no argument for it any more; models that take none refuse it themselves.
        asked["extra_body"] = {"temperature": request.temperature}
    return asked


def _image(image: ChatImage) -> dict[str, Any]:
    data = base64.b64encode(image.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": image.content_type, "data": data}}


def _refused(key: str, response: HttpResponse) -> ProviderFailed | OutcomeUnknownError:
    body = mapping(parsed(response))
    error = mapping(body.get("error"))
    if body.get("type") != "error" or not isinstance(error.get("message"), str):
        return not_its_own("Anthropic", response)
    request_id = response.request_id or body.get("request_id")
    return _no(key, error, response.status, request_id, retry_after(response.headers))


def _said_no(key: str, body: Any, request_id: str | None) -> ProviderFailed | OutcomeUnknownError:
    """The error that came in a stream."""
    error = mapping(mapping(body).get("error"))
    if not isinstance(error.get("message"), str):
        return OutcomeUnknownError("Its answer ended in an error without words.")
    return _no(key, error, _STATUS.get(str(error.get("type")), 500), request_id, None)


def _no(key: str, error: Any, status: int, request_id: str | None, seconds: float | None) -> ProviderFailed:
    words = error["message"].lower()
    is_policy = status == 400 and any(one in words for one in _POLICY)
    is_poor = status == 402 or (status == 400 and any(one in words for one in _POOR))
    category = ErrorCategory.CONTENT_POLICY if is_policy else ErrorCategory.PROVIDER_ERROR if is_poor else None
    return refusal(
        "Anthropic",
        f"{error['message']} ({error.get('type')})",
        status=status,
        request_id=request_id,
        seconds=seconds,
        category=category,
        poor=is_poor,
        secrets=(key,),
    )
