"""The stand-in of fal keeps to fal's protocol."""

import json
from typing import Any

import httpx
import pytest

from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import reset_mid_body
from tests.providers.standins.images import data_uri, fingerprint, from_base64, read_fingerprint, size_of
from tests.providers.standins.jobs import Plan
from tests.providers.vendors import GIVEN, VENDORS, with_webhook

FAL = VENDORS[0]
HEADERS = FAL.headers
ARGUMENTS = {"prompt": "a red coat", "seed": 7}


async def submitted(client: httpx.AsyncClient, fal: Fal, path: str = "/fal-ai/flux/dev", **more: Any) -> dict[str, Any]:
    response = await client.post(fal.url("queue") + path, json={**ARGUMENTS, **more}, headers=HEADERS)
    assert response.status_code == 200
    said = response.json()
    assert isinstance(said, dict)
    return said


async def result(client: httpx.AsyncClient, fal: Fal, said: dict[str, Any]) -> httpx.Response:
    await fal.finish(fal.jobs[said["request_id"]])
    return await client.get(said["response_url"], headers=HEADERS)


async def test_a_submit_answers_with_the_id_and_three_addresses(fal: Fal, client: httpx.AsyncClient) -> None:
    said = await submitted(client, fal)
    at = f"{fal.url('queue')}/fal-ai/flux/requests/{said['request_id']}"
    assert said == {
        "request_id": fal.made[0].id,
        "gateway_request_id": said["gateway_request_id"],
        "status": "IN_QUEUE",
        "queue_position": 0,
        "response_url": at,
        "status_url": f"{at}/status",
        "cancel_url": f"{at}/cancel",
    }


@pytest.mark.parametrize("host", ["queue", "run"])
async def test_a_key_is_needed(fal: Fal, host: str, client: httpx.AsyncClient) -> None:
    address = fal.url(host) + "/fal-ai/flux/dev"
    refused = await client.post(address, json=ARGUMENTS, headers={"Authorization": "Bearer key-id:key-secret"})
    assert refused.status_code == 401
    assert isinstance(refused.json()["detail"], str)
    assert fal.made == []


async def test_a_status_is_202_until_it_is_complete(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_QUEUE", "IN_QUEUE", "IN_QUEUE", "IN_PROGRESS", "COMPLETED"))
    said = await submitted(client, fal)
    response = [await client.get(said["status_url"], headers=HEADERS) for _ in range(5)]
    assert [one.status_code for one in response] == [202, 202, 202, 202, 200]
    assert [one.json().get("queue_position") for one in response] == [2, 1, 0, None, None]
    assert response[3].json()["logs"] is None
    assert response[4].json()["metrics"]["inference_time"] > 0


async def test_logs_come_when_asked_for(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_PROGRESS", "COMPLETED"))
    said = await submitted(client, fal)
    running = await client.get(said["status_url"] + "?logs=1", headers=HEADERS)
    assert running.json()["logs"][0]["message"]


async def test_a_jobs_addresses_are_without_the_models_path(fal: Fal, client: httpx.AsyncClient) -> None:
    said = await submitted(client, fal, "/workflows/somebody/app/step/one")
    assert "/workflows/somebody/app/requests/" in said["status_url"]
    built = f"{fal.url('queue')}/workflows/somebody/app/step/one/requests/{said['request_id']}/status"
    assert (await client.get(built, headers=HEADERS)).status_code == 404


async def test_the_stream_tells_each_change_until_the_end(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_QUEUE", "IN_QUEUE", "IN_PROGRESS", "IN_PROGRESS", "COMPLETED"))
    said = await submitted(client, fal)
    streamed = await client.get(said["status_url"] + "/stream", headers=HEADERS)
    assert streamed.headers["Content-Type"] == "text/event-stream"
    events = [json.loads(line.removeprefix("data: ")) for line in streamed.text.split("\n\n") if line]
    assert [one["status"] for one in events] == ["IN_QUEUE", "IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


async def test_the_stream_waits_for_a_job_that_is_held(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_PROGRESS", "COMPLETED"), held=True)
    said = await submitted(client, fal)
    async with client.stream("GET", said["status_url"] + "/stream", headers=HEADERS) as streamed:
        parts = streamed.aiter_text()
        assert "IN_PROGRESS" in await anext(parts)
        await fal.finish(fal.made[0])
        assert "COMPLETED" in await anext(parts)


async def test_the_stream_is_reset_and_opened_again(fal: Fal, client: httpx.AsyncClient) -> None:
    said = await submitted(client, fal)
    fal.faults.on("stream", reset_mid_body())
    with pytest.raises(httpx.NetworkError):
        await client.get(said["status_url"] + "/stream", headers=HEADERS)
    again = await client.get(said["status_url"] + "/stream", headers=HEADERS)
    assert "COMPLETED" in again.text


async def test_a_result_is_there_only_at_the_end(fal: Fal, client: httpx.AsyncClient) -> None:
    said = await submitted(client, fal)
    early = await client.get(said["response_url"], headers=HEADERS)
    assert early.status_code == 400
    assert "in progress" in early.json()["detail"]
    assert (await result(client, fal, said)).status_code == 200


async def test_a_picture_shows_prompt_seed_and_images(fal: Fal, client: httpx.AsyncClient) -> None:
    more: dict[str, Any] = {"image_url": data_uri(GIVEN), "num_images": 2, "image_size": {"width": 256, "height": 192}}
    said = (await result(client, fal, await submitted(client, fal, **more))).json()
    pictures = [(await client.get(one["url"])).content for one in said["images"]]
    assert [read_fingerprint(one) for one in pictures] == [
        fingerprint("a red coat", 7 + nth, [GIVEN]) for nth in (0, 1)
    ]
    assert size_of(pictures[0]) == (said["images"][0]["width"], said["images"][0]["height"]) == (256, 192)
    assert (said["seed"], said["has_nsfw_concepts"], said["prompt"]) == (7, [False, False], "a red coat")
    assert said["images"][0]["content_type"] == "image/jpeg"


async def test_sync_mode_answers_with_a_data_uri(fal: Fal, client: httpx.AsyncClient) -> None:
    said = (await result(client, fal, await submitted(client, fal, sync_mode=True, output_format="png"))).json()
    assert said["images"][0]["url"].startswith("data:image/png;base64,")
    assert read_fingerprint(from_base64(said["images"][0]["url"])) == fingerprint("a red coat", 7)


async def test_a_synchronous_run_answers_with_the_result(fal: Fal, client: httpx.AsyncClient) -> None:
    response = await client.post(fal.url("run") + "/fal-ai/flux/dev", json=ARGUMENTS, headers=HEADERS)
    assert response.json()["images"]
    fal.plans.append(Plan(("COMPLETED",), failure="content_policy_violation"))
    failed = await client.post(fal.url("run") + "/fal-ai/flux/dev", json=ARGUMENTS, headers=HEADERS)
    assert failed.status_code == 422
    assert (fal.submits, len(fal.billed)) == (2, 1)


async def test_there_is_no_failed_status(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_QUEUE", "COMPLETED"), failure="content_policy_violation")
    said = await submitted(client, fal)
    collected = await result(client, fal, said)
    status = await client.get(said["status_url"], headers=HEADERS)
    assert (status.status_code, status.json()["status"]) == (200, "COMPLETED")
    assert status.json()["error_type"] == "content_policy_violation"
    [detail] = collected.json()["detail"]
    assert collected.status_code == 422
    assert {"loc", "msg", "type", "url"} <= detail.keys()
    assert (detail["type"], detail["categories"]) == ("content_policy_violation", ["violence"])
    assert collected.headers["X-Fal-Retryable"] == "false"
    assert fal.billed == []


@pytest.mark.parametrize(
    ("kind", "status"), [("runner_scheduling_failure", 503), ("startup_timeout", 504), ("internal_error", 500)]
)
async def test_a_failure_of_the_platform_is_flat(fal: Fal, kind: str, status: int, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_QUEUE", "COMPLETED"), failure=kind)
    collected = await result(client, fal, await submitted(client, fal))
    assert (collected.status_code, collected.json()["error_type"]) == (status, kind)
    assert collected.headers["X-Fal-Error-Type"] == kind
    assert isinstance(collected.json()["detail"], str)


async def test_a_start_that_came_too_late_is_the_users_time_out(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plan = Plan(("IN_QUEUE", "COMPLETED"), failure="request_timeout")
    collected = await result(client, fal, await submitted(client, fal))
    assert (collected.status_code, collected.headers["X-Fal-Request-Timeout-Type"]) == (504, "user")


async def test_an_image_that_cannot_be_read_fails_the_job(fal: Fal, client: httpx.AsyncClient) -> None:
    said = await submitted(client, fal, image_url=fal.url("media") + "/files/none.png")
    collected = await result(client, fal, said)
    assert (collected.status_code, collected.json()["detail"][0]["type"]) == (422, "file_download_error")


async def cancelled(client: httpx.AsyncClient, fal: Fal, address: str) -> tuple[int, str]:
    response = await client.put(address, headers=HEADERS)
    return response.status_code, response.json()["status"]


async def test_a_cancel_has_four_answers(fal: Fal, client: httpx.AsyncClient) -> None:
    fal.plans += [Plan(("IN_QUEUE", "COMPLETED")), Plan(("IN_PROGRESS", "COMPLETED"))]
    queued, running = await submitted(client, fal), await submitted(client, fal)
    assert await cancelled(client, fal, queued["cancel_url"]) == (200, "OK")
    assert await cancelled(client, fal, running["cancel_url"]) == (202, "CANCELLATION_REQUESTED")
    assert await cancelled(client, fal, queued["cancel_url"]) == (400, "ALREADY_COMPLETED")
    unknown = queued["cancel_url"].replace(queued["request_id"], "unknown")
    assert await cancelled(client, fal, unknown) == (404, "NOT_FOUND")
    assert (await result(client, fal, running)).json()["error_type"] == "client_cancelled"
    assert fal.billed == []


async def test_an_upload_is_an_address_that_a_job_can_read(fal: Fal, client: httpx.AsyncClient) -> None:
    at = fal.url("rest") + "/storage/auth/token"
    token = (await client.post(at, params={"storage_type": "fal-cdn-v3"}, headers=HEADERS)).json()
    assert token.keys() == {"token", "token_type", "base_url", "expires_at"}
    headers = {"Authorization": f"{token['token_type']} {token['token']}", "X-Fal-File-Name": "coat.png"}
    uploaded = await client.post(
        token["base_url"] + "/files/upload", content=GIVEN, headers={**headers, "Content-Type": "image/png"}
    )
    address = uploaded.json()["access_url"]
    assert (await client.get(address)).content == GIVEN
    said = (await result(client, fal, await submitted(client, fal, image_url=address))).json()
    picture = (await client.get(said["images"][0]["url"])).content
    assert read_fingerprint(picture) == fingerprint("a red coat", 7, [GIVEN])
    assert (await client.post(token["base_url"] + "/files/upload", content=GIVEN)).status_code == 401


async def test_the_older_upload_has_two_addresses(fal: Fal, client: httpx.AsyncClient) -> None:
    at = fal.url("rest") + "/storage/upload/initiate"
    body = {"content_type": "image/png", "file_name": "coat.png"}
    begun = (await client.post(at, params={"storage_type": "gcs"}, json=body, headers=HEADERS)).json()
    assert (await client.put(begun["upload_url"], content=GIVEN)).status_code == 200
    got = await client.get(begun["file_url"])
    assert (got.content, got.headers["Content-Type"]) == (GIVEN, "image/png")


@pytest.mark.parametrize("failure", ["", "content_policy_violation", "payload_error"])
async def test_a_webhook_tells_the_end(fal: Fal, failure: str, client: httpx.AsyncClient) -> None:
    fal.webhooks.automatic = False
    fal.plan = Plan(("IN_QUEUE", "COMPLETED"), failure=failure)
    said = (await FAL.post(client, fal, with_webhook(FAL, "http://127.0.0.1:9/hook?task=41"))).json()
    collected = await result(client, fal, said)
    [delivery] = fal.webhooks.outbox
    assert delivery.url == "http://127.0.0.1:9/hook?task=41"
    told = delivery.data
    assert (told["request_id"], told["gateway_request_id"]) == (said["request_id"], said["gateway_request_id"])
    if failure == "payload_error":
        assert (told["status"], told["payload"]) == ("OK", None)
        assert told["payload_error"]
    else:
        assert told["status"] == ("ERROR" if failure else "OK")
        assert told["payload"] == collected.json()
        assert ("error" in told) == bool(failure)


async def test_the_keys_are_of_ed25519(fal: Fal, client: httpx.AsyncClient) -> None:
    keys = (await client.get(fal.url("rest") + "/.well-known/jwks.json")).json()["keys"]
    assert len(keys) > 1
    assert all((one["kty"], one["crv"], len(one["x"])) == ("OKP", "Ed25519", 43) for one in keys)
