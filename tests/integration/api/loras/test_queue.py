"""LoRA files are taken in within bounds: of disk, and of a short queue for conversion."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from compute.settings import Settings
from tests.integration.api.conftest import KEY
from tests.integration.api.loras.lora_bytes import checkpoint, lora
from tests.patience import PATIENCE


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"lora_conversions_waiting": 0, "lora_max_bytes": 100_000, "lora_uploads_bytes": 400_000}
    )


async def upload(api: httpx.AsyncClient, data: bytes, name: str) -> httpx.Response:
    return await api.post("/lora/upload", files={"file": (name, data)}, data={"entity_type": "styles"})


async def test_a_full_queue_tells_when_to_come_back(api: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(upload(api, checkpoint(float(one)), f"{one}.pt") for one in range(4)))
    assert {answer.status_code for answer in answers} == {201, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["code"] == "OVERLOADED"
            assert int(answer.headers["retry-after"]) > 0
    # Nothing of those that were refused is in the way afterwards.
    assert (await upload(api, checkpoint(9.0), "later.pt")).status_code == 201


async def test_uploads_share_what_disk_there_is(api: httpx.AsyncClient, base_url: str) -> None:
    host = base_url.removeprefix("http://")
    head = (
        f"POST /api/v1/lora/upload HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n"
    )
    stalled = [await asyncio.open_connection(*host.split(":")) for _ in range(2)]
    for _, writer in stalled:
        writer.write(head.encode())
        await writer.drain()
    async with asyncio.timeout(PATIENCE):
        while (answer := await upload(api, lora(), "look.safetensors")).status_code == 201:
            await asyncio.sleep(0.02)
    assert (answer.status_code, answer.json()["code"]) == (503, "OVERLOADED")
    for _, writer in stalled:
        writer.close()
    async with asyncio.timeout(PATIENCE):
        while (await upload(api, lora(), "look.safetensors")).status_code != 201:
            await asyncio.sleep(0.02)


async def test_who_goes_away_frees_its_place(
    api: httpx.AsyncClient, base_url: str, leftovers: Callable[[], list[Path]]
) -> None:
    host = base_url.removeprefix("http://")
    data = checkpoint()
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pt"\r\n\r\n' + data + b"\r\n--x--\r\n"
    head = (
        f"POST /api/v1/lora/upload HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(head.encode() + form)
    await writer.drain()
    async with asyncio.timeout(PATIENCE):
        while not leftovers():
            await asyncio.sleep(0.01)
        writer.close()
        while leftovers():
            await asyncio.sleep(0.01)
    assert (await upload(api, checkpoint(2.0), "b.pt")).status_code == 201


@pytest.fixture
def leftovers(settings: Settings) -> Callable[[], list[Path]]:
    return lambda: list((settings.cache_root / "uploads").glob("*/*"))
