"""Inputs that many tasks name at once: taken in beside each other, and each source once."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.requests.inputs import RequestInputs
from compute.requests.serving import ServedModel
from compute.settings import Settings
from compute.storage.base import ObjectStore, StoredObject
from compute.storage.links.signed import LinkSigner
from compute.storage.local import LocalStore
from compute.storage.together import AT_ONCE, for_each
from tests.patience import PATIENCE

MODEL = ServedModel("painter")


class FarStore(LocalStore):
    """Reads when as many do as may: whoever reads in turn waits for ever."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._reading = asyncio.Barrier(AT_ONCE)

    async def read(self, path: str, start: int, length: int) -> bytes:
        await self._reading.wait()
        return await super().read(path, start, length)


class CountingStore(LocalStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read_paths: list[str] = []
        self.written: list[str] = []

    async def read(self, path: str, start: int, length: int) -> bytes:
        self.read_paths.append(path)
        return await super().read(path, start, length)

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        self.written.append(path)
        return await super().put(path, data, content_type)


@dataclass
class Held:
    settings: Settings
    objects: ObjectStore
    media: MediaLoader
    link_signer: LinkSigner = field(default=LinkSigner("/files/", (b"s" * 32,)))


@pytest.fixture
async def client() -> AsyncIterator[GuardedClient]:
    async with GuardedClient((), 1.0) as opened:
        yield opened


def png(width: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 16), "red").save(file, "PNG")
    return file.getvalue()


def held(client: GuardedClient, store: ObjectStore) -> Held:
    settings = Settings()
    return Held(settings, store, MediaLoader(settings, client))


async def test_stored_images_of_many_tasks_are_looked_at_together(client: GuardedClient, tmp_path: Path) -> None:
    store = FarStore(tmp_path)
    paths = [f"images/{index}.png" for index in range(AT_ONCE)]
    for index, path in enumerate(paths):
        await store.put(path, png(16 + index), "image/png")
    inputs = RequestInputs(held(client, store), MODEL)
    async with asyncio.timeout(PATIENCE):
        taken = await for_each(paths, lambda path: inputs.image(path, field="base_image"))
    assert [image.width for image in taken] == [16 + index for index in range(AT_ONCE)]


async def test_a_source_that_many_name_at_once_is_taken_in_once(client: GuardedClient, tmp_path: Path) -> None:
    store = CountingStore(tmp_path)
    await store.put("images/a.png", png(16), "image/png")
    inputs = RequestInputs(held(client, store), MODEL)
    taken = await for_each(["images/a.png"] * AT_ONCE, lambda path: inputs.image(path, field="base_image"))
    assert [image.path for image in taken] == ["images/a.png"] * AT_ONCE
    assert store.read_paths == ["images/a.png"]


async def test_new_images_are_stored_only_when_they_are_kept(client: GuardedClient, tmp_path: Path) -> None:
    store = CountingStore(tmp_path)
    inputs = RequestInputs(held(client, store), MODEL)
    sources = [base64.b64encode(png(16 + index)).decode() for index in range(AT_ONCE)]
    taken = await for_each(sources, lambda source: inputs.image(source, field="base_image"))
    assert store.written == []
    await inputs.keep()
    assert sorted(store.written) == sorted(image.path for image in taken)
