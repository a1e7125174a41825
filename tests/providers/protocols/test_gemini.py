"""The stand-in of the Gemini API and of Vertex keeps to their protocol."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import refused
from tests.providers.standins.gemini import MODELS, Gemini, Outcome
from tests.providers.standins.images import fingerprint, from_base64, read_fingerprint, size_of
from tests.providers.vendors import GIVEN, VENDORS

[GEMINI, VERTEX] = [one for one in VENDORS if one.make is Gemini]
MODEL = "gemini-3-pro-image"
INLINE = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(GIVEN).decode()}}


def turn(*parts: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": "a red coat"}, *parts]}]}


async def generate(
    client: httpx.AsyncClient, gemini: Gemini, body: dict[str, Any], model: str = MODEL
) -> httpx.Response:
    address = f"{gemini.url()}/v1/models/{model}:generateContent"
    return await client.post(address, json=body, headers=GEMINI.headers)


def pictures(response: httpx.Response) -> list[bytes]:
    parts = response.json()["candidates"][0]["content"]["parts"]
    return [from_base64(part["inlineData"]["data"]) for part in parts if "inlineData" in part]


async def test_an_answer_holds_text_and_a_picture(gemini: Gemini, client: httpx.AsyncClient) -> None:
    response = await generate(client, gemini, {**turn(INLINE), "generationConfig": {"seed": 3}})
    [candidate] = response.json()["candidates"]
    text, inline = candidate["content"]["parts"]
    assert "a red coat" in text["text"]
    assert inline["inlineData"]["mimeType"] == "image/png"
    assert read_fingerprint(pictures(response)[0]) == fingerprint("a red coat", 3, [GIVEN])
    assert (candidate["content"]["role"], candidate["finishReason"]) == ("model", "STOP")
    usage = response.json()["usageMetadata"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert (response.json()["modelVersion"], len(response.json()["responseId"])) == (MODEL, 32)


PLACES = {
    "v1": "/v1/models/",
    "v1beta": "/v1beta/models/",
    "project": "/v1beta1/projects/p/locations/europe-west4/publishers/google/models/",
    "express": "/v1beta1/publishers/google/models/",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
async def test_all_paths_answer(gemini: Gemini, place: str, method: str, client: httpx.AsyncClient) -> None:
    address = f"{gemini.url()}{PLACES[place]}{MODEL}:{method}"
    response = await client.post(address, json=turn(), headers=GEMINI.headers)
    assert response.status_code == 200
    assert isinstance(response.json(), list if method.startswith("stream") else dict)
    bearer = await client.post(address, json=turn(), headers=VERTEX.headers)
    assert bearer.status_code == (401 if place.startswith("v1") else 200)


@pytest.mark.parametrize("vendor", [GEMINI, VERTEX], ids=str)
async def test_a_stream_is_the_same_answer_in_parts(client: httpx.AsyncClient, gemini: Gemini, vendor: Any) -> None:
    streamed = await vendor.post(client, gemini, vendor.streamed)
    assert streamed.headers["Content-Type"] == "text/event-stream"
    events = [json.loads(line.removeprefix("data: ")) for line in streamed.text.split("\r\n\r\n") if line]
    parts = [part for one in events for part in one["candidates"][0]["content"]["parts"]]
    [whole, inline] = (await vendor.post(client, gemini)).json()["candidates"][0]["content"]["parts"]
    assert len(parts) > 2
    assert "".join(part["text"] for part in parts[:-1]) == whole["text"]
    assert parts[-1] == inline
    assert ["finishReason" in one["candidates"][0] for one in events] == [False] * (len(events) - 1) + [True]


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "A_NEW_REASON"])
async def test_a_blocked_prompt_is_200_without_candidates(
    gemini: Gemini, reason: str, client: httpx.AsyncClient
) -> None:
    gemini.outcomes.append(Outcome(blocked=reason))
    response = await generate(client, gemini, turn())
    assert response.status_code == 200
    assert response.json()["promptFeedback"] == {"blockReason": reason}
    assert "candidates" not in response.json()


@pytest.mark.parametrize("reason", ["IMAGE_SAFETY", "NO_IMAGE", "RECITATION", "MAX_TOKENS", "A_NEW_REASON"])
@pytest.mark.parametrize("modalities", [["IMAGE"], ["TEXT", "IMAGE"]])
async def test_a_refused_picture_is_200_without_one(
    gemini: Gemini, reason: str, modalities: list[str], client: httpx.AsyncClient
) -> None:
    gemini.outcomes.append(Outcome(finish=reason))
    response = await generate(client, gemini, {**turn(), "generationConfig": {"responseModalities": modalities}})
    [candidate] = response.json()["candidates"]
    assert (response.status_code, candidate["finishReason"]) == (200, reason)
    assert not [part for part in candidate["content"].get("parts", ()) if "inlineData" in part]
    assert pictures(await generate(client, gemini, turn()))


async def test_the_picture_is_the_last_one_of_the_thoughts(gemini: Gemini, client: httpx.AsyncClient) -> None:
    gemini.outcomes.append(Outcome(in_thought=True))
    response = await generate(client, gemini, turn())
    draft, final = pictures(response)
    assert read_fingerprint(final) == fingerprint("a red coat", None)
    assert read_fingerprint(draft) != read_fingerprint(final)
    parts = response.json()["candidates"][0]["content"]["parts"]
    assert [part.get("thought") for part in parts if "inlineData" in part] == [True, True]


@pytest.mark.parametrize(
    ("ratio", "size", "pixels"), [("1:1", "1K", (128, 128)), ("16:9", "2K", (256, 144)), ("2:3", "4K", (341, 512))]
)
async def test_the_picture_has_the_size_that_was_asked_for(
    gemini: Gemini, ratio: str, size: str, pixels: tuple[int, int], client: httpx.AsyncClient
) -> None:
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": ratio, "imageSize": size}}
    response = await generate(client, gemini, {**turn(), "generationConfig": config})
    assert [size_of(one) for one in pictures(response)] == [pixels]
    assert len(response.json()["candidates"][0]["content"]["parts"]) == 1


async def test_text_fits_a_schema(gemini: Gemini, client: httpx.AsyncClient) -> None:
    schema = {"type": "OBJECT", "properties": {"people": {"type": "INTEGER"}, "title": {"type": "STRING"}}}
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    response = await generate(client, gemini, {**turn(), "generationConfig": config}, "gemini-2.5-flash")
    [part] = response.json()["candidates"][0]["content"]["parts"]
    assert json.loads(part["text"]) == {"people": 1, "title": "You asked: a red coat"}


async def test_a_file_can_be_named(gemini: Gemini, client: httpx.AsyncClient) -> None:
    file = {"fileData": {"mimeType": "image/png", "fileUri": gemini.files.keep(GIVEN)}}
    response = await generate(client, gemini, turn(file))
    assert read_fingerprint(pictures(response)[0]) == fingerprint("a red coat", None, [GIVEN])


async def test_an_unknown_model_is_not_found(gemini: Gemini, client: httpx.AsyncClient) -> None:
    response = await generate(client, gemini, turn(), "gemini-9")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (404, 404, "NOT_FOUND")
    assert {"gemini-2.5-flash-image", "gemini-nano-banana-2.1"} <= MODELS


async def test_a_request_without_contents_is_invalid(gemini: Gemini, client: httpx.AsyncClient) -> None:
    assert (await generate(client, gemini, {})).json()["error"]["status"] == "INVALID_ARGUMENT"
    broken = {"inlineData": {"mimeType": "image/png", "data": "no base64!"}}
    assert (await generate(client, gemini, turn(broken))).json()["error"]["status"] == "INVALID_ARGUMENT"


WORDS = [
    (Trouble.SERVER, 500, "INTERNAL"),
    (Trouble.UNAVAILABLE, 503, "UNAVAILABLE"),
    (Trouble.TIMED_OUT, 504, "DEADLINE_EXCEEDED"),
    (Trouble.RATE_LIMIT, 429, "RESOURCE_EXHAUSTED"),
    (Trouble.NO_MONEY, 429, "RESOURCE_EXHAUSTED"),
]


@pytest.mark.parametrize(("trouble", "code", "status"), WORDS)
async def test_errors_have_a_word(
    gemini: Gemini, trouble: Trouble, code: int, status: str, client: httpx.AsyncClient
) -> None:
    gemini.faults.on("generate", refused(trouble))
    response = await generate(client, gemini, turn())
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (code, code, status)
    assert error["message"]


async def test_a_rate_limit_tells_its_delay_in_the_details(gemini: Gemini, client: httpx.AsyncClient) -> None:
    gemini.faults.on("generate", refused(Trouble.RATE_LIMIT), refused(Trouble.NO_MONEY))
    limited, poor = [await generate(client, gemini, turn()) for _ in range(2)]
    kinds = {one["@type"].rpartition(".")[2]: one for one in limited.json()["error"]["details"]}
    assert kinds["RetryInfo"]["retryDelay"] == "13s"
    assert kinds["QuotaFailure"]["violations"]
    assert "Retry-After" not in limited.headers
    assert "details" not in poor.json()["error"]
