"""Anthropic: messages, at once and as server-sent events.

From Anthropic's client anthropic 2.14, its types and errors. Nothing was tried against the real service. Guesses: the
words of an account without credits, and 503.
"""

import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tests.providers.standins.exchange import Arrival, Reply, Route, Trouble, answer
from tests.providers.standins.files import Files, Unreadable
from tests.providers.standins.server import StandIn
from tests.providers.standins.texts import Completion, completion_text, tokens, words

__all__ = ["Anthropic"]

_TROUBLES = {
    Trouble.BAD_REQUEST: (400, "invalid_request_error", "The request is malformed."),
    Trouble.UNAUTHORIZED: (401, "authentication_error", "invalid x-api-key"),
    Trouble.NO_MONEY: (402, "billing_error", "Your credit balance is too low to access the Anthropic API."),
    Trouble.NOT_FOUND: (404, "not_found_error", "The model was not found."),
    Trouble.POLICY: (400, "invalid_request_error", "Output blocked by content filtering policy"),
    Trouble.RATE_LIMIT: (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    Trouble.SERVER: (500, "api_error", "Internal server error"),
    Trouble.UNAVAILABLE: (503, "api_error", "Service unavailable"),
    Trouble.TIMED_OUT: (504, "timeout_error", "The request timed out."),
    Trouble.OVERLOADED: (529, "overloaded_error", "Overloaded"),
}


class Anthropic(StandIn):
    """Anthropic on one address; `completions` are for the next texts, one each.

    Route: messages.
    """

    id_header = "request-id"

    def __init__(self, key: str = "sk-ant-test-key") -> None:
        super().__init__(key)
        self.completions: deque[Completion] = deque()
        self.files = Files(self, "api")

    def routes(self) -> Sequence[Route]:
        return [Route("messages", "POST", "/v1/messages", self._messages, paid=True), self.files.route()]

    def authorised(self, arrival: Arrival) -> bool:
        return arrival.headers.get("x-api-key") == self.key

    def error(self, trouble: Trouble, message: str = "") -> Reply:
        status, kind, text = _TROUBLES[trouble]
        request_id = f"req_{uuid4().hex}"
        error = {"type": "error", "error": {"type": kind, "message": message or text}, "request_id": request_id}
        reply = answer(error, status, request_id=request_id)
        if status < 500:
            return reply.having(x_should_retry="true" if trouble is Trouble.RATE_LIMIT else "false")
        return reply.having(x_should_retry="true")

    def stream_error(self) -> bytes:
        return _event("error", {key: one for key, one in self.error(Trouble.OVERLOADED).data.items() if key != "type"})

    def stamped(self, reply: Reply) -> Reply:
        reset = datetime.fromtimestamp(self.clock.now() + 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        limits: dict[str, str] = {}
        for name, limit in (("requests", 50), ("tokens", 40_000), ("input-tokens", 30_000), ("output-tokens", 8_000)):
            values = {"limit": str(limit), "remaining": str(limit - 1), "reset": reset}
            limits |= {f"anthropic-ratelimit-{name}-{key}": value for key, value in values.items()}
        return super().stamped(reply).having(**limits)

    async def _messages(self, arrival: Arrival) -> Reply:
        body = arrival.json
        wrong = _wrong(arrival, body)
        if wrong:
            return self.error(Trouble.BAD_REQUEST, wrong)
        if not body["model"].startswith("claude-"):
            return self.error(Trouble.NOT_FOUND, f"model: {body['model']}")
        prompt, addresses = _seen(body["messages"][-1]["content"])
        try:
            images = [await self.files.fetched(one) for one in addresses]
        except Unreadable:
            return self.error(Trouble.BAD_REQUEST, "Unable to download the file.")
        completion = self.completions.popleft() if self.completions else Completion()
        schema = body.get("output_config", {}).get("format", {}).get("schema")
        default = "I can't help with that." if completion.refuses else completion_text(prompt, images, schema)
        text = default if completion.text is None else completion.text
        stop = completion.stop or ("refusal" if completion.refuses else "end_turn")
        message = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": tokens(prompt), "output_tokens": tokens(text), **_NO_CACHE},
        }
        return answer(_events(message, text), 200, "text/event-stream") if body.get("stream") else answer(message)


_NO_CACHE = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


def _wrong(arrival: Arrival, body: Any) -> str:
    """Why a request is refused; empty: it is well formed."""
    if "anthropic-version" not in arrival.headers:
        return "anthropic-version: header is required"
    if not isinstance(body, dict):
        return "The body is not JSON."
    missing = [name for name in ("model", "max_tokens", "messages") if not body.get(name)]
    return f"{missing[0]}: Field required" if missing else ""


def _seen(content: Any) -> tuple[str, list[str]]:
    """The text of a message, and base64 or addresses of its images."""
    if isinstance(content, str):
        return content, []
    prompt = " ".join(part["text"] for part in content if part["type"] == "text")
    sources = [part["source"] for part in content if part["type"] == "image"]
    return prompt, [source.get("data") or source.get("url") or "" for source in sources]


async def _events(message: Mapping[str, Any], text: str) -> AsyncGenerator[bytes, None]:
    usage = message["usage"]
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", {"message": begun})
    yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    yield _event("ping", {})
    for word in words(text):
        yield _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}})
    yield _event("content_block_stop", {"index": 0})
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", {"delta": ended, "usage": {"output_tokens": usage["output_tokens"]}})
    yield _event("message_stop", {})


def _event(kind: str, data: Mapping[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
