"""LoRA files in both stores."""
# ruff: noqa: ASYNC240 (a test may wait for the disk)

import asyncio
import hashlib
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Message

from compute.api.bodies.multipart import received
from compute.errors import Conflict, InvalidInput, NotFound, StorageFailed
from compute.lora.check import check_lora
from compute.lora.library import LoraFiles, SavedLora
from compute.settings import Settings
from compute.storage.base import ObjectStore
from tests.integration.api.loras.lora_bytes import lora


@pytest.fixture
def loras(store: ObjectStore) -> LoraFiles:
    return LoraFiles(store, Settings(lora_max_bytes=1_000_000, lora_convert_seconds=60))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(lora())
    return path


async def save(loras: LoraFiles, file: Path, value: float, *, number_duplicates: bool = True) -> SavedLora:
    file = file.with_name(f"upload-{value}")
    file.write_bytes(lora(value))
    checked = await loras.check(file, "look.safetensors")
    return await loras.save(checked, "styles", number_duplicates=number_duplicates)


async def test_a_file_is_stored_once_and_others_of_its_name_beside_it(
    store: ObjectStore, loras: LoraFiles, file: Path
) -> None:
    saved = [await save(loras, file, value) for value in (1, 2, 1)]
    assert [(one.path, one.created) for one in saved] == [
        ("loras/styles/look.safetensors", True),
        ("loras/styles/look_v2.safetensors", True),
        ("loras/styles/look.safetensors", False),
    ]
    content = await store.get(saved[0].path)
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (saved[0].sha256, saved[0].size)
    assert (await check_lora(store, saved[1].path, None, field="lora")).rank == 2
    with pytest.raises(Conflict):
        await save(loras, file, 3, number_duplicates=False)
    assert len(await loras.list(None, 10)) == len(await loras.list("styles", 10)) == 2
    assert await loras.list("faces", 10) == []


async def test_what_is_no_lora_is_not_stored(store: ObjectStore, loras: LoraFiles, file: Path) -> None:
    file.write_bytes(b"x" * 100)
    with pytest.raises(InvalidInput):
        await loras.check(file, "look.safetensors")
    assert await store.list("", 10) == []


async def test_deleting_moves_to_the_bin_and_back_is_one_move(store: ObjectStore, loras: LoraFiles, file: Path) -> None:
    saved = await save(loras, file, 1)
    deleted = await loras.delete("styles/look.safetensors")
    assert (deleted.path, await loras.list(None, 10)) == (saved.path, [])
    assert await store.get(deleted.bin_path) == lora(1)
    with pytest.raises(NotFound):
        await loras.delete("styles/look.safetensors")
    for path in ("../styles/look.safetensors", "/x", "", f"../{deleted.bin_path}"):
        with pytest.raises(InvalidInput):
            await loras.delete(path)
    assert await store.move(deleted.bin_path, deleted.path)
    assert (await save(loras, file, 1)).created is False


async def test_the_bin_keeps_every_file_of_a_name(store: ObjectStore, loras: LoraFiles, file: Path) -> None:
    bins = []
    for value in (1, 2):
        await save(loras, file, value)
        bins.append((await loras.delete("styles/look.safetensors")).bin_path)
    assert [await store.get(one) for one in bins] == [lora(1), lora(2)]


async def test_one_deletion_of_many_at_once_moves_the_file(store: ObjectStore, loras: LoraFiles, file: Path) -> None:
    await save(loras, file, 1)
    answers = await asyncio.gather(*(loras.delete("styles/look.safetensors") for _ in range(4)), return_exceptions=True)
    moved = [one for one in answers if not isinstance(one, BaseException)]
    assert moved
    assert all(isinstance(one, NotFound) for one in answers if isinstance(one, BaseException))
    assert len(moved) == 1 or type(store).__name__ == "S3Store"
    assert await loras.list(None, 10) == []
    assert [await store.get(one.bin_path) for one in moved] == [lora(1)] * len(moved)


async def test_a_full_disk_of_the_ingress_is_reported_and_left_empty(small_disk: Path) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pt"\r\n\r\n'

    async def receive() -> Message:
        return {"type": "http.request", "body": head + bytes(500_000), "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}, receive)
    with pytest.raises(StorageFailed, match="disk is full"):
        async with received(request, small_disk, 1_000_000):
            raise AssertionError("it cannot have been written")
    assert list(small_disk.iterdir()) == []
