"""The stand-in of Anthropic keeps to Anthropic's protocol."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import refused
from tests.providers.standins.texts import Completion, completion_text
from tests.providers.vendors import GIVEN, VENDORS

[VENDOR] = [one for one in VENDORS if one.make is Anthropic]


async def ask(client: httpx.AsyncClient, anthropic: Anthropic, *images: Any, **more: Any) -> httpx.Response:
    content = [*images, {"type": "text", "text": "a red coat"}]
    body = {"model": "claude-test", "max_tokens": 99, "messages": [{"role": "user", "content": content}], **more}
    return await client.post(anthropic.url() + "/v1/messages", json=body, headers=VENDOR.headers)


async def test_a_message_answers_with_what_it_saw(anthropic: Anthropic, client: httpx.AsyncClient) -> None:
    data = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(GIVEN).decode()}
    named = {"type": "url", "url": anthropic.files.keep(GIVEN)}
    images = [{"type": "image", "source": one} for one in (data, named)]
    response = (await ask(client, anthropic, *images)).json()
    assert response["content"] == [{"type": "text", "text": completion_text("a red coat", [GIVEN, GIVEN])}]
    assert (response["type"], response["role"], response["stop_reason"]) == ("message", "assistant", "end_turn")
    assert response["id"].startswith("msg_")
    assert {"input_tokens", "output_tokens", "cache_read_input_tokens"} <= response["usage"].keys()


async def test_text_fits_a_schema(anthropic: Anthropic, client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"views": {"type": "array", "items": {"enum": ["front", "back"]}}}}
    response = await ask(client, anthropic, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert json.loads(response.json()["content"][0]["text"]) == {"views": ["front"]}


@pytest.mark.parametrize("stop", ["refusal", "max_tokens", "model_context_window_exceeded"])
async def test_a_message_may_end_otherwise(anthropic: Anthropic, stop: str, client: httpx.AsyncClient) -> None:
    anthropic.completions.append(Completion(refuses=stop == "refusal", stop=stop))
    response = await ask(client, anthropic)
    assert (response.status_code, response.json()["stop_reason"]) == (200, stop)


async def test_a_message_is_streamed(anthropic: Anthropic, client: httpx.AsyncClient) -> None:
    response = await ask(client, anthropic, stream=True)
    assert response.headers["Content-Type"] == "text/event-stream"
    events = [one.split("\ndata: ") for one in response.text.split("\n\n") if one]
    told = [json.loads(data) for _, data in events]
    assert [name.removeprefix("event: ") for name, _ in events] == [one["type"] for one in told]
    kinds = [one["type"] for one in told if one["type"] != "content_block_delta"]
    assert kinds == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [one["delta"] for one in told if one["type"] == "content_block_delta"]
    assert {one["type"] for one in deltas} == {"text_delta"}
    assert "".join(one["text"] for one in deltas) == completion_text("a red coat")
    assert told[0]["message"]["content"] == []
    assert told[-2]["delta"]["stop_reason"] == "end_turn"
    assert told[-2]["usage"]["output_tokens"] > 0


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
async def test_a_field_that_is_missing_is_named(anthropic: Anthropic, missing: str, client: httpx.AsyncClient) -> None:
    response = await ask(client, anthropic, **{missing: None})
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert response.json()["error"]["message"].startswith(missing)


async def test_the_version_is_a_header_that_must_be_there(anthropic: Anthropic, client: httpx.AsyncClient) -> None:
    response = await client.post(
        anthropic.url() + "/v1/messages", json=VENDOR.paid.body, headers={"x-api-key": anthropic.key}
    )
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


WORDS = [
    (Trouble.UNAUTHORIZED, 401, "authentication_error"),
    (Trouble.NO_MONEY, 402, "billing_error"),
    (Trouble.NOT_FOUND, 404, "not_found_error"),
    (Trouble.RATE_LIMIT, 429, "rate_limit_error"),
    (Trouble.SERVER, 500, "api_error"),
    (Trouble.TIMED_OUT, 504, "timeout_error"),
    (Trouble.OVERLOADED, 529, "overloaded_error"),
]


@pytest.mark.parametrize(("trouble", "status", "kind"), WORDS)
async def test_errors_have_a_type(
    anthropic: Anthropic, trouble: Trouble, status: int, kind: str, client: httpx.AsyncClient
) -> None:
    anthropic.faults.on("messages", refused(trouble))
    response = await ask(client, anthropic)
    error = response.json()
    assert (response.status_code, error["type"], error["error"]["type"]) == (status, "error", kind)
    assert response.headers["request-id"] == error["request_id"]
    assert response.headers["x-should-retry"] == ("true" if status >= 500 or status == 429 else "false")


async def test_answers_carry_the_request_and_the_limits(anthropic: Anthropic, client: httpx.AsyncClient) -> None:
    headers = (await ask(client, anthropic)).headers
    assert headers["request-id"]
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        assert int(headers[f"anthropic-ratelimit-{kind}-limit"]) > int(headers[f"anthropic-ratelimit-{kind}-remaining"])
        assert headers[f"anthropic-ratelimit-{kind}-reset"].endswith("Z")


async def test_strangers_and_unknown_models_are_refused(anthropic: Anthropic, client: httpx.AsyncClient) -> None:
    headers = {**VENDOR.headers, "x-api-key": "other"}
    stranger = await client.post(anthropic.url() + "/v1/messages", json=VENDOR.paid.body, headers=headers)
    assert (stranger.status_code, stranger.json()["error"]["type"]) == (401, "authentication_error")
    assert (await ask(client, anthropic, model="other")).json()["error"]["type"] == "not_found_error"
