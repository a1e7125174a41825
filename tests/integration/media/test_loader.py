"""Images from everywhere users may put them: URLs of a real server, data: URLs, base64, uploads."""

import base64
import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import numpy as np
import pytest
from aiohttp import web
from PIL import ExifTags, Image

from compute.errors import InvalidInput, TooLarge
from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.settings import Settings

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


def photo(mode: str = "RGB") -> Image.Image:
    across = np.linspace(0, 255, 40)[None, :].repeat(30, 0)
    return Image.fromarray(np.stack([across, across[:, ::-1], across / 3], axis=-1).astype(np.uint8)).convert(mode)


def as_file(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def reopen(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


PNG = as_file(photo(), "PNG")


@pytest.fixture
def site() -> dict[str, web.Response]:
    """What the server answers, by path."""
    return {}


@pytest.fixture
async def host(serve: Serve, site: dict[str, web.Response]) -> str:
    async def answer(request: web.Request) -> web.StreamResponse:
        return site.get(request.path) or web.Response(status=404)

    return await serve(answer)


@pytest.fixture
async def loader(host: str, tmp_path: Path) -> AsyncIterator[MediaLoader]:
    settings = Settings(home=tmp_path, media_allowed_hosts=(host,), media_max_bytes=50_000, media_max_pixels=10_000)
    async with GuardedClient(settings.media_allowed_hosts, settings.media_timeout_seconds) as client:
        yield MediaLoader(settings, client)


async def test_a_url(loader: MediaLoader, host: str, site: dict[str, web.Response]) -> None:
    site["/a"] = web.Response(body=PNG, content_type="text/html")
    media = await loader.load(f" http://{host}/a\n", field="image_url")
    assert (media.width, media.height, media.content_type) == (40, 30, "image/png")
    assert media.sha256 == hashlib.sha256(media.data).hexdigest()
    assert reopen(media.data).tobytes() == photo().tobytes()


@pytest.mark.parametrize(
    "source",
    [
        base64.b64encode(PNG).decode(),
        base64.encodebytes(PNG).decode(),
        base64.b64encode(PNG).decode().rstrip("="),
        base64.urlsafe_b64encode(PNG).decode(),
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "DATA:;BASE64," + base64.b64encode(PNG).decode(),
        "data:image/jpeg," + quote_from_bytes(PNG),
        "data:image/png;base64," + quote(base64.b64encode(PNG).decode(), safe=""),
        "data:image/png;base64," + quote(base64.encodebytes(PNG).decode(), safe=""),
        "data:image/png;charset=utf-8;name=a.png;base64," + base64.b64encode(PNG).decode(),
        "data:image/png ; Base64 ," + base64.b64encode(PNG).decode(),
        "data:image/png%3Bbase64," + base64.b64encode(PNG).decode(),
        "data:;base64,\r\n " + base64.encodebytes(PNG).decode(),
        "data:base64," + quote_from_bytes(PNG),
        "data:," + quote_from_bytes(PNG) + "#fragment",
        "data:image/png;base64," + base64.urlsafe_b64encode(PNG).decode().rstrip("=") + "#",
    ],
)
async def test_inline_images(loader: MediaLoader, source: str) -> None:
    media = await loader.load(source, field="image")
    assert reopen(media.data).tobytes() == photo().tobytes()


@pytest.mark.parametrize(
    "source",
    [
        "",
        "   ",
        "====",
        "a",
        "not base64!",
        "ünïcode",
        "data:image/png;base64",
        "data:,",
        "data:;base64,%%%%",
        "aGVsbG8=",
    ],
)
async def test_inline_nonsense_is_refused(loader: MediaLoader, source: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await loader.load(source, field="reference_image")
    assert caught.value.field == "reference_image"


@pytest.mark.parametrize("source", ["ftp://example.com/a.png", "file:///etc/passwd", "s3://bucket/key"])
async def test_other_schemes_are_refused(loader: MediaLoader, source: str) -> None:
    with pytest.raises(InvalidInput, match="http"):
        await loader.load(source, field="image")


async def test_a_private_host_is_refused(loader: MediaLoader, host: str) -> None:
    port = int(host.rpartition(":")[2])
    with pytest.raises(InvalidInput, match="public"):
        await loader.load(f"http://localhost:{port}/a", field="image")


async def test_what_the_server_calls_it_does_not_matter(
    loader: MediaLoader, host: str, site: dict[str, web.Response]
) -> None:
    site["/a.png"] = web.Response(text="<html>hello</html>", content_type="image/png")
    with pytest.raises(InvalidInput, match="Not an image"):
        await loader.load(f"http://{host}/a.png", field="image")
    with pytest.raises(InvalidInput, match="404"):
        await loader.load(f"http://{host}/none.png", field="image")


async def test_limits(loader: MediaLoader, host: str, site: dict[str, web.Response]) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    heavy = as_file(Image.fromarray(noise), "BMP")
    assert len(heavy) > 50_000
    site["/heavy"] = web.Response(body=heavy)
    with pytest.raises(InvalidInput, match="larger than 50000"):
        await loader.load(f"http://{host}/heavy", field="image")
    for oversized in (base64.b64encode(heavy).decode(), "data:," + quote_from_bytes(heavy)):
        with pytest.raises(TooLarge):
            await loader.load(oversized, field="image")
    with pytest.raises(TooLarge):
        await loader.normalise(heavy, field="file")
    with pytest.raises(InvalidInput, match="10000 pixels"):
        await loader.normalise(as_file(Image.new("RGB", (101, 100)), "PNG"), field="file")
    assert (await loader.normalise(as_file(Image.new("RGB", (100, 100)), "PNG"), field="file")).width == 100


@pytest.mark.parametrize(
    ("image_format", "kept"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("MPO", "image/jpeg"), ("GIF", "image/png")],
)
async def test_an_upload_may_keep_its_format(loader: MediaLoader, image_format: str, kept: str) -> None:
    data = as_file(photo(), image_format)
    media = await loader.normalise(data, field="file", keep_format=True)
    assert media.content_type == kept
    assert f"image/{str(reopen(media.data).format).lower()}" == kept
    assert media == await loader.normalise(data, field="file", keep_format=True)
    assert (await loader.normalise(data, field="file")).content_type == "image/png"


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
async def test_metadata_is_stripped_and_orientation_applied(loader: MediaLoader, image_format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "somebody private"
    data = as_file(photo(), image_format, exif=exif) + b"private trailer"
    media = await loader.normalise(data, field="file", keep_format=True)
    assert (media.width, media.height) == (30, 40)
    assert b"private" not in media.data
    assert dict(reopen(media.data).getexif()) == {}


async def test_alpha_is_kept(loader: MediaLoader) -> None:
    image = photo("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    media = await loader.normalise(as_file(image, "PNG"), field="file")
    assert reopen(media.data).tobytes() == image.tobytes()
