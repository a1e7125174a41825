"""Faults of pictures, with every vendor that makes some: as files, and as base64 in an answer."""

import base64
import binascii
import json
import resource
from typing import Any

import httpx
import pytest

from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.faults import (
    HUGE,
    html,
    huge_picture,
    redirected,
    truncated_base64,
    truncated_picture,
    wrong_type,
)
from tests.providers.standins.images import from_base64, read_fingerprint
from tests.providers.standins.jobs import JobStandIn
from tests.providers.standins.magnific import Magnific
from tests.providers.standins.server import Fault, StandIn
from tests.providers.vendors import VENDORS, Vendor

with_files = pytest.mark.parametrize("vendor", [one for one in VENDORS if one.has_files], ids=str)
with_base64 = pytest.mark.parametrize("vendor", [one for one in VENDORS if one.picture], ids=str)


def texts(data: Any) -> list[str]:
    """Every text in some JSON."""
    if isinstance(data, str):
        return [data]
    found = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [text for one in found for text in texts(one)]


def picture_text(response: httpx.Response) -> str:
    """The base64 of the picture in an answer, the longest text in it."""
    return max(texts(response.json()), key=len)


async def file_with(client: httpx.AsyncClient, vendor: Vendor, stand_in: StandIn, fault: Fault) -> httpx.Response:
    assert isinstance(stand_in, JobStandIn)
    address = await vendor.file(client, stand_in)
    stand_in.faults.on("file", fault)
    return await client.get(address)


@with_files
async def test_a_whole_file_shows_what_was_asked(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        first, second = [(await client.get(await vendor.file(client, stand_in))).content for _ in range(2)]
        assert read_fingerprint(first) == read_fingerprint(second)


@with_files
async def test_truncated_file(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        response = await file_with(client, vendor, stand_in, truncated_picture())
        assert response.status_code == 200
        assert int(response.headers["Content-Length"]) == len(response.content)
        with pytest.raises(OSError, match="truncated"):
            read_fingerprint(response.content)


@with_files
async def test_html_instead_of_a_file(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        response = await file_with(client, vendor, stand_in, html())
        assert response.status_code == 200
        with pytest.raises(OSError, match="cannot identify"):
            read_fingerprint(response.content)


@with_files
async def test_file_with_wrong_content_type(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        response = await file_with(client, vendor, stand_in, wrong_type("application/octet-stream"))
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert read_fingerprint(response.content)


@with_files
async def test_file_redirects_to_a_private_address(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        response = await file_with(client, vendor, stand_in, redirected())
        assert (response.status_code, response.headers["Location"][:17]) == (302, "http://127.0.0.2:")
        assert stand_in.arrived("trap") == []


@with_files
async def test_a_files_address_expires(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, Fal | Fashn | Magnific)
        stand_in.files.lifetime = 600
        address = await vendor.file(client, stand_in)
        stand_in.clock.advance(500)
        assert (await client.get(address)).status_code == 200
        stand_in.clock.advance(100)
        assert (await client.get(address)).status_code == 404


@with_files
async def test_file_of_300_megabytes(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert isinstance(stand_in, JobStandIn)
        address = await vendor.file(client, stand_in)
        stand_in.faults.on("file", huge_picture())
        async with client.stream("GET", address) as response:
            start = await anext(response.aiter_bytes(1 << 20))
            assert int(response.headers["Content-Length"]) == HUGE
            assert read_fingerprint(start)


async def test_300_megabytes_are_never_held(fal: Fal, client: httpx.AsyncClient) -> None:
    address = await VENDORS[0].file(client, fal)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fal.faults.on("file", huge_picture())
    read = 0
    async with client.stream("GET", address) as response:
        async for part in response.aiter_raw():
            read += len(part)
    assert read == HUGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@with_base64
async def test_truncated_base64(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert vendor.picture is not None
        stand_in.faults.on(vendor.picture.route, truncated_base64(), truncated_picture())
        broken = await vendor.post(client, stand_in, vendor.picture)
        halved = await vendor.post(client, stand_in, vendor.picture)
        with pytest.raises(binascii.Error):
            from_base64(picture_text(broken))
        with pytest.raises(OSError, match="truncated"):
            read_fingerprint(from_base64(picture_text(halved)))
        whole = await vendor.post(client, stand_in, vendor.picture)
        assert read_fingerprint(from_base64(picture_text(whole)))


@with_base64
async def test_base64_of_300_megabytes(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert vendor.picture is not None
        stand_in.faults.on(vendor.picture.route, huge_picture())
        async with vendor.stream(client, stand_in, vendor.picture) as response:
            start = await anext(response.aiter_bytes(1 << 20))
            assert int(response.headers["Content-Length"]) > HUGE * 4 // 3
            assert start.endswith(b"AAAA")


@with_base64
async def test_what_is_filled_up_is_still_json_and_a_picture(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert vendor.picture is not None
        stand_in.faults.on(vendor.picture.route, huge_picture(3_000_000))
        response = await vendor.post(client, stand_in, vendor.picture)
        assert len(response.content) == int(response.headers["Content-Length"])
        picture = base64.b64decode(picture_text(response).rpartition(",")[2], validate=True)
        assert len(picture) > 3_000_000
        assert read_fingerprint(picture)
        assert (
            json.loads(response.content).keys() == (await vendor.post(client, stand_in, vendor.picture)).json().keys()
        )
