"""The stand-in of FASHN keeps to FASHN's protocol."""

import binascii
from contextlib import nullcontext
from typing import Any

import httpx
import pytest

from tests.providers.standins.fashn import MODELS, Fashn
from tests.providers.standins.faults import huge_picture, truncated_base64, truncated_picture
from tests.providers.standins.images import data_uri, fingerprint, from_base64, read_fingerprint
from tests.providers.standins.jobs import Plan
from tests.providers.standins.server import Fault
from tests.providers.vendors import GIVEN, VENDORS, with_webhook

FASHN = VENDORS[1]
TRY_ON = {"model_image": data_uri(GIVEN), "garment_image": data_uri(GIVEN), "seed": 5}


async def run(client: httpx.AsyncClient, fashn: Fashn, model: str = "tryon-v1.6", **inputs: Any) -> httpx.Response:
    body = {"model_name": model, "inputs": {**TRY_ON, **inputs}}
    return await client.post(fashn.url() + "/v1/run", json=body, headers=FASHN.headers)


async def status(client: httpx.AsyncClient, fashn: Fashn, identity: str) -> httpx.Response:
    return await client.get(f"{fashn.url()}/v1/status/{identity}", headers=FASHN.headers)


async def ended(client: httpx.AsyncClient, fashn: Fashn, **inputs: Any) -> httpx.Response:
    identity = (await run(client, fashn, **inputs)).json()["id"]
    await fashn.finish(fashn.jobs[identity])
    return await status(client, fashn, identity)


@pytest.mark.parametrize("model", sorted(MODELS))
async def test_a_run_answers_with_an_id(fashn: Fashn, model: str, client: httpx.AsyncClient) -> None:
    response = await run(client, fashn, model)
    assert (response.status_code, response.json()) == (200, {"id": fashn.made[0].id, "error": None})


async def test_a_prediction_passes_through_its_states(fashn: Fashn, client: httpx.AsyncClient) -> None:
    identity = (await run(client, fashn)).json()["id"]
    told = [await status(client, fashn, identity) for _ in range(4)]
    assert [one.json()["status"] for one in told] == ["starting", "in_queue", "processing", "completed"]
    assert [one.json()["output"] is None for one in told] == [True, True, True, False]
    assert ["x-fashn-credits-used" in one.headers for one in told] == [False, False, False, True]
    assert all(one.json()["error"] is None and one.json().keys() == {"id", "status", "output", "error"} for one in told)


async def test_outputs_show_the_images_and_the_seed(fashn: Fashn, client: httpx.AsyncClient) -> None:
    output = (await ended(client, fashn, num_samples=2, output_format="jpeg")).json()["output"]
    pictures = [(await client.get(one)).content for one in output]
    assert [read_fingerprint(one) for one in pictures] == [fingerprint("", 5 + nth, [GIVEN, GIVEN]) for nth in (0, 1)]
    assert pictures[0].startswith(b"\xff\xd8")


async def test_outputs_can_be_data_uris(fashn: Fashn, client: httpx.AsyncClient) -> None:
    [output] = (await ended(client, fashn, return_base64=True, prompt="in the rain")).json()["output"]
    assert output.startswith("data:image/png;base64,")
    assert read_fingerprint(from_base64(output)) == fingerprint("in the rain", 5, [GIVEN, GIVEN])


@pytest.mark.parametrize(
    ("fault", "broken"),
    [(truncated_base64(), binascii.Error), (truncated_picture(), OSError), (huge_picture(3_000_000), None)],
    ids=str,
)
async def test_faulty_data_uris(
    fashn: Fashn, fault: Fault, broken: type[Exception] | None, client: httpx.AsyncClient
) -> None:
    fashn.faults.on("status", fault)
    [output] = (await ended(client, fashn, return_base64=True)).json()["output"]
    with pytest.raises(broken) if broken else nullcontext():
        assert read_fingerprint(from_base64(output)) == fingerprint("", 5, [GIVEN, GIVEN])


@pytest.mark.parametrize("name", ["ImageLoadError", "ContentModerationError", "PoseError", "ThirdPartyError"])
async def test_a_runtime_error_is_a_status_and_costs_nothing(
    fashn: Fashn, name: str, client: httpx.AsyncClient
) -> None:
    fashn.plan = Plan(("processing", "failed"), failure=name)
    told = await ended(client, fashn)
    assert (told.status_code, told.json()["status"], told.json()["output"]) == (200, "failed", None)
    assert told.json()["error"]["name"] == name
    assert told.json()["error"]["message"]
    assert fashn.billed == []


async def test_an_image_that_cannot_be_read_fails_the_prediction(fashn: Fashn, client: httpx.AsyncClient) -> None:
    told = await ended(client, fashn, model_image=fashn.url("cdn") + "/files/none.png")
    assert told.json()["error"]["name"] == "ImageLoadError"


async def test_an_error_of_the_api_has_a_name_and_no_id(fashn: Fashn, client: httpx.AsyncClient) -> None:
    unknown = await run(client, fashn, "tryon-v9")
    assert (unknown.status_code, unknown.json().keys()) == (400, {"error", "message"})
    assert unknown.json()["error"] == "BadRequest"
    assert (await status(client, fashn, "unknown")).json()["error"] == "NotFound"
    stranger = await client.post(fashn.url() + "/v1/run", json={}, headers={"Authorization": "Bearer other"})
    assert (stranger.status_code, stranger.json()["error"]) == (401, "UnauthorizedAccess")
    assert fashn.made == []


async def test_credits_go_down_with_each_result(fashn: Fashn, client: httpx.AsyncClient) -> None:
    await ended(client, fashn)
    left = (await client.get(fashn.url() + "/v1/credits", headers=FASHN.headers)).json()
    assert left["credits"]["total"] == 999


async def test_a_webhook_is_the_status_at_the_end(fashn: Fashn, client: httpx.AsyncClient) -> None:
    fashn.webhooks.automatic = False
    identity = (await FASHN.post(client, fashn, with_webhook(FASHN, "http://127.0.0.1:9/hook"))).json()["id"]
    await fashn.finish(fashn.jobs[identity])
    [delivery] = fashn.webhooks.outbox
    assert delivery.data == (await status(client, fashn, identity)).json()
