"""The stand-in of Magnific keeps to Magnific's protocol."""

from typing import Any

import httpx
import pytest

from tests.providers.standins.images import data_uri, draw, fingerprint, read_fingerprint, size_of
from tests.providers.standins.jobs import Plan
from tests.providers.standins.magnific import CREATIVE, PRECISION, PRECISION_V2, Magnific
from tests.providers.vendors import GIVEN, VENDORS, with_webhook

MAGNIFIC = VENDORS[2]
MODES: dict[str, dict[str, Any]] = {
    CREATIVE: {"scale_factor": "2x"},
    PRECISION: {"sharpen": 7},
    PRECISION_V2: {"scale_factor": 2},
}
every_mode = pytest.mark.parametrize("mode", MODES)


async def submit(client: httpx.AsyncClient, magnific: Magnific, mode: str, **fields: Any) -> httpx.Response:
    body = {"image": data_uri(GIVEN), **fields}
    return await client.post(f"{magnific.url()}/v1/ai/{mode}", json=body, headers=MAGNIFIC.headers)


async def task(client: httpx.AsyncClient, magnific: Magnific, mode: str, identity: str) -> httpx.Response:
    return await client.get(f"{magnific.url()}/v1/ai/{mode}/{identity}", headers=MAGNIFIC.headers)


@every_mode
async def test_a_task_from_its_submit_to_its_picture(magnific: Magnific, mode: str, client: httpx.AsyncClient) -> None:
    submitted = await submit(client, magnific, mode, **MODES[mode])
    identity = magnific.made[0].id
    assert (submitted.status_code, submitted.json()) == (
        200,
        {"data": {"task_id": identity, "status": "CREATED", "generated": []}},
    )
    told = [(await task(client, magnific, mode, identity)).json()["data"] for _ in range(3)]
    assert [one["status"] for one in told] == ["CREATED", "IN_PROGRESS", "COMPLETED"]
    assert [len(one["generated"]) for one in told] == [0, 0, 1]
    assert told[2]["has_nsfw"] == [False]
    picture = (await client.get(told[2]["generated"][0])).content
    assert read_fingerprint(picture) == fingerprint("", None, [GIVEN])
    assert size_of(picture) == (384, 384)


@pytest.mark.parametrize(("factor", "side"), [("2x", 384), ("4x", 768)])
async def test_the_creative_mode_takes_a_prompt_and_a_factor(
    magnific: Magnific, factor: str, side: int, client: httpx.AsyncClient
) -> None:
    await submit(client, magnific, CREATIVE, scale_factor=factor, prompt="wool", engine="magnific_sharpy", hdr=-10)
    job = magnific.made[0]
    await magnific.finish(job)
    picture = (await client.get(job.result[0])).content
    assert read_fingerprint(picture) == fingerprint("wool", None, [GIVEN])
    assert size_of(picture) == (side, side)


@pytest.mark.parametrize("host", ["magnific", "freepik"])
async def test_each_host_has_a_header_of_its_own(magnific: Magnific, host: str, client: httpx.AsyncClient) -> None:
    address = f"{magnific.url(host)}/v1/ai/{CREATIVE}"
    other = {"magnific": "freepik", "freepik": "magnific"}[host]
    body = {"image": data_uri(GIVEN)}
    refused = await client.post(address, json=body, headers={f"x-{other}-api-key": magnific.key})
    taken = await client.post(address, json=body, headers={f"x-{host}-api-key": magnific.key})
    assert (refused.status_code, taken.status_code) == (401, 200)
    assert refused.json().keys() == {"message"}


WRONG = [
    (CREATIVE, "scale_factor", 4),
    (CREATIVE, "creativity", 11),
    (CREATIVE, "optimized_for", "anything"),
    (CREATIVE, "engine", "magnific_other"),
    (PRECISION, "scale_factor", 2),
    (PRECISION, "ultra_detail", 101),
    (PRECISION_V2, "scale_factor", 17),
    (PRECISION_V2, "flavor", "salty"),
    (PRECISION_V2, "prompt", "wool"),
    (PRECISION, "image", "no base64!"),
]


@pytest.mark.parametrize(("mode", "field", "value"), WRONG)
async def test_a_wrong_field_is_named(
    magnific: Magnific, mode: str, field: str, value: object, client: httpx.AsyncClient
) -> None:
    refused = await submit(client, magnific, mode, **{field: value})
    assert (refused.status_code, refused.json()["message"]) == (400, "Validation error")
    assert [one["name"] for one in refused.json()["invalid_params"]] == [field]
    assert magnific.made == []


@pytest.mark.parametrize(
    ("mode", "size", "fields"),
    [
        (CREATIVE, (800, 600), {"scale_factor": "8x"}),
        (PRECISION_V2, (159, 300), {}),
        (PRECISION_V2, (200, 601), {}),
        (PRECISION_V2, (700, 700), {"scale_factor": 16}),
    ],
)
async def test_a_size_that_is_out_of_bounds_is_refused(
    magnific: Magnific, mode: str, size: tuple[int, int], fields: dict[str, Any], client: httpx.AsyncClient
) -> None:
    image = data_uri(draw(fingerprint(), size))
    assert (await submit(client, magnific, mode, image=image, **fields)).status_code == 400


async def test_a_failed_task_says_no_more(magnific: Magnific, client: httpx.AsyncClient) -> None:
    magnific.plan = Plan(("CREATED", "FAILED"), failure="failed")
    await submit(client, magnific, PRECISION)
    job = magnific.made[0]
    await magnific.finish(job)
    told = (await task(client, magnific, PRECISION, job.id)).json()
    assert told == {"data": {"task_id": job.id, "status": "FAILED", "generated": []}}
    assert magnific.billed == []


async def test_a_task_is_known_to_its_mode_only(magnific: Magnific, client: httpx.AsyncClient) -> None:
    identity = (await submit(client, magnific, PRECISION)).json()["data"]["task_id"]
    assert (await task(client, magnific, CREATIVE, identity)).status_code == 404
    assert (await task(client, magnific, PRECISION, "unknown")).json().keys() == {"message"}


async def test_the_list_finds_a_task_whose_answer_was_lost(magnific: Magnific, client: httpx.AsyncClient) -> None:
    await submit(client, magnific, CREATIVE)
    await submit(client, magnific, PRECISION)
    await submit(client, magnific, PRECISION)
    listed = await client.get(f"{magnific.url()}/v1/ai/{PRECISION}", headers=MAGNIFIC.headers)
    newest_first = [{"task_id": job.id, "status": "CREATED"} for job in magnific.made[:0:-1]]
    assert listed.json() == {"data": newest_first}


async def test_a_results_address_is_signed(magnific: Magnific, client: httpx.AsyncClient) -> None:
    await submit(client, magnific, CREATIVE)
    await magnific.finish(magnific.made[0])
    address = magnific.made[0].result[0]
    assert "?token=" in address
    assert (await client.get(address.partition("?")[0])).status_code == 403


async def test_a_webhook_tells_each_change_without_a_wrapper(magnific: Magnific, client: httpx.AsyncClient) -> None:
    magnific.webhooks.automatic = False
    await MAGNIFIC.post(client, magnific, with_webhook(MAGNIFIC, "http://127.0.0.1:9/hook"))
    told = [(await MAGNIFIC.poll(client, magnific, magnific.made[0])) for _ in range(3)]
    assert [one.data["status"] for one in magnific.webhooks.outbox] == told
    last = (await task(client, magnific, CREATIVE, magnific.made[0].id)).json()["data"]
    assert magnific.webhooks.outbox[-1].data == last
    assert len({one.id for one in magnific.webhooks.outbox}) == 3
