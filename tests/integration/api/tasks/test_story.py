"""One task, told by logs and by a trace: from its POST over a failed attempt to the second try of its webhook."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from compute.db.session import Database
from compute.errors import OutOfMemory
from compute.settings import Settings
from compute.telemetry import tracing
from compute.telemetry.logs import JsonFormatter
from tests.integration.api.conftest import Painter, wait_for
from tests.integration.webhooks.receiver import Receiver, receiving, sending
from tests.otlp import Traces, receiving_traces
from tests.patience import PATIENCE

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = CALLER[3:35]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that this process logs, as JSON lines."""
    stream, logger = io.StringIO(), logging.getLogger("compute")
    handler, level = logging.StreamHandler(stream), logger.level
    handler.setFormatter(JsonFormatter(process="test"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def traces(settings: Settings) -> Iterator[Traces]:
    with receiving_traces() as traces:
        tracing.start_tracing(settings.model_copy(update={"otel_endpoint": traces.url}), process="test")
        yield traces
        tracing.stop_tracing()


@pytest.fixture
async def receiver(database: Database) -> AsyncIterator[Receiver]:
    """Refuses the first webhook, and takes the second; a sender is running."""
    receiver = Receiver(statuses=(500, 200))
    async with receiving(receiver), sending(database):
        yield receiver


class Clumsy(Painter):
    """Has too little memory the first time."""

    def decode(self, request: Any) -> Any:
        if len(self.requests) == 1:
            raise OutOfMemory("The device has too little memory for this size.")
        return super().decode(request)


@pytest.fixture
def painter() -> Painter:
    return Clumsy()


async def told(api: httpx.AsyncClient, receiver: Receiver, headers: dict[str, str]) -> str:
    """The id of a task whose webhook was delivered."""
    body = {"prompt": "a hat", "width": 64, "height": 64, "steps": 3, "webhook_url": receiver.url}
    created = await api.post("/tasks/", json=body, headers=headers)
    assert created.status_code == 201
    assert created.headers["x-request-id"] == headers.get("X-Request-Id", created.headers["x-request-id"])
    task = await wait_for(api, created.json()["id"], "COMPLETED")
    async with asyncio.timeout(PATIENCE):
        while len(receiver.received) < 2:
            await asyncio.sleep(0.02)
    return str(task["id"])


async def test_one_search_for_a_task_finds_its_story(
    api: httpx.AsyncClient, worker: Painter, receiver: Receiver, log: io.StringIO
) -> None:
    task_id = await told(api, receiver, {"X-Request-Id": "order-7", "traceparent": CALLER})
    async with asyncio.timeout(PATIENCE):
        while "delivered in" not in log.getvalue():
            await asyncio.sleep(0.02)
    found = [line for line in log.getvalue().splitlines() if task_id in line]
    lines = [json.loads(line) for line in found]
    assert all(line["task_id"] == task_id for line in lines), "the id has a field of its own"
    assert {line["trace_id"] for line in lines} == {TRACE}, "the caller's trace is known though nothing is traced"
    assert lines[0]["request_id"] == "order-7"
    story = [
        "task accepted",
        "task claimed",
        "job begins",
        "task begun by",
        "job failed",
        "; next run in",
        "attempt ended",
        "task claimed from inference, retry 1",
        "job begins",
        "job done",
        "completed",
        "the receiver answered 500; next attempt",
        "delivered in",
    ]
    position = 0
    for words in story:
        at = next((n for n in range(position, len(lines)) if words in lines[n]["message"]), None)
        assert at is not None, (words, [line["message"] for line in lines])
        position = at + 1
    assert [received.headers["traceparent"] for received in receiver.received] == [CALLER, CALLER]


async def test_one_trace_leads_from_the_request_to_the_webhook(
    api: httpx.AsyncClient, worker: Painter, receiver: Receiver, traces: Traces
) -> None:
    await told(api, receiver, {"traceparent": CALLER})

    def all_there() -> bool:
        names = [span.name for span in traces.of(TRACE)]
        return names.count("webhook") == 2 and names.count("attempt GENERATION") == 2

    await asyncio.to_thread(traces.until, all_there)
    spans = {span.span_id: span for span in traces.of(TRACE)}
    [request] = [span for span in spans.values() if span.name == "POST /api/v1/tasks/"]
    assert request.parent_id == CALLER[36:52]
    attempts = sorted(
        (span for span in spans.values() if span.name.startswith("attempt")),
        key=lambda span: span.attributes["compute.task.retry_count"],
    )
    assert {span.parent_id for span in attempts} == {request.span_id}
    first, second = attempts
    assert (first.failed, second.failed) == (True, False)
    assert "retry" in first.events
    assert [span.attributes["compute.outcome"] for span in attempts] == ["retried", "completed"]
    works = {span.parent_id: span for span in spans.values() if span.name == "work GENERATION"}
    assert works.keys() == {first.span_id, second.span_id}
    stages = {span.name for span in spans.values() if span.parent_id == works[second.span_id].span_id}
    assert {"load inputs", "prepare", "denoise", "decode", "encode", "store"} <= stages
    assert {span.parent_id for span in spans.values() if span.name == "settle"} == {first.span_id, second.span_id}
    webhooks = sorted(
        (span for span in spans.values() if span.name == "webhook"),
        key=lambda span: span.attributes["compute.webhook.attempt"],
    )
    assert {span.parent_id for span in webhooks} == {request.span_id}
    assert [span.failed for span in webhooks] == [True, False]
    sent = [received.headers["traceparent"] for received in receiver.received]
    assert [header[36:52] for header in sent] == [span.span_id for span in webhooks]
