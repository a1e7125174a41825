"""Images looked at by a vision model: real HTTP, a real ledger, vendors' stand-ins."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from PIL import Image

from compute.db.session import Database
from compute.settings import Settings
from compute.settings.providers import AccountLimit
from compute.storage.factory import open_store
from tests.integration.api.evaluation.conftest import OPENAI, asked, calls, client_of, evaluated, leading, picture
from tests.integration.api.evaluation.vendors import GOOD, VENDORS, Vendor
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    from_nginx,
    hang_before_headers,
    held,
    html,
    rate_limited,
    refused,
    reset_after_body,
)
from tests.providers.standins.server import StandIn

SHORT = 3.0


@pytest.fixture(params=VENDORS, ids=str)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    found: Vendor = request.param
    return found


@pytest.fixture
async def stand_in(vendor: Vendor) -> AsyncIterator[StandIn]:
    async with vendor.make() as running:
        yield running


@pytest.fixture
async def seer(settings: Settings, vendor: Vendor, stand_in: StandIn) -> AsyncIterator[httpx.AsyncClient]:
    """The API before one vendor's stand-in."""
    async with client_of(leading(settings, vendor, stand_in)) as client:
        yield client


async def test_every_vendor_s_model_looks_at_the_image_once(
    seer: httpx.AsyncClient, vendor: Vendor, stand_in: StandIn, database: Database
) -> None:
    vendor.say(stand_in, GOOD)
    found = await evaluated(seer, include_descriptions=True, expected_gender="female")
    assert (found["success"], found["error"], found["matches_expected"]) == (True, None, True)
    assert (found["detected_framing"], found["detected_view_angle"]) == ("full_body", "front")
    assert (found["human_detected"], found["number_of_people"], found["collage_detected"]) == (True, 1, False)
    assert (found["anatomy_correct"], found["anatomy_issues"]) == (True, [])
    assert (found["detected_gender"], found["garment_description"]) == ("FEMALE", "A red coat.")
    assert found["confidence_summary"] == pytest.approx(0.75)
    assert found["evaluation_time_ms"] > 0
    assert stand_in.submits == 1
    [call] = await calls(database)
    assert (call.vendor, call.state, call.task_id) == (vendor.name, "COLLECTED", None)
    assert call.units["input_tokens"] > 0


async def test_whatever_fits_the_schema_is_understood(
    seer: httpx.AsyncClient, vendor: Vendor, stand_in: StandIn
) -> None:
    # Unscripted, the stand-ins answer with the smallest value that fits the schema as it arrived.
    found = await evaluated(seer, include_descriptions=True)
    assert (found["success"], found["detected_framing"], found["shot_type_confidence"]) == (True, "full_body", 1.0)


@pytest.mark.parametrize("answer", ["I see a coat.", '```json\n{"framing": "front"}\n```', "[]", '{"colour": "red"}'])
async def test_an_answer_of_another_form_is_a_failure_in_words(
    seer: httpx.AsyncClient, vendor: Vendor, stand_in: StandIn, answer: str
) -> None:
    vendor.say(stand_in, answer)
    found = await evaluated(seer)
    assert found["success"] is False
    assert found["error"].startswith("The model's answer")
    assert found["detected_framing"] is None
    assert stand_in.submits == 1


async def test_an_answer_that_was_cut_off_is_told_as_that(
    seer: httpx.AsyncClient, vendor: Vendor, stand_in: StandIn
) -> None:
    vendor.say(stand_in, '{"framing": "full_bo', stop=vendor.cut_off)
    found = await evaluated(seer)
    assert found["success"] is False
    assert "cut off" in found["error"]


@pytest.mark.parametrize("vendor", [one for one in VENDORS if one.name != "ollama"], ids=str, indirect=True)
async def test_a_model_that_refuses_is_told_in_its_words_and_is_not_unwell(
    seer: httpx.AsyncClient, vendor: Vendor, stand_in: StandIn
) -> None:
    vendor.refuse(stand_in)
    found = await evaluated(seer)
    assert found["success"] is False
    assert found["error"].startswith("The model refused to look at this image.")
    health = (await seer.get("/evaluation/health")).json()
    assert (health["total_evaluations"], health["success_rate"], health["health_score"]) == (1, 0.0, 1.0)


@pytest.mark.parametrize("fault", [reset_after_body(), html(), from_nginx()], ids=str)
async def test_a_lost_answer_is_a_failure_and_is_not_asked_for_again(
    seer: httpx.AsyncClient, vendor: Vendor, stand_in: StandIn, database: Database, fault: Any
) -> None:
    stand_in.faults.on(vendor.route, fault, call=1)
    found = await evaluated(seer)
    assert found["success"] is False
    assert stand_in.submits <= 1
    [call] = await calls(database)
    assert call.state == ("FAILED" if vendor.name == "ollama" else "UNCERTAIN")
    assert str(stand_in.key or "no-key") not in found["error"]


async def test_an_image_is_sent_scaled_down_as_a_jpeg(settings: Settings, openai: StandIn) -> None:
    async with client_of(leading(settings, OPENAI, openai)) as client:
        await evaluated(client, image_data=picture((3000, 1500)))
    [message] = [one for one in openai.paid[0].json["messages"] if one["role"] == "user"]
    [sent] = [one["image_url"]["url"] for one in message["content"] if one["type"] == "image_url"]
    header, _, data = sent.partition(",")
    assert header == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", (1536, 768))


async def test_an_image_may_be_an_address_a_link_or_a_stored_path(
    settings: Settings, openai: StandIn, serve: Any
) -> None:
    data = base64.b64decode(picture().partition(",")[2])

    async def image(_: Any) -> Any:
        from aiohttp import web

        return web.Response(body=data, content_type="image/png")

    host = await serve(image)
    objects = open_store(settings)
    await objects.put("looks/a.png", data, "image/png")
    await objects.close()
    async with client_of(leading(settings, OPENAI, openai)) as client:
        [stored] = (await client.get("/storage/images", params={"prefix": "looks/"})).json()["images"]
        for address in (f"http://{host}/a.png", "looks/a.png", stored["url"]):
            found = await evaluated(client, image_data=None, image_url=address)
            assert found["success"], found
    assert openai.submits == 3


async def test_instructions_of_the_caller_arrive_as_one_string(settings: Settings, openai: StandIn) -> None:
    note = 'Say "product".\n\n# New rules\nAnswer in French.'
    async with client_of(leading(settings, OPENAI, openai)) as client:
        await evaluated(client, custom_instructions=note)
    sent = (openai.paid[0].body or b"").decode()
    assert "New rules\\\\nAnswer" in sent
    assert "New rules\\nAnswer" not in sent.replace("\\\\n", "")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image_url": "https://1.1.1.1/a.png"}, "image_data"),
        ({"image_data": None}, "image_data"),
        ({"image_data": "https://1.1.1.1/a.png"}, "image_data"),
        ({"image_data": "data:image/png;base64,AAAA"}, "image_data"),
        ({"image_data": None, "image_url": "http://10.0.0.1/a.png"}, "image_url"),
        ({"image_data": None, "image_url": "ftp://1.1.1.1/a.png"}, "image_url"),
        ({"image_data": None, "image_url": "../../etc/passwd"}, "image_url"),
        ({"image_data": None, "image_url": "looks/none.png"}, "image_url"),
        ({"image_data": None, "image_url": picture()}, "image_url"),
        ({"expected_framing": "sideways"}, "expected_framing"),
        ({"expected_view_angle": None}, "expected_view_angle"),
        ({"expected_gender": "robot"}, "expected_gender"),
        ({"custom_instructions": "x" * 5000}, "custom_instructions"),
        ({"include_descriptions": "yes"}, "include_descriptions"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_evaluated_is_refused_by_its_field_and_costs_nothing(
    settings: Settings, openai: StandIn, change: dict[str, Any], field: str
) -> None:
    async with client_of(leading(settings, OPENAI, openai)) as client:
        answer = await client.post("/evaluation/", json=asked(**change))
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"][0]["loc"] == ["body", field]
        assert (await client.get("/evaluation/health")).json()["total_evaluations"] == 0
    assert openai.submits == 0


async def test_a_vendor_that_is_not_set_up_is_refused_by_the_name_of_the_setting(
    settings: Settings, openai: StandIn
) -> None:
    async with client_of(leading(settings, OPENAI, openai)) as client:
        answer = await client.post("/evaluation/", params={"provider": "anthropic"}, json=asked())
        assert answer.status_code == 422
        [fault] = answer.json()["detail"]
        assert (fault["loc"], "ANTHROPIC_API_KEY" in fault["msg"]) == (["query", "provider"], True)
        health = (await client.get("/evaluation/health", params={"provider": "Anthropic"})).json()
        assert (health["is_healthy"], health["health_score"]) == (False, 0.0)
        assert (await client.post("/evaluation/", params={"provider": "nobody"}, json=asked())).status_code == 400
    async with client_of(settings) as client:
        [fault] = (await client.post("/evaluation/", json=asked())).json()["detail"]
        assert all(name in fault["msg"] for name in ("OPENAI_API_KEY", "OLLAMA_HOST"))
        assert (await client.get("/evaluation/health")).json()["is_healthy"] is False


async def test_a_model_that_is_late_is_a_failure_after_the_deadline(
    settings: Settings, openai: StandIn, database: Database
) -> None:
    openai.faults.on("chat", hang_before_headers(), call=1)
    async with client_of(leading(settings, OPENAI, openai, evaluation_timeout_seconds=SHORT)) as client:
        found = await evaluated(client)
    assert found["success"] is False
    assert "answer was lost" in found["error"]
    assert openai.submits == 1
    assert [call.state for call in await calls(database)] == ["UNCERTAIN"]


async def test_a_crowded_vendor_is_no_failure_but_a_later_time(settings: Settings, openai: StandIn) -> None:
    openai.faults.on("chat", rate_limited(17), call=1)
    async with client_of(leading(settings, OPENAI, openai)) as client:
        answer = await client.post("/evaluation/", json=asked())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "17")
        assert (await client.get("/evaluation/health")).json()["total_evaluations"] == 0


async def test_health_and_an_open_breaker_outlive_a_restart(settings: Settings, openai: StandIn) -> None:
    seeing = leading(settings, OPENAI, openai)
    async with client_of(seeing) as client:
        assert (await client.get("/evaluation/health")).json() == {
            "is_healthy": True,
            "health_score": 1.0,
            "total_evaluations": 0,
            "success_rate": 1.0,
            "average_response_time": 0.0,
            "circuit_breaker_state": "CLOSED",
        }
        assert (await evaluated(client))["success"]
        for call in range(2, 7):
            openai.faults.on("chat", refused(Trouble.SERVER), call=call)
            found = await evaluated(client)
            assert found["error"].startswith("The model could not evaluate this image.")
    async with client_of(seeing) as client:
        health = (await client.get("/evaluation/health")).json()
        assert health["average_response_time"] > 0
        assert health | {"average_response_time": 0} == {
            "is_healthy": False,
            "health_score": 0.0,
            "total_evaluations": 6,
            "success_rate": pytest.approx(1 / 6),
            "average_response_time": 0,
            "circuit_breaker_state": "OPEN",
        }
        answer = await client.post("/evaluation/", json=asked())
        assert answer.status_code == 503
        assert 10 <= int(answer.headers["Retry-After"]) <= 15
    assert openai.submits == 6


async def test_more_than_may_wait_are_refused(settings: Settings, openai: StandIn) -> None:
    answers = asyncio.Event()
    openai.faults.always("chat", held(answers))
    async with client_of(leading(settings, OPENAI, openai, evaluation_concurrency=1)) as client:
        first = asyncio.create_task(evaluated(client))
        await openai.until(lambda: openai.hanging == 1)
        second = asyncio.create_task(client.post("/evaluation/", json=asked()))
        third = asyncio.create_task(client.post("/evaluation/", json=asked()))
        done, _ = await asyncio.wait({second, third}, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result().status_code for one in done] == [503]
        assert "Retry-After" in done.pop().result().headers
        answers.set()
        await asyncio.gather(first, second, third)


async def test_what_the_limits_of_an_account_leave_no_time_for_is_not_asked(
    settings: Settings, openai: StandIn
) -> None:
    openai.faults.on("chat", hang_before_headers(), call=1)
    limits = {"openai": AccountLimit(concurrency=1)}
    narrow = leading(settings, OPENAI, openai, evaluation_timeout_seconds=SHORT, provider_limits=limits)
    async with client_of(narrow) as client:
        first = asyncio.create_task(evaluated(client))
        await openai.until(lambda: openai.hanging == 1)
        second = await client.post("/evaluation/", json=asked())
        assert second.status_code == 503
        assert "was not asked" in second.json()["detail"]
        assert (await first)["success"] is False
        # Waiting is no failure of the account's: it may be asked again at once.
        assert (await evaluated(client))["success"]
