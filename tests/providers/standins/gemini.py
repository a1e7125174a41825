"""Google: the Gemini API and Vertex, generateContent and streamGenerateContent, with pictures.

From the page "Gemini models" of ai.google.dev, and from Google's client google-genai 3.6, its paths, fields and words.
Nothing was tried against the real service. Pictures in thoughts and the words for an account without credits are from
public reports. Pictures are an eighth as wide as the real ones.
"""

import base64
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.providers.standins.exchange import Arrival, Reply, Route, Trouble, answer
from tests.providers.standins.files import Files, Unreadable
from tests.providers.standins.images import Size, draw, fingerprint
from tests.providers.standins.server import StandIn
from tests.providers.standins.texts import completion_text, tokens, words

__all__ = ["MODELS", "Gemini", "Outcome"]

MODELS = frozenset(
    {
        "gemini-2.5-flash-image",
        "gemini-3-pro-image",
        "gemini-3.1-flash-image",
        "gemini-3.1-flash-lite-image",
        "gemini-nano-banana-2.1",
        "gemini-2.5-flash",
        "gemini-3.8-flash",
        "gemini-3-pro",
    }
)
"""Names of models that it has; the ones of pictures hold "image" or "banana"."""
_SIZES = {"512": 64, "1K": 128, "2K": 256, "4K": 512}
_OF_URLS = str.maketrans("-_", "+/")
_TYPE = "type.googleapis.com/google.rpc."
_TROUBLES = {
    Trouble.BAD_REQUEST: (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    Trouble.UNAUTHORIZED: (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    Trouble.NO_MONEY: (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please manage your billing."),
    Trouble.NOT_FOUND: (404, "NOT_FOUND", "The model is not found, or is not supported for generateContent."),
    Trouble.RATE_LIMIT: (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    Trouble.SERVER: (500, "INTERNAL", "An internal error has occurred."),
    Trouble.UNAVAILABLE: (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    Trouble.TIMED_OUT: (504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    Trouble.OVERLOADED: (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
}


@dataclass(frozen=True)
class Outcome:
    """How one call ends. Refusals are answered with 200."""

    blocked: str = ""
    """A blockReason: no candidates."""
    finish: str = "STOP"
    """A finishReason; any but STOP: a candidate without a picture."""
    in_thought: bool = False
    """A draft comes first, and the picture is in a part with `thought: true`."""
    text: str | None = None
    """What it says; None: a text that shows what was asked."""


class Gemini(StandIn):
    """Both services on one address; `outcomes` are for the next calls, one each.

    Routes: generate, stream, vertex_generate, vertex_stream, token. Keys are sent as `x-goog-api-key`, or to Vertex as
    a bearer token. There is one candidate, whatever `candidateCount` says.
    """

    def __init__(self, key: str = "AIza-test-key") -> None:
        super().__init__(key)
        self.outcomes: deque[Outcome] = deque()
        self.files = Files(self, "api")
        self.retry_delay = "13s"

    def routes(self) -> Sequence[Route]:
        model = "/models/{model}:"
        google = "/publishers/google" + model
        places = {"": model, "vertex": "/projects/{project}/locations/{location}" + google, "express": google}
        found = [self.files.route(), Route("token", "POST", "/token", self._token)]
        for name, path in places.items():
            kind = "vertex_" if name else ""
            at = "/{version}" + path
            found += [
                Route(kind + "generate", "POST", at + "generateContent", self._generate, paid=True),
                Route(kind + "stream", "POST", at + "streamGenerateContent", self._stream, paid=True),
            ]
        return found

    def authorised(self, arrival: Arrival) -> bool:
        if arrival.route == "token":
            return True
        bearer = arrival.route.startswith("vertex") and arrival.headers.get("Authorization") == f"Bearer {self.key}"
        return bearer or arrival.headers.get("x-goog-api-key") == self.key

    def error(self, trouble: Trouble, message: str = "") -> Reply:
        if trouble is Trouble.POLICY:
            return answer(_answer([], {"blockReason": "PROHIBITED_CONTENT"}, "", ""))
        status, word, text = _TROUBLES[trouble]
        error: dict[str, Any] = {"code": status, "message": message or text, "status": word}
        if trouble is Trouble.RATE_LIMIT:
            quota = {"quotaMetric": "generativelanguage.googleapis.com/generate_requests", "quotaId": "PerMinute"}
            error["details"] = [
                {"@type": _TYPE + "QuotaFailure", "violations": [quota]},
                {"@type": _TYPE + "RetryInfo", "retryDelay": self.retry_delay},
            ]
        if trouble is Trouble.UNAUTHORIZED:
            error["details"] = [{"@type": _TYPE + "ErrorInfo", "reason": "API_KEY_INVALID"}]
        return answer({"error": error}, status)

    def stream_error(self) -> bytes:
        return b"data: " + json.dumps(self.error(Trouble.OVERLOADED).data).encode() + b"\r\n\r\n"

    async def _token(self, arrival: Arrival) -> Reply:
        """A token for the signed claim of a service account, whose signature is not checked."""
        return answer({"access_token": self.key, "token_type": "Bearer", "expires_in": 3600})

    async def _generate(self, arrival: Arrival) -> Reply:
        answers = await self._answers(arrival)
        return answers if isinstance(answers, Reply) else answer(_joined(answers))

    async def _stream(self, arrival: Arrival) -> Reply:
        """Server-sent events with `alt=sse`, otherwise one JSON array."""
        answers = await self._answers(arrival)
        if isinstance(answers, Reply):
            return answers
        if arrival.query.get("alt") != "sse":
            return answer(answers)

        async def events() -> AsyncGenerator[bytes, None]:
            for one in answers:
                yield b"data: " + json.dumps(one).encode() + b"\r\n\r\n"

        return answer(events(), 200, "text/event-stream")

    async def _answers(self, arrival: Arrival) -> list[dict[str, Any]] | Reply:
        """The parts of an answer as they are streamed, or an error."""
        body, model = arrival.json, arrival.parts["model"]
        if model not in MODELS:
            return self.error(Trouble.NOT_FOUND)
        if not isinstance(body, dict) or not body.get("contents"):
            return self.error(Trouble.BAD_REQUEST, "contents is not specified")
        prompt = _text_of(body)
        try:
            images = [await self.files.fetched(one) for one in _images_of(body)]
        except Unreadable:
            return self.error(Trouble.BAD_REQUEST, "Unable to process input image.")
        outcome = self.outcomes.popleft() if self.outcomes else Outcome()
        if outcome.blocked:
            return [_answer([], {"blockReason": outcome.blocked}, model, prompt)]
        config = body.get("generationConfig", {})
        parts = _parts(model, config, prompt, images, outcome)
        return [
            _answer([_candidate([part], outcome if part is parts[-1] else None)], None, model, prompt) for part in parts
        ] or [_answer([_candidate([], outcome)], None, model, prompt)]


def _text_of(body: Mapping[str, Any]) -> str:
    """The text of the last turn."""
    return " ".join(part["text"] for part in body["contents"][-1].get("parts", ()) if "text" in part)


def _images_of(body: Mapping[str, Any]) -> list[str]:
    """Base64 or addresses of all images, in their order. JSON of Google services may hold bytes in either alphabet of
    base64; the client uses the one for URLs."""
    parts = [part for content in body["contents"] for part in content.get("parts", ())]
    inline = [part.get("inlineData", {}).get("data", "").translate(_OF_URLS) for part in parts]
    found = [data or part.get("fileData", {}).get("fileUri") for data, part in zip(inline, parts, strict=True)]
    return [one for one in found if one]


def _parts(
    model: str, config: Mapping[str, Any], prompt: str, images: Sequence[bytes], outcome: Outcome
) -> list[dict[str, Any]]:
    draws = "image" in model or "banana" in model
    wanted = config.get("responseModalities", ["TEXT", "IMAGE"] if draws else ["TEXT"])
    parts: list[dict[str, Any]] = []
    if "TEXT" in wanted:
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        text = outcome.text if outcome.text is not None else completion_text(prompt, images, schema)
        parts += [{"text": one} for one in words(text)]
    if not draws or "IMAGE" not in wanted or outcome.finish != "STOP":
        return parts
    size = _size(config.get("imageConfig", {}))
    seed = config.get("seed")
    if outcome.in_thought:
        draft = draw(fingerprint("draft of " + prompt, seed, images), size)
        return [
            _inline(draft, thought=True),
            *parts,
            _inline(draw(fingerprint(prompt, seed, images), size), thought=True),
        ]
    return [*parts, _inline(draw(fingerprint(prompt, seed, images), size))]


def _inline(picture: bytes, *, thought: bool = False) -> dict[str, Any]:
    part: dict[str, Any] = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(picture).decode()}}
    return {**part, "thought": True, "thoughtSignature": "c2lnbmF0dXJl"} if thought else part


def _size(config: Mapping[str, Any]) -> Size:
    side = _SIZES[config.get("imageSize", "1K")]
    wide, high = map(int, config.get("aspectRatio", "1:1").split(":"))
    return round(side * min(1, wide / high)), round(side * min(1, high / wide))


def _candidate(parts: list[dict[str, Any]], outcome: Outcome | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts} if parts else {}}
    if outcome is None:
        return candidate
    candidate |= {"finishReason": outcome.finish, "safetyRatings": []}
    return candidate if outcome.finish == "STOP" else {**candidate, "finishMessage": "Unable to show the image."}


def _answer(
    candidates: list[dict[str, Any]], feedback: Mapping[str, Any] | None, model: str, prompt: str
) -> dict[str, Any]:
    usage = {"promptTokenCount": tokens(prompt), "candidatesTokenCount": 1290 if candidates else 0}
    found: dict[str, Any] = {
        "usageMetadata": {**usage, "totalTokenCount": sum(usage.values())},
        "modelVersion": model,
        "responseId": uuid4().hex,
    }
    return {**({"candidates": candidates} if candidates else {"promptFeedback": feedback}), **found}


def _joined(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of a stream as one answer; neighbouring texts become one part."""
    last = answers[-1]
    if "candidates" not in last:
        return last
    parts: list[dict[str, Any]] = []
    for one in answers:
        for part in one["candidates"][0]["content"].get("parts", ()):
            if "text" in part and parts and "text" in parts[-1]:
                parts[-1] = {"text": parts[-1]["text"] + part["text"]}
            else:
                parts.append(part)
    content = {"role": "model", "parts": parts} if parts else {}
    return {**last, "candidates": [{**last["candidates"][0], "content": content}]}
