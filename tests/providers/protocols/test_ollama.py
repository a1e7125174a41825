"""The stand-in of Ollama keeps to Ollama's protocol."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import refused
from tests.providers.standins.images import data_uri
from tests.providers.standins.ollama import Ollama
from tests.providers.standins.texts import Completion, completion_text
from tests.providers.vendors import GIVEN

MODEL = "gemma3:4b"


async def chat(client: httpx.AsyncClient, ollama: Ollama, *images: str, **more: Any) -> httpx.Response:
    message = {"role": "user", "content": "a red coat", "images": list(images)}
    return await client.post(ollama.url() + "/api/chat", json={"model": MODEL, "messages": [message], **more})


async def test_a_chat_is_lines_of_json_by_default(ollama: Ollama, client: httpx.AsyncClient) -> None:
    response = await chat(client, ollama, base64.b64encode(GIVEN).decode())
    assert response.headers["Content-Type"] == "application/x-ndjson"
    *said_lines, last = [json.loads(line) for line in response.text.splitlines()]
    assert len(said_lines) > 2
    assert "".join(one["message"]["content"] for one in said_lines) == completion_text("a red coat", [GIVEN])
    assert {one["done"] for one in said_lines} == {False}
    assert (last["done"], last["done_reason"]) == (True, "stop")
    durations = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
    assert all(last[name] > 1_000 for name in durations)
    assert {"prompt_eval_count", "eval_count"} <= last.keys()
    assert all({"model", "created_at", "message"} <= one.keys() for one in said_lines)


async def test_a_chat_comes_at_once_when_asked(ollama: Ollama, client: httpx.AsyncClient) -> None:
    response = (await chat(client, ollama, stream=False)).json()
    assert (response["message"], response["done"]) == (
        {"role": "assistant", "content": completion_text("a red coat")},
        True,
    )


async def test_thoughts_are_apart(ollama: Ollama, client: httpx.AsyncClient) -> None:
    response = (await chat(client, ollama, stream=False, think=True)).json()["message"]
    assert response["thinking"]
    assert response["content"] == completion_text("a red coat")


@pytest.mark.parametrize("wanted", ["json", {"type": "object", "properties": {"people": {"type": "integer"}}}])
async def test_text_fits_a_format(ollama: Ollama, wanted: Any, client: httpx.AsyncClient) -> None:
    response = (await chat(client, ollama, stream=False, format=wanted)).json()
    assert json.loads(response["message"]["content"]) == ({} if wanted == "json" else {"people": 1})


async def test_a_chat_may_end_at_its_length(ollama: Ollama, client: httpx.AsyncClient) -> None:
    ollama.completions.append(Completion(text="a red", stop="length"))
    response = (await chat(client, ollama, stream=False)).json()
    assert (response["message"]["content"], response["done_reason"]) == ("a red", "length")


async def test_images_are_base64_without_a_prefix(ollama: Ollama, client: httpx.AsyncClient) -> None:
    assert (await chat(client, ollama, data_uri(GIVEN))).status_code == 400


async def test_a_model_that_was_not_pulled_is_not_found(ollama: Ollama, client: httpx.AsyncClient) -> None:
    response = await chat(client, ollama, model="llama9")
    assert (response.status_code, response.json()) == (404, {"error": "model 'llama9' not found"})
    shown = await client.post(ollama.url() + "/api/show", json={"model": "llama9"})
    assert shown.status_code == 404


async def test_models_are_listed_and_shown(ollama: Ollama, client: httpx.AsyncClient) -> None:
    listed = (await client.get(ollama.url() + "/api/tags")).json()["models"]
    assert [one["name"] for one in listed] == list(ollama.models)
    assert all({"model", "modified_at", "size", "digest", "details"} <= one.keys() for one in listed)
    shown = (await client.post(ollama.url() + "/api/show", json={"model": MODEL})).json()
    assert shown["capabilities"] == ["completion", "vision"]
    assert shown["model_info"]["general.architecture"] == "gemma3"


@pytest.mark.parametrize(("trouble", "status"), [(Trouble.UNAVAILABLE, 503), (Trouble.SERVER, 500)])
async def test_errors_are_one_text(ollama: Ollama, trouble: Trouble, status: int, client: httpx.AsyncClient) -> None:
    ollama.faults.on("chat", refused(trouble))
    response = await chat(client, ollama)
    assert response.status_code == status
    assert isinstance(response.json()["error"], str)
