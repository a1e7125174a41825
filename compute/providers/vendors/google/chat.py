"""Questions to Google's language models. Imports Google's client; import this inside the call."""

import json
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.genai import Client, types

from compute.providers.calls.answers import count_of, json_of
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.chat.base import ChatRequest
from compute.providers.vendors.google.account import endpoint
from compute.providers.vendors.google.wire import generate, open_client, sent_once
from compute.settings import Settings

__all__ = ["ask", "ask_streaming"]

_COUNTS = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
Take = Callable[[dict[str, Any]], None]


async def ask(settings: Settings, request: ChatRequest, take: Take, log: list[ServiceRequest], *, user: str) -> None:
    """Give the whole answer to `take`, as it came. Raises what `generate` does."""
    made = await generate(
        settings, request.model, _contents(request), _config(request), seconds=request.seconds, log=log, user=user
    )
    take(made)


async def ask_streaming(
    settings: Settings, request: ChatRequest, take: Take, log: list[ServiceRequest], *, user: str
) -> None:
    """Give the parts of the answer to `take` as they come, each like a whole answer. Raises what `generate` does."""
    # The client warns of words that it does not know; they are read all the same.
    warnings.filterwarnings("ignore", r".* is not a valid (FinishReason|BlockedReason)", UserWarning)
    address = endpoint(settings, request.model, "streamGenerateContent")
    async with open_client(settings, seconds=request.seconds, log=log, address=address, user=user) as client:
        _take_odd_counts(client)
        parts = await client.aio.models.generate_content_stream(
            model=request.model, contents=_contents(request), config=sent_once(_config(request))
        )
        async for part in parts:
            take(part.model_dump(mode="json", by_alias=True, exclude_none=True))


def _take_odd_counts(client: Client) -> None:
    """Have the client read a stream whose tokens are counted in an odd way. It would end at the first such count, and
    lose a text that is paid; it shows no part of a stream before it has checked it."""
    api = client._api_client
    streamed = api.async_request_streamed

    async def lenient(*args: Any, **options: Any) -> AsyncIterator[Any]:
        parts = await streamed(*args, **options)

        async def each() -> AsyncIterator[Any]:
            async for part in parts:
                part.body = json.dumps(_counted(json_of(part.body)))
                yield part

        return each()

    api.async_request_streamed = lenient  # type: ignore[method-assign]


def _counted(said: Any) -> Any:
    usage = said.get("usageMetadata") if isinstance(said, dict) else None
    if not isinstance(usage, dict):
        return said
    kept = {name: int(count) for name in _COUNTS if (count := count_of(usage.get(name))) is not None}
    return said | {"usageMetadata": kept}


def _contents(request: ChatRequest) -> list[Any]:
    images = [types.Part.from_bytes(data=image.data, mime_type=image.content_type) for image in request.images]
    return [types.Content(role="user", parts=[*images, types.Part.from_text(text=request.prompt)])]


def _config(request: ChatRequest) -> types.GenerateContentConfig:
    structured = request.answer_schema is not None
    return types.GenerateContentConfig(
        system_instruction=request.system,
        max_output_tokens=request.max_tokens,
        temperature=request.temperature,
        response_mime_type="application/json" if structured else None,
        response_json_schema=request.answer_schema,
    )
