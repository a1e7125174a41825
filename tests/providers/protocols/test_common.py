"""The common part of the stand-ins: counting, the script of faults, errors of their own, pictures."""

import asyncio

import httpx
import pytest

from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import from_nginx, html, refused
from tests.providers.standins.images import draw, fingerprint, read_fingerprint, size_of
from tests.providers.standins.ollama import Ollama
from tests.providers.standins.server import Script
from tests.providers.vendors import VENDORS, Vendor

FAL = VENDORS[0]


async def test_submits_are_counted_by_path_and_by_body(fal: Fal, client: httpx.AsyncClient) -> None:
    for app, prompt in [
        ("fal-ai/flux/dev", "a"),
        ("fal-ai/flux/dev", "a"),
        ("fal-ai/flux/dev", "b"),
        ("fal-ai/other", "a"),
    ]:
        await client.post(f"{fal.url()}/{app}", json={"prompt": prompt}, headers=FAL.headers)
    await FAL.poll(client, fal, fal.made[0])
    assert fal.submits == 4
    assert fal.submits_by_path() == {"/fal-ai/flux/dev": 3, "/fal-ai/other": 1}
    assert fal.submits_by_body() == {b'{"prompt":"a"}': 3, b'{"prompt":"b"}': 1}
    assert (len(fal.arrived("submit")), len(fal.arrived("status"))) == (4, 1)


async def test_an_arrival_is_what_was_sent(fal: Fal, client: httpx.AsyncClient) -> None:
    headers = {**FAL.headers, "X-Fal-No-Retry": "1"}
    await client.post(fal.url() + "/fal-ai/flux?fal_webhook=http://a/b", json={"seed": 1}, headers=headers)
    [arrival] = fal.arrivals
    assert (arrival.method, arrival.path, arrival.number, arrival.paid) == ("POST", "/fal-ai/flux", 1, True)
    assert (arrival.query["fal_webhook"], arrival.headers["x-fal-no-retry"]) == ("http://a/b", "1")
    assert arrival.json == {"seed": 1}


def test_faults_are_taken_in_their_order() -> None:
    script = Script()
    page, proxy, poor = html(), from_nginx(), refused(Trouble.NO_MONEY)
    script.on("submit", page, proxy)
    script.on("submit", poor, call=5)
    script.on("status", page)
    assert [script.take("submit")[1] for _ in range(6)] == [page, proxy, None, None, poor, None]
    script.on("submit", page)
    script.always("submit", poor)
    assert [script.take("submit") for _ in range(3)] == [(7, page), (8, poor), (9, poor)]
    script.clear()
    assert (script.take("submit"), script.take("status")) == ((10, None), (1, None))
    assert script.played[:2] == [("submit", 1, "200 with HTML"), ("submit", 2, "502 by nginx")]


async def test_a_call_takes_as_long_as_the_test_says(ollama: Ollama, client: httpx.AsyncClient) -> None:
    [vendor] = [one for one in VENDORS if one.make is Ollama]
    ollama.seconds = 0.05
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert (await vendor.post(client, ollama)).status_code == 200
    assert loop.time() - begun >= 0.05


async def test_an_error_in_a_handler_is_raised_to_its_test(client: httpx.AsyncClient) -> None:
    async def run() -> None:
        async with Fal() as fal:
            response = await client.post(fal.url("run") + "/fal-ai/flux", json={"image_size": {}}, headers=FAL.headers)
            assert response.status_code == 500

    with pytest.raises(KeyError, match="width"):
        await run()


@pytest.mark.parametrize("vendor", VENDORS, ids=str)
async def test_an_address_that_the_vendor_doesnt_have_is_404(vendor: Vendor, client: httpx.AsyncClient) -> None:
    async with vendor.make() as stand_in:
        assert (await client.get(stand_in.url() + "/nothing/here", headers=vendor.headers)).status_code in (404, 405)
        assert stand_in.arrivals == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(128, 128), (341, 512), (1024, 160)])
def test_a_picture_shows_its_fingerprint(kind: str, size: tuple[int, int]) -> None:
    shown = fingerprint("a red coat", 7, [b"one", b"two"])
    picture = draw(shown, size, kind)
    assert read_fingerprint(picture) == shown
    assert size_of(picture) == size


def test_fingerprints_differ_by_all_that_they_are_of() -> None:
    told = [
        ("a", 1, [b"1", b"2"]),
        ("b", 1, [b"1", b"2"]),
        ("a", 2, [b"1", b"2"]),
        ("a", 1, [b"2", b"1"]),
        ("a", 1, []),
    ]
    assert len({fingerprint(*one) for one in told}) == len(told)
