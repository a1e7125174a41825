"""One table of the vendors, for tests that play the same fault with each of them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.images import data_uri, draw, fingerprint
from tests.providers.standins.jobs import Job, JobStandIn
from tests.providers.standins.magnific import CREATIVE, Magnific
from tests.providers.standins.ollama import Ollama
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.server import StandIn

__all__ = ["GIVEN", "VENDORS", "Ask", "Vendor", "with_jobs", "with_money", "with_streams", "with_webhook"]

GIVEN = draw(fingerprint("an image that a test gives"), (192, 192))
"""A picture to send."""
_TURN = [{"role": "user", "content": "a red coat"}]
_GEMINI = {"contents": [{"role": "user", "parts": [{"text": "a red coat"}]}]}


@dataclass(frozen=True)
class Ask:
    """One request to a stand-in."""

    route: str
    path: str
    body: Mapping[str, Any]
    host: str = ""

    def with_filler(self, size: int) -> "Ask":
        """The same with so many more bytes, in a field that nobody knows."""
        return Ask(self.route, self.path, {**self.body, "filler": "x" * size}, self.host)


@dataclass(frozen=True)
class Vendor:
    """One vendor's way of doing what all of them do."""

    name: str
    make: Callable[[], StandIn]
    headers: Mapping[str, str]
    paid: Ask
    streamed: Ask | None = None
    picture: Ask | None = None
    """For a picture in base64 in the answer."""
    has_files: bool = False
    """Pictures are addresses, of jobs made by `paid`."""
    job: Callable[[Mapping[str, Any]], str] | None = None
    """The id of a job in the answer to its submit."""
    status: Callable[[Job], str] | None = None
    """The path of a job's status."""
    polled: str = ""
    """The route of a job's status."""
    states: tuple[str, str, str] = ("", "", "")
    """Words for waiting, running and done."""
    state: Callable[[Mapping[str, Any]], str] = field(default=lambda said: str(said["status"]))
    poor: tuple[int, str] = (0, "")
    """Status and words for an account without money."""

    def __str__(self) -> str:
        return self.name

    async def post(self, client: httpx.AsyncClient, stand_in: StandIn, ask: Ask | None = None) -> httpx.Response:
        asked = ask or self.paid
        return await client.post(stand_in.url(asked.host) + asked.path, json=asked.body, headers=self.headers)

    @asynccontextmanager
    async def stream(self, client: httpx.AsyncClient, stand_in: StandIn, ask: Ask) -> AsyncIterator[httpx.Response]:
        address = stand_in.url(ask.host) + ask.path
        async with client.stream("POST", address, json=ask.body, headers=self.headers) as response:
            yield response

    async def poll(self, client: httpx.AsyncClient, stand_in: StandIn, job: Job) -> str:
        """The state of a job, as it is told."""
        assert self.status is not None
        answered = await client.get(stand_in.url() + self.status(job), headers=self.headers)
        return self.state(answered.json())

    async def file(self, client: httpx.AsyncClient, stand_in: JobStandIn) -> str:
        """The address of the picture of a new job that has ended."""
        (await self.post(client, stand_in)).raise_for_status()
        job = stand_in.made[-1]
        await stand_in.finish(job)
        result = job.result["images"][0]["url"] if isinstance(job.result, dict) else job.result[0]
        return str(result)


VENDORS = [
    Vendor(
        "fal",
        Fal,
        {"Authorization": "Key key-id:key-secret"},
        Ask("submit", "/fal-ai/flux/dev", {"prompt": "a red coat", "seed": 7}),
        picture=Ask("run", "/fal-ai/flux/dev", {"prompt": "a red coat", "seed": 7, "sync_mode": True}, "run"),
        has_files=True,
        job=lambda said: str(said["request_id"]),
        status=lambda job: f"/fal-ai/flux/requests/{job.id}/status",
        polled="status",
        states=("IN_QUEUE", "IN_PROGRESS", "COMPLETED"),
        poor=(403, "Exhausted balance"),
    ),
    Vendor(
        "fashn",
        Fashn,
        {"Authorization": "Bearer fa-test-key"},
        Ask("run", "/v1/run", {"model_name": "edit", "inputs": {"image": data_uri(GIVEN), "prompt": "a red coat"}}),
        has_files=True,
        job=lambda said: str(said["id"]),
        status=lambda job: f"/v1/status/{job.id}",
        polled="status",
        states=("in_queue", "processing", "completed"),
        poor=(429, "OutOfCredits"),
    ),
    Vendor(
        "magnific",
        Magnific,
        {"x-magnific-api-key": "FPSX-test-key"},
        Ask("submit", f"/v1/ai/{CREATIVE}", {"image": data_uri(GIVEN), "prompt": "a red coat"}),
        has_files=True,
        job=lambda said: str(said["data"]["task_id"]),
        status=lambda job: f"/v1/ai/{CREATIVE}/{job.id}",
        polled="task",
        states=("CREATED", "IN_PROGRESS", "COMPLETED"),
        state=lambda said: str(said["data"]["status"]),
        poor=(402, "Insufficient credits"),
    ),
    Vendor(
        "gemini",
        Gemini,
        {"x-goog-api-key": "AIza-test-key"},
        Ask("generate", "/v1/models/gemini-3-pro-image:generateContent", _GEMINI),
        streamed=Ask("stream", "/v1/models/gemini-3-pro-image:streamGenerateContent?alt=sse", _GEMINI),
        picture=Ask("generate", "/v1/models/gemini-3-pro-image:generateContent", _GEMINI),
        poor=(429, "credits are depleted"),
    ),
    Vendor(
        "vertex",
        Gemini,
        {"Authorization": "Bearer AIza-test-key"},
        Ask(
            "vertex_generate",
            "/v1beta1/projects/p/locations/global/publishers/google/models/gemini-3-pro-image:generateContent",
            _GEMINI,
        ),
        streamed=Ask(
            "vertex_stream",
            "/v1beta1/publishers/google/models/gemini-3-pro-image:streamGenerateContent?alt=sse",
            _GEMINI,
        ),
        picture=Ask("vertex_generate", "/v1beta1/publishers/google/models/gemini-3-pro-image:generateContent", _GEMINI),
        poor=(429, "credits are depleted"),
    ),
    Vendor(
        "openai",
        OpenAI,
        {"Authorization": "Bearer sk-test-key"},
        Ask("responses", "/v1/responses", {"model": "gpt-6.2-mini", "input": "a red coat", "background": True}),
        streamed=Ask("chat", "/v1/chat/completions", {"model": "gpt-6.2-mini", "messages": _TURN, "stream": True}),
        picture=Ask("generations", "/v1/images/generations", {"model": "gpt-image-2", "prompt": "a red coat"}),
        job=lambda said: str(said["id"]),
        status=lambda job: f"/v1/responses/{job.id}",
        polled="response",
        states=("queued", "in_progress", "completed"),
        poor=(429, "insufficient_quota"),
    ),
    Vendor(
        "anthropic",
        Anthropic,
        {"x-api-key": "sk-ant-test-key", "anthropic-version": "2023-06-01"},
        Ask("messages", "/v1/messages", {"model": "claude-test", "max_tokens": 99, "messages": _TURN}),
        streamed=Ask(
            "messages",
            "/v1/messages",
            {"model": "claude-test", "max_tokens": 99, "messages": _TURN, "stream": True},
        ),
        poor=(402, "billing_error"),
    ),
    Vendor(
        "ollama",
        Ollama,
        {},
        Ask("chat", "/api/chat", {"model": "gemma3:4b", "messages": _TURN, "stream": False}),
        streamed=Ask("chat", "/api/chat", {"model": "gemma3:4b", "messages": _TURN}),
    ),
]


def with_streams() -> list[Vendor]:
    return [one for one in VENDORS if one.streamed is not None]


def with_jobs() -> list[Vendor]:
    return [one for one in VENDORS if one.job is not None]


def with_money() -> list[Vendor]:
    """All that are paid and set limits."""
    return [one for one in VENDORS if one.poor[0]]


def with_webhook(vendor: Vendor, url: str) -> Ask:
    """A submit that names a webhook: in Magnific's body, in the query of the others."""
    ask = vendor.paid
    if vendor.name == "magnific":
        return Ask(ask.route, ask.path, {**ask.body, "webhook_url": url})
    name = "fal_webhook" if vendor.name == "fal" else "webhook_url"
    return Ask(ask.route, f"{ask.path}?{httpx.QueryParams({name: url})}", ask.body)
