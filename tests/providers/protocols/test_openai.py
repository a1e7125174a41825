"""The stand-in of OpenAI keeps to OpenAI's protocol."""

import json
from typing import Any

import httpx
import pytest

from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import refused
from tests.providers.standins.images import data_uri, fingerprint, from_base64, read_fingerprint, size_of
from tests.providers.standins.jobs import Plan
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.texts import Completion, completion_text
from tests.providers.vendors import GIVEN, VENDORS

[VENDOR] = [one for one in VENDORS if one.make is OpenAI]
MODEL = "gpt-6.2-mini"
SCHEMA = {"type": "object", "properties": {"people": {"type": "integer"}, "kind": {"enum": ["collage", "photo"]}}}


async def post(client: httpx.AsyncClient, openai: OpenAI, path: str, **body: Any) -> httpx.Response:
    return await client.post(f"{openai.url()}/v1{path}", json=body, headers=VENDOR.headers)


def asked(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "a red coat"}, *parts]}]


async def test_a_chat_answers_with_what_it_saw(openai: OpenAI, client: httpx.AsyncClient) -> None:
    image = {"type": "image_url", "image_url": {"url": data_uri(GIVEN), "detail": "high"}}
    response = (await post(client, openai, "/chat/completions", model=MODEL, messages=asked(image))).json()
    [choice] = response["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": completion_text("a red coat", [GIVEN]),
        "refusal": None,
    }
    assert (response["object"], choice["finish_reason"]) == ("chat.completion", "stop")
    usage = response["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_chat_fits_a_schema(openai: OpenAI, client: httpx.AsyncClient) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": SCHEMA, "strict": True}}
    response = await post(client, openai, "/chat/completions", model=MODEL, messages=asked(), response_format=form)
    assert json.loads(response.json()["choices"][0]["message"]["content"]) == {"people": 1, "kind": "collage"}


@pytest.mark.parametrize("with_usage", [False, True])
async def test_a_chat_is_streamed(openai: OpenAI, with_usage: bool, client: httpx.AsyncClient) -> None:
    options = {"stream": True, "stream_options": {"include_usage": with_usage}}
    response = await post(client, openai, "/chat/completions", model=MODEL, messages=asked(), **options)
    *events, end = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    told = [json.loads(one) for one in events]
    assert end == "[DONE]"
    assert {one["object"] for one in told} == {"chat.completion.chunk"}
    assert len({one["id"] for one in told}) == 1
    deltas = [one["choices"][0]["delta"] for one in told if one["choices"]]
    assert "".join(one.get("content", "") for one in deltas) == completion_text("a red coat")
    assert len(deltas) > 2
    assert ("usage" in told[-1]) == with_usage


async def test_a_refusal_and_a_cut(openai: OpenAI, client: httpx.AsyncClient) -> None:
    openai.completions += [Completion(refuses=True), Completion(text="a red", stop="length")]
    refusal, cut = [
        (await post(client, openai, "/chat/completions", model=MODEL, messages=asked())).json()["choices"][0]
        for _ in range(2)
    ]
    assert refusal["message"]["content"] is None
    assert refusal["message"]["refusal"]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("a red", "length")


async def test_a_response_answers_with_what_it_saw(openai: OpenAI, client: httpx.AsyncClient) -> None:
    parts = [{"type": "input_text", "text": "a red coat"}, {"type": "input_image", "image_url": data_uri(GIVEN)}]
    form = {"format": {"type": "json_schema", "name": "seen", "schema": SCHEMA, "strict": True}}
    turn = [{"role": "user", "content": parts}]
    plain = (await post(client, openai, "/responses", model=MODEL, input=turn)).json()
    formed = (await post(client, openai, "/responses", model=MODEL, input=turn, text=form)).json()
    assert (plain["status"], plain["object"], plain["error"]) == ("completed", "response", None)
    [message] = plain["output"]
    assert (message["type"], message["content"][0]["type"]) == ("message", "output_text")
    assert message["content"][0]["text"] == completion_text("a red coat", [GIVEN])
    assert json.loads(formed["output"][0]["content"][0]["text"])["kind"] == "collage"
    assert plain["usage"]["total_tokens"] > 0
    assert len(openai.billed) == 2


async def test_a_response_may_be_incomplete_or_a_refusal(openai: OpenAI, client: httpx.AsyncClient) -> None:
    openai.completions += [Completion(stop="incomplete"), Completion(refuses=True)]
    cut, refusal = [(await post(client, openai, "/responses", model=MODEL, input="a coat")).json() for _ in range(2)]
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert refusal["output"][0]["content"][0]["type"] == "refusal"


async def look(client: httpx.AsyncClient, openai: OpenAI, identity: str) -> dict[str, Any]:
    response = await client.get(f"{openai.url()}/v1/responses/{identity}", headers=VENDOR.headers)
    found = response.json()
    assert isinstance(found, dict)
    return found


async def test_a_background_response_is_collected_by_its_id(openai: OpenAI, client: httpx.AsyncClient) -> None:
    begun = (await VENDOR.post(client, openai)).json()
    assert (begun["status"], begun["background"], begun["output"]) == ("queued", True, [])
    told = [await look(client, openai, begun["id"]) for _ in range(3)]
    assert [one["status"] for one in told] == ["queued", "in_progress", "completed"]
    assert told[2]["output"][0]["content"][0]["text"] == completion_text("a red coat")
    assert (await look(client, openai, "resp_unknown"))["error"]["type"] == "invalid_request_error"


async def test_a_background_response_is_cancelled(openai: OpenAI, client: httpx.AsyncClient) -> None:
    identity = (await VENDOR.post(client, openai)).json()["id"]
    cancelled = (await post(client, openai, f"/responses/{identity}/cancel")).json()
    again = (await post(client, openai, f"/responses/{identity}/cancel")).json()
    assert (cancelled["status"], again["status"]) == ("cancelled", "cancelled")
    assert (await look(client, openai, identity))["status"] == "cancelled"
    assert openai.billed == []


async def test_only_background_responses_are_cancelled(openai: OpenAI, client: httpx.AsyncClient) -> None:
    identity = (await post(client, openai, "/responses", model=MODEL, input="a coat")).json()["id"]
    assert (await post(client, openai, f"/responses/{identity}/cancel")).status_code == 400
    assert (await look(client, openai, identity))["status"] == "completed"
    unstored = (await post(client, openai, "/responses", model=MODEL, input="a coat", store=False)).json()["id"]
    assert "error" in await look(client, openai, unstored)
    assert "status" not in await look(client, openai, unstored)


async def test_a_background_response_fails(openai: OpenAI, client: httpx.AsyncClient) -> None:
    openai.plan = Plan(("queued", "failed"), failure="server_error")
    identity = (await VENDOR.post(client, openai)).json()["id"]
    await openai.finish(openai.jobs[identity])
    told = await look(client, openai, identity)
    assert (told["status"], told["error"]["code"], told["output"]) == ("failed", "server_error", [])


@pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.6-sunburst"])
async def test_a_picture_is_made(openai: OpenAI, model: str, client: httpx.AsyncClient) -> None:
    body = {"model": model, "prompt": "a red coat", "size": "1536x1024", "n": 2, "output_format": "jpeg"}
    response = (await post(client, openai, "/images/generations", **body)).json()
    pictures = [from_base64(one["b64_json"]) for one in response["data"]]
    assert [read_fingerprint(one) for one in pictures] == [fingerprint("a red coat")] * 2
    assert (size_of(pictures[0]), pictures[0][:3]) == ((192, 128), b"\xff\xd8\xff")
    assert response["usage"]["total_tokens"] > 0


async def test_a_picture_is_edited(openai: OpenAI, client: httpx.AsyncClient) -> None:
    files = [("image[]", ("a.png", GIVEN)), ("image[]", ("b.png", GIVEN[::-1])), ("mask", ("m.png", b"\r\n--mask\r\n"))]
    data = {"model": "gpt-image-2", "prompt": "a red coat"}
    address = openai.url() + "/v1/images/edits"
    response = await client.post(address, data=data, files=files, headers=VENDOR.headers)
    picture = from_base64(response.json()["data"][0]["b64_json"])
    assert read_fingerprint(picture) == fingerprint("a red coat", None, [GIVEN, GIVEN[::-1], b"\r\n--mask\r\n"])
    without = await client.post(address, data=data, files={"other": b""}, headers=VENDOR.headers)
    assert (without.status_code, without.json()["error"]["param"]) == (400, "image")


@pytest.mark.parametrize("model", ["dall-e-3", "gpt-image-1", "gpt-unknown"])
async def test_retired_models_are_not_found(openai: OpenAI, model: str, client: httpx.AsyncClient) -> None:
    response = await post(client, openai, "/images/generations", model=model, prompt="a red coat")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


WORDS = [
    (Trouble.POLICY, 400, "moderation_blocked"),
    (Trouble.UNAUTHORIZED, 401, "invalid_api_key"),
    (Trouble.RATE_LIMIT, 429, "rate_limit_exceeded"),
    (Trouble.NO_MONEY, 429, "insufficient_quota"),
    (Trouble.SERVER, 500, None),
]


@pytest.mark.parametrize(("trouble", "status", "code"), WORDS)
async def test_errors_have_a_code(
    openai: OpenAI, trouble: Trouble, status: int, code: str | None, client: httpx.AsyncClient
) -> None:
    openai.faults.on("chat", refused(trouble))
    response = await post(client, openai, "/chat/completions", model=MODEL, messages=asked())
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_answers_carry_the_request_and_the_limits(openai: OpenAI, client: httpx.AsyncClient) -> None:
    headers = (await post(client, openai, "/chat/completions", model=MODEL, messages=asked())).headers
    assert headers["x-request-id"]
    kinds = [f"{name}-{kind}" for name in ("limit", "remaining", "reset") for kind in ("requests", "tokens")]
    assert all(f"x-ratelimit-{one}" in headers for one in kinds)
    stranger = await client.post(openai.url() + "/v1/chat/completions", json={})
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "invalid_api_key")
