"""Ollama: chat as NDJSON or at once, and the models it has.

From Ollama's client ollama 0.6. Nothing was tried against a real server. It asks for no key and has no limits; under
load it answers 503. The wording of its errors is a guess.
"""

import hashlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.providers.standins.exchange import Arrival, Reply, Route, Trouble, answer
from tests.providers.standins.images import from_base64
from tests.providers.standins.server import StandIn
from tests.providers.standins.texts import Completion, completion_text, tokens, words

__all__ = ["Ollama"]

_TROUBLES = {
    Trouble.BAD_REQUEST: (400, "invalid request body"),
    Trouble.NOT_FOUND: (404, "model not found, try pulling it first"),
    Trouble.SERVER: (500, "model runner has unexpectedly stopped"),
    Trouble.UNAVAILABLE: (503, "server busy, please try again. maximum pending requests exceeded"),
    Trouble.OVERLOADED: (503, "server busy, please try again. maximum pending requests exceeded"),
}


class Ollama(StandIn):
    """Ollama on one address; `completions` are for the next texts, one each, and `models` are what was pulled.

    Routes: chat, tags, show. Nothing costs money, but chats count as submits.
    """

    def __init__(self, key: str = "") -> None:
        super().__init__(key)
        self.completions: deque[Completion] = deque()
        self.models = {"gemma3:4b": ["completion", "vision"], "qwen3:8b": ["completion", "tools", "thinking"]}

    def routes(self) -> Sequence[Route]:
        return [
            Route("chat", "POST", "/api/chat", self._chat, paid=True, open=True),
            Route("tags", "GET", "/api/tags", self._tags, open=True),
            Route("show", "POST", "/api/show", self._show, open=True),
        ]

    def authorised(self, arrival: Arrival) -> bool:
        return True

    def error(self, trouble: Trouble, message: str = "") -> Reply:
        status, text = _TROUBLES[trouble]
        return answer({"error": message or text}, status)

    def stream_error(self) -> bytes:
        return _line(self.error(Trouble.OVERLOADED).data)

    async def _chat(self, arrival: Arrival) -> Reply:
        body = arrival.json
        if not isinstance(body, dict) or "messages" not in body:
            return self.error(Trouble.BAD_REQUEST)
        if body.get("model") not in self.models:
            return self.error(Trouble.NOT_FOUND, f"model '{body.get('model')}' not found")
        last = body["messages"][-1] if body["messages"] else {"content": ""}
        try:
            images = [from_base64(_bare(one)) for one in last.get("images", ())]
        except ValueError:
            return self.error(Trouble.BAD_REQUEST, "illegal base64 data")
        completion = self.completions.popleft() if self.completions else Completion()
        wanted = body.get("format")
        schema = {"type": "object"} if wanted == "json" else wanted or None
        text = completion_text(last["content"], images, schema) if completion.text is None else completion.text
        lines = _lines(body, last["content"], text, completion.stop or "stop", bool(body.get("think")))
        if body.get("stream", True):
            return answer(_streamed(lines), 200, "application/x-ndjson")
        return answer(_joined(lines))

    async def _tags(self, arrival: Arrival) -> Reply:
        return answer({"models": [_described(name) for name in self.models]})

    async def _show(self, arrival: Arrival) -> Reply:
        name = (arrival.json or {}).get("model")
        if name not in self.models:
            return self.error(Trouble.NOT_FOUND, f"model '{name}' not found")
        info = {"general.architecture": name.partition(":")[0], "general.parameter_count": 4_300_000_000}
        details = _described(name)["details"]
        return answer({"details": details, "model_info": info, "capabilities": self.models[name], "template": ""})


def _bare(text: str) -> str:
    """Ollama knows no data URIs.

    Raises:
        ValueError: it is one.
    """
    if text.startswith("data:"):
        raise ValueError("a data URI")
    return text


def _described(name: str) -> dict[str, Any]:
    details = {
        "format": "gguf",
        "family": name.partition(":")[0],
        "parameter_size": "4.3B",
        "quantization_level": "Q4_K_M",
    }
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {
        "name": name,
        "model": name,
        "modified_at": _now(),
        "size": 3_338_801_804,
        "digest": digest,
        "details": details,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _lines(body: Mapping[str, Any], prompt: str, text: str, stop: str, thinks: bool) -> list[dict[str, Any]]:
    head = {"model": body["model"], "created_at": _now()}
    says = [{"role": "assistant", "content": "", "thinking": "Let me see."}] if thinks else []
    says += [{"role": "assistant", "content": word} for word in words(text)]
    nanoseconds = {"total_duration": 5_000_000, "load_duration": 1_000_000, "prompt_eval_duration": 1_000_000}
    counts = {"prompt_eval_count": tokens(prompt), "eval_count": tokens(text), "eval_duration": 3_000_000}
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": stop, **nanoseconds, **counts}
    return [*({**head, "message": one, "done": False} for one in says), {**head, **end}]


async def _streamed(lines: Sequence[Mapping[str, Any]]) -> AsyncGenerator[bytes, None]:
    for line in lines:
        yield _line(line)


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


def _joined(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer without a stream."""
    said_all = "".join(line["message"]["content"] for line in lines)
    thought = "".join(line["message"].get("thinking", "") for line in lines)
    message = {"role": "assistant", "content": said_all} | ({"thinking": thought} if thought else {})
    return {**lines[-1], "message": message}
