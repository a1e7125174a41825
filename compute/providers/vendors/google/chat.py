"""Questions to Google's language models. Imports Google's client; import this inside the call."""

import warnings
from collections.abc import Callable
from typing import Any

from google.genai import types

from compute.providers.calls.ledger import ServiceRequest
from compute.providers.chat.base import ChatRequest
from compute.providers.vendors.google.account import endpoint
from compute.providers.vendors.google.wire import generate, open_client
from compute.settings import Settings

__all__ = ["ask", "ask_streaming"]

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
    config = _config(request).model_copy(
        update={
            "automatic_continuation": False,
            "automatic_function_calling": types.AutomaticFunctionCallingConfig(disable=True),
        }
    )
    # The client warns of words that it does not know; they are read all the same.
    warnings.filterwarnings("ignore", r".* is not a valid (FinishReason|BlockedReason)", UserWarning)
    address = endpoint(settings, request.model, "streamGenerateContent")
    async with open_client(settings, seconds=request.seconds, log=log, address=address, user=user) as client:
        parts = await client.aio.models.generate_content_stream(
            model=request.model, contents=_contents(request), config=config
        )
        async for part in parts:
            take(part.model_dump(mode="json", by_alias=True, exclude_none=True))


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
