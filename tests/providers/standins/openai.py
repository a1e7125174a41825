"""OpenAI: chat completions, responses with background runs, images.

From OpenAI's client openai 3.57, its types and docstrings. Nothing was tried against the real service. Guesses: what a
background run says after it was cancelled, and the `type` of errors other than 400 and 401. Responses are not streamed
here. Pictures are an eighth as wide as the real ones.
"""

import base64
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from tests.providers.standins.exchange import Arrival, Reply, Route, Trouble, answer
from tests.providers.standins.files import Files, Unreadable
from tests.providers.standins.images import draw, fingerprint
from tests.providers.standins.jobs import Job, JobStandIn, Plan
from tests.providers.standins.texts import Completion, completion_text, tokens, words

__all__ = ["OpenAI"]

_IMAGE_MODELS = {"gpt-image-2"} | {f"gpt-image-{v}-{name}" for v in ("2.5", "2.6") for name in ("sunburst", "flare")}
_RETIRED = {"dall-e-2", "dall-e-3", "gpt-image-1"}
_TROUBLES = {
    Trouble.BAD_REQUEST: (400, "invalid_request_error", None, "We could not parse the body of your request."),
    Trouble.UNAUTHORIZED: (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    Trouble.NO_MONEY: (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    Trouble.NOT_FOUND: (404, "invalid_request_error", "model_not_found", "The model does not exist."),
    Trouble.POLICY: (400, "image_generation_user_error", "moderation_blocked", "Rejected by the safety system."),
    Trouble.RATE_LIMIT: (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    Trouble.SERVER: (500, "server_error", None, "The server had an error while processing your request."),
    Trouble.UNAVAILABLE: (503, "server_error", None, "The server is overloaded or not ready yet."),
    Trouble.TIMED_OUT: (504, "server_error", None, "The request timed out."),
    Trouble.OVERLOADED: (503, "server_error", None, "The engine is currently overloaded, please try again later."),
}  # fmt: skip
_LIMITS = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "29900",
    "x-ratelimit-reset-tokens": "6m0s",
}


class OpenAI(JobStandIn):
    """OpenAI under `/v1` of one address; `completions` are for the next texts, one each.

    Routes: chat, responses, response, cancel, generations, edits. Background responses are jobs; a plan's `failure` is
    an error's code.
    """

    id_header = "x-request-id"
    terminal = frozenset({"completed", "failed", "cancelled", "incomplete"})
    successes = frozenset({"completed", "incomplete"})

    def __init__(self, key: str = "sk-test-key") -> None:
        super().__init__(key)
        self.plan = Plan(("queued", "in_progress", "completed"))
        self.completions: deque[Completion] = deque()
        self.files = Files(self, "api")

    def routes(self) -> Sequence[Route]:
        return [
            Route("chat", "POST", "/v1/chat/completions", self._chat, paid=True),
            Route("cancel", "POST", "/v1/responses/{id}/cancel", self._cancel),
            Route("response", "GET", "/v1/responses/{id}", self._response),
            Route("responses", "POST", "/v1/responses", self._respond, paid=True),
            Route("generations", "POST", "/v1/images/generations", self._generations, paid=True),
            Route("edits", "POST", "/v1/images/edits", self._edits, paid=True),
            self.files.route(),
        ]

    def authorised(self, arrival: Arrival) -> bool:
        return arrival.headers.get("Authorization") == f"Bearer {self.key}"

    def error(self, trouble: Trouble, message: str = "", param: str | None = None) -> Reply:
        status, kind, code, text = _TROUBLES[trouble]
        return answer({"error": {"message": message or text, "type": kind, "param": param, "code": code}}, status)

    def stream_error(self) -> bytes:
        return _event(self.error(Trouble.OVERLOADED).data)

    def stamped(self, reply: Reply) -> Reply:
        stamped = super().stamped(reply)
        return stamped.having(**_LIMITS, openai_processing_ms="12")

    def new_id(self) -> str:
        return f"resp_{uuid4().hex}"

    # Chat.

    async def _chat(self, arrival: Arrival) -> Reply:
        body = arrival.json
        if not isinstance(body, dict) or not body.get("messages"):
            return self.error(Trouble.BAD_REQUEST)
        if not _is_known(body.get("model")):
            return self.error(Trouble.NOT_FOUND)
        prompt, addresses = _seen(body["messages"][-1]["content"], "text", _chat_image)
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        text, completion = await self._text(prompt, addresses, schema)
        if text is None:
            return self.error(Trouble.BAD_REQUEST, "Failed to download an image.", "messages")
        usage = _chat_usage(prompt, text)
        head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(self.clock.now()), "model": body["model"]}
        stop = completion.stop or "stop"
        if body.get("stream"):
            with_usage = body.get("stream_options", {}).get("include_usage")
            spoken = "refusal" if completion.refuses else "content"
            return answer(_chunks(head, spoken, text, stop, usage if with_usage else None), 200, "text/event-stream")
        message = {
            "role": "assistant",
            "content": None if completion.refuses else text,
            "refusal": text if completion.refuses else None,
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": stop}
        return answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    async def _text(
        self, prompt: str, addresses: Sequence[str], schema: Mapping[str, Any] | None
    ) -> tuple[str | None, Completion]:
        """What it says, and how; None if an image cannot be read."""
        try:
            images = [await self.files.fetched(one) for one in addresses]
        except Unreadable:
            return None, Completion()
        completion = self.completions.popleft() if self.completions else Completion()
        default = "I can't help with that." if completion.refuses else completion_text(prompt, images, schema)
        return (default if completion.text is None else completion.text), completion

    # Responses.

    async def _respond(self, arrival: Arrival) -> Reply:
        body = arrival.json
        if not isinstance(body, dict) or not body.get("input") or body.get("stream"):
            return self.error(Trouble.BAD_REQUEST)
        if not _is_known(body.get("model")):
            return self.error(Trouble.NOT_FOUND)
        content = body["input"] if isinstance(body["input"], str) else body["input"][-1]["content"]
        prompt, addresses = _seen(content, "input_text", lambda part: part["image_url"])
        text, completion = await self._text(prompt, addresses, body.get("text", {}).get("format", {}).get("schema"))
        if text is None:
            return self.error(Trouble.BAD_REQUEST, "Error while downloading an image.", "input")
        done: dict[str, Any] = {"text": text, "completion": completion, "prompt": prompt}
        if body.get("background"):
            job = self.create(body["model"], body, **done)
            return answer(_response(job))
        state = completion.stop or "completed"
        job = Job(self.new_id(), body["model"], body, (), Plan((state,)), self.clock.now(), extra=done)
        if body.get("store", True):
            self.jobs[job.id] = job
        self.made.append(job)
        await self.settle(job)
        return answer(_response(job))

    async def _response(self, arrival: Arrival) -> Reply:
        job = self.jobs.get(arrival.parts["id"])
        if job is None:
            return _no_response(arrival)
        await self.poll(job)
        return answer(_response(job))

    async def _cancel(self, arrival: Arrival) -> Reply:
        job = self.jobs.get(arrival.parts["id"])
        if job is None:
            return _no_response(arrival)
        if not job.arguments.get("background"):
            return self.error(Trouble.BAD_REQUEST, "Only background responses can be cancelled.")
        if not job.finished:
            job.cancelled = True
            job.finished = job.plan.obeys_cancel
            self.changed()
        return answer(_response(job))

    async def complete(self, job: Job) -> None:
        completion: Completion = job.extra["completion"]
        kind = (
            {"type": "refusal", "refusal": job.extra["text"]} if completion.refuses else _output_text(job.extra["text"])
        )
        message = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "status": "completed"}
        job.result = [{**message, "content": [kind]}]

    def webhook_body(self, job: Job) -> None:
        return None

    # Images.

    async def _generations(self, arrival: Arrival) -> Reply:
        body = arrival.json
        if not isinstance(body, dict):
            return self.error(Trouble.BAD_REQUEST)
        return self._images(body, [])

    async def _edits(self, arrival: Arrival) -> Reply:
        fields = _form(arrival)
        body = {name: values[0].decode() for name, values in fields.items() if name not in _FILES}
        images = [one for name in _FILES for one in fields.get(name, ())]
        if not images:
            return self.error(Trouble.BAD_REQUEST, "Missing required parameter: 'image'.", "image")
        return self._images({**body, "n": int(body.get("n", 1))}, images)

    def _images(self, body: Mapping[str, Any], images: Sequence[bytes]) -> Reply:
        if body.get("model") in _RETIRED or body.get("model") not in _IMAGE_MODELS:
            return self.error(Trouble.NOT_FOUND)
        if not body.get("prompt"):
            return self.error(Trouble.BAD_REQUEST, "Missing required parameter: 'prompt'.", "prompt")
        kind = body.get("output_format", "png").upper()
        asked = body.get("size", "auto")
        width, height = (1024, 1024) if asked == "auto" else map(int, asked.split("x"))
        picture = draw(fingerprint(body["prompt"], None, images), (width // 8, height // 8), kind)
        data = [{"b64_json": base64.b64encode(picture).decode()}] * body.get("n", 1)
        usage = {
            "input_tokens": tokens(body["prompt"]),
            "output_tokens": 1056,
            "total_tokens": 1056 + tokens(body["prompt"]),
        }
        return answer({"created": int(self.clock.now()), "data": data, "usage": usage})


_FILES = ("image", "image[]", "mask")


def _is_known(model: object) -> bool:
    return isinstance(model, str) and model.startswith("gpt-") and not model.startswith("gpt-image")


def _no_response(arrival: Arrival) -> Reply:
    message = f"Response with id '{arrival.parts['id']}' not found."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return answer({"error": error}, 404)


def _chat_image(part: Mapping[str, Any]) -> str:
    return str(part["image_url"]["url"])


def _seen(content: Any, text: str, address: Any) -> tuple[str, list[str]]:
    """The text of a message and its images' addresses."""
    if isinstance(content, str):
        return content, []
    prompt = " ".join(part["text"] for part in content if part["type"] == text)
    return prompt, [address(part) for part in content if part["type"] != text]


def _chat_usage(prompt: str, text: str) -> dict[str, Any]:
    counts = {"prompt_tokens": tokens(prompt), "completion_tokens": tokens(text)}
    details = {"completion_tokens_details": {"reasoning_tokens": 0}, "prompt_tokens_details": {"cached_tokens": 0}}
    return {**counts, "total_tokens": sum(counts.values()), **details}


async def _chunks(
    head: Mapping[str, Any], spoken: str, text: str, stop: str, usage: Mapping[str, Any] | None
) -> AsyncGenerator[bytes, None]:
    head = {**head, "object": "chat.completion.chunk"}
    for nth, word in enumerate(words(text)):
        delta = {"role": "assistant", spoken: word} if nth == 0 else {spoken: word}
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": stop}]})
    if usage is not None:
        yield _event({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _response(job: Job) -> dict[str, Any]:
    """A response object in its present state."""
    state = job.state
    if job.finished and job.stopped:
        state = "cancelled"
    elif job.finished and job.failure:
        state = "failed"
    counts = {"input_tokens": tokens(job.extra["prompt"]), "output_tokens": tokens(job.extra["text"])}
    error = {"code": job.failure, "message": "The model could not finish."} if state == "failed" else None
    return {
        "id": job.id,
        "object": "response",
        "created_at": int(job.made_at),
        "status": state,
        "background": bool(job.arguments.get("background")),
        "model": job.app,
        "output": job.result or [],
        "usage": {**counts, "total_tokens": sum(counts.values())} if job.succeeded else None,
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if state == "incomplete" else None,
    }


def _form(arrival: Arrival) -> dict[str, list[bytes]]:
    """The fields of a multipart body."""
    found: dict[str, list[bytes]] = {}
    named = re.search(r'boundary="?([^";]+)', arrival.headers.get("Content-Type", ""))
    if named is None:
        return found
    for part in (arrival.body or b"").split(b"--" + named[1].encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head)
        if name is not None:
            found.setdefault(name[1].decode(), []).append(value.removesuffix(b"\r\n"))
    return found
