"""Faults on the wire and in a vendor's limits, each with every vendor that may have it."""

import asyncio
import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    RetryAfter,
    broken_stream,
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    html,
    rate_limited,
    redirected,
    refused,
    reset_after_body,
    reset_before_body,
    reset_mid_body,
    wrong_type,
)
from tests.providers.standins.jobs import JobStandIn
from tests.providers.standins.server import Fault, StandIn
from tests.providers.vendors import VENDORS, Vendor, with_money, with_streams

EIGHT_MEGABYTES = 8 << 20
"""More than a connection holds on its way."""

every_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=str)
every_stream = pytest.mark.parametrize("vendor", with_streams(), ids=str)


def jobs_of(stand_in: StandIn) -> int:
    return len(stand_in.made) if isinstance(stand_in, JobStandIn) else 0


@every_vendor
async def test_a_request_reset_before_its_body_is_read_costs_nothing(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, reset_before_body())
        with pytest.raises(httpx.NetworkError):
            await vendor.post(client, stand_in, vendor.paid.with_filler(EIGHT_MEGABYTES))
        assert (len(stand_in.arrived(vendor.paid.route)), stand_in.submits, jobs_of(stand_in)) == (1, 0, 0)


@every_vendor
async def test_the_second_submit_is_read_and_then_reset(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, reset_after_body(), call=2)
        assert (await vendor.post(client, stand_in)).status_code == 200
        with pytest.raises(httpx.NetworkError):
            await vendor.post(client, stand_in)
        assert (await vendor.post(client, stand_in)).status_code == 200
        assert stand_in.submits == 3
        assert list(stand_in.submits_by_path().values()) == [3]
        assert list(stand_in.submits_by_body().values()) == [3]
        assert not isinstance(stand_in, JobStandIn) or len(stand_in.made) == 3
        assert stand_in.faults.played == [(vendor.paid.route, 2, "reset after the body is read")]


@every_vendor
async def test_a_request_is_held_before_the_headers(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, hang_before_headers())
        waiting = asyncio.create_task(vendor.post(client, stand_in))
        await stand_in.until(lambda: stand_in.hanging == 1)
        assert not waiting.done()
        assert stand_in.submits == 1
        waiting.cancel()
        await stand_in.until(lambda: stand_in.hanging == 0)


@every_vendor
async def test_a_client_that_gives_up_sees_a_time_out(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, hang_before_headers())
        client.timeout = httpx.Timeout(None, read=0.1)
        with pytest.raises(httpx.ReadTimeout):
            await vendor.post(client, stand_in)


@every_vendor
async def test_an_answer_stops_in_its_body(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, hang_mid_body())
        async with vendor.stream(client, stand_in, vendor.paid) as response:
            first = await anext(response.aiter_raw())
            await stand_in.until(lambda: stand_in.hanging == 1)
            assert response.status_code == 200
            assert 0 < len(first) < int(response.headers["Content-Length"])
        await stand_in.until(lambda: stand_in.hanging == 0)


@every_vendor
async def test_an_answer_is_reset_in_its_body(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, reset_mid_body())
        with pytest.raises(httpx.NetworkError):
            await vendor.post(client, stand_in)
        assert stand_in.submits == 1


@every_vendor
async def test_html_with_200(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, html())
        response = await vendor.post(client, stand_in)
        assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=UTF-8")
        assert response.text.startswith("<!DOCTYPE html>")
        assert jobs_of(stand_in) == 0


@every_vendor
async def test_right_answer_with_wrong_content_type(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, wrong_type())
        response = await vendor.post(client, stand_in)
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert isinstance(response.json(), dict)


@every_vendor
@pytest.mark.parametrize("status", [500, 502])
async def test_nginx_answers_without_the_vendors_id(vendor: Vendor, status: int, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, from_nginx(status))
        response = await vendor.post(client, stand_in)
        assert (response.status_code, response.headers["Server"]) == (status, "nginx")
        assert "<center>nginx</center>" in response.text
        own = (await vendor.post(client, stand_in)).headers
        assert not stand_in.id_header or (stand_in.id_header in own and stand_in.id_header not in response.headers)


@every_vendor
async def test_a_redirect_is_not_followed_to_the_trap(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, redirected())
        response = await vendor.post(client, stand_in)
        assert response.status_code == 302
        assert response.headers["Location"].startswith("http://127.0.0.2:")
        assert stand_in.arrived("trap") == []
        assert (await client.get(response.headers["Location"])).json() == {"secret": "of the internal network"}
        assert [one.path for one in stand_in.arrived("trap")] == ["/latest/meta-data"]


@every_vendor
async def test_503_and_then_success(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, refused(Trouble.UNAVAILABLE))
        response = [await vendor.post(client, stand_in) for _ in range(2)]
        assert [one.status_code for one in response] == [503, 200]
        assert all(not stand_in.id_header or stand_in.id_header in one.headers for one in response)
        assert not isinstance(stand_in, JobStandIn) or len(stand_in.made) == 1


PACES: list[tuple[Fault, str, str]] = [
    (rate_limited(2), "Retry-After", "2"),
    (rate_limited(3600), "Retry-After", "3600"),
    (rate_limited(1.5, RetryAfter.MILLISECONDS), "retry-after-ms", "1500"),
    (rate_limited(form=RetryAfter.NONE), "", ""),
]


@pytest.mark.parametrize("vendor", with_money(), ids=str)
@pytest.mark.parametrize(("fault", "header", "value"), PACES, ids=[str(fault) for fault, _, _ in PACES])
async def test_429_says_when_to_come_again(
    vendor: Vendor, fault: Fault, header: str, value: str, client: httpx.AsyncClient
) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, fault)
        response = await vendor.post(client, stand_in)
        assert response.status_code == 429
        said = {name: one for name, one in response.headers.items() if name.startswith("retry-after")}
        assert said == ({header.lower(): value} if header else {})
        assert jobs_of(stand_in) == 0


@pytest.mark.parametrize("vendor", with_money(), ids=str)
async def test_429_says_it_as_a_date(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.paid.route, rate_limited(3600, RetryAfter.DATE))
        said = parsedate_to_datetime((await vendor.post(client, stand_in)).headers["Retry-After"])
        assert 0 < (said - datetime.now(UTC)).total_seconds() <= 3600


@pytest.mark.parametrize("vendor", with_money(), ids=str)
async def test_an_account_without_money_is_told_so_in_the_vendors_words(
    vendor: Vendor, client: httpx.AsyncClient
) -> None:
    async with vendor.make() as stand_in:
        stand_in.faults.always(vendor.paid.route, refused(Trouble.NO_MONEY))
        for _ in range(2):
            response = await vendor.post(client, stand_in)
            assert response.status_code == vendor.poor[0]
            assert vendor.poor[1] in json.dumps(response.json())
        stand_in.faults.clear()
        assert (await vendor.post(client, stand_in)).status_code == 200


@every_stream
async def test_a_stream_that_began_with_200_ends_in_an_error(vendor: Vendor, client: httpx.AsyncClient) -> None:
    assert vendor.streamed is not None
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.streamed.route, broken_stream(after=2))
        response = await vendor.post(client, stand_in, vendor.streamed)
        assert response.status_code == 200
        told = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
        said = [json.loads(line) for line in told if line.startswith("{")]
        assert ["error" in one for one in said] == [False, False, True]


@every_stream
async def test_a_stream_stops_after_its_first_part(vendor: Vendor, client: httpx.AsyncClient) -> None:
    assert vendor.streamed is not None
    async with vendor.make() as stand_in:
        stand_in.faults.on(vendor.streamed.route, hang_mid_body())
        async with vendor.stream(client, stand_in, vendor.streamed) as response:
            assert await anext(response.aiter_raw())
            await stand_in.until(lambda: stand_in.hanging == 1)
            assert response.status_code == 200


async def test_anthropics_overload_in_a_stream_is_that_of_529(client: httpx.AsyncClient) -> None:
    [vendor] = [one for one in VENDORS if one.name == "anthropic"]
    assert vendor.streamed is not None
    async with vendor.make() as stand_in:
        stand_in.faults.on("messages", broken_stream(after=4), refused(Trouble.OVERLOADED))
        streamed = await vendor.post(client, stand_in, vendor.streamed)
        *_, event, data = [line for line in streamed.text.splitlines() if line]
        plain = await vendor.post(client, stand_in)
        assert (streamed.status_code, plain.status_code) == (200, 529)
        assert event == "event: error"
        assert json.loads(data.removeprefix("data: "))["error"] == plain.json()["error"]
