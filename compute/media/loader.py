"""Loads and re-encodes images sent or named by users; all of them pass through here."""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from PIL import Image

from compute.errors import InvalidInput, TooLarge
from compute.imaging.flatten import on_white
from compute.imaging.resize import within
from compute.media.base64_text import MAX_ESCAPES, decoded, unescaped
from compute.media.codec import CONTENT_TYPES, RIGHTS, ImageFormat, encode
from compute.media.decoding import Decoding
from compute.media.images import DecodedImage, decode_image
from compute.outbound.client import GuardedClient
from compute.settings import Settings

__all__ = ["Media", "MediaLoader", "open_image"]

_KEPT_FORMATS: dict[str, ImageFormat] = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCHEME_CHARACTERS = 32
_HEADER_CHARACTERS = 64
_MOST_WAITING = 256
_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Media:
    """A re-encoded image. Sizes in pixels; `sha256` (hex) is of `data`."""

    data: bytes
    width: int
    height: int
    sha256: str
    content_type: str


class MediaLoader:
    """Loads images within the limits of the settings. Use it within one event loop.

    Example:
        loader = MediaLoader(settings, client)
        media = await loader.load("https://example.com/dress.jpg", field="base_image_url")
        media.data  # a PNG, upright, in sRGB, without metadata
    """

    def __init__(self, settings: Settings, client: GuardedClient) -> None:
        """Fetch through `client`, which the caller closes."""
        self._max_bytes = settings.media_max_bytes
        self._max_pixels = settings.media_max_pixels
        self._keep_rights = settings.metadata_policy == "keep-rights"
        self._client = client
        self._decoding = Decoding(
            settings.media_decode_bytes,
            max_pixels=settings.media_max_pixels,
            busy="Too many images are being decoded at the moment; try again later.",
            waiting=_MOST_WAITING,
            seconds=_WAIT_SECONDS,
        )

    async def load(self, source: str, *, field: str, side: int | None = None) -> Media:
        """Load an image from an http(s) URL, a `data:` URL or bare base64, as a PNG; with `side` as `normalise` does.

        Raises:
            InvalidInput: it cannot be fetched, or is not an image in an accepted format.
            TooLarge: the text contains more than `media_max_bytes`.
        """
        text = source.strip()
        if text[:5].lower() == "data:":
            return await self.normalise(
                await asyncio.to_thread(self._from_data_url, text, field), field=field, side=side
            )
        if text[:7].lower() == "http://" or text[:8].lower() == "https://":
            fetched = await self._client.fetch(text, max_bytes=self._max_bytes, field=field)
            return await self.normalise(fetched.body, field=field, side=side)
        if _SCHEME.match(text[:_SCHEME_CHARACTERS]):
            raise InvalidInput("Use an http:// or https:// URL.", field=field)
        return await self.normalise(await asyncio.to_thread(self._from_base64, text, field), field=field, side=side)

    async def normalise(self, data: bytes, *, field: str, keep_format: bool = False, side: int | None = None) -> Media:
        """Re-encode an uploaded file as a PNG; with `keep_format`, JPEG and WEBP keep their format. With `side` it
        becomes a JPEG without a side of more pixels than that, to be looked at.

        The result is upright, in sRGB, keeps its alpha (as far as its format can) and contains no metadata except, if
        the settings say `keep-rights`, its author and owner. The same bytes always give the same result.

        Raises:
            InvalidInput: not an image in an accepted format, too many pixels, or damaged.
            TooLarge: more than `media_max_bytes`.
            Overloaded: many or large images take all the memory for decoding.
        """
        if len(data) > self._max_bytes:
            raise TooLarge(f"An image has at most {self._max_bytes} bytes.", field=field)
        work = partial(
            _normalise, data, self._max_pixels, field, keep_format=keep_format, keep_rights=self._keep_rights, side=side
        )
        return await self._decoding.run(work, data, field=field)

    def _from_data_url(self, text: str, field: str) -> bytes:
        # A fragment (#) is not part of the data; a # of the data is percent-encoded.
        header, comma, payload = text.partition("#")[0].partition(",")
        if not comma:
            raise InvalidInput("A data: URL has a comma before its data.", field=field)
        if not _says_base64(header):
            return self._unescaped(payload, field)
        # RFC 2397: the base64, too, may be percent-encoded.
        return self._from_base64(
            self._unescaped(payload, field).decode("latin-1") if "%" in payload else payload, field
        )

    def _unescaped(self, text: str, field: str) -> bytes:
        try:
            return unescaped(text)
        except ValueError as error:
            raise TooLarge(
                f"A data: URL has at most {MAX_ESCAPES} percent-encoded characters; use base64.", field=field
            ) from error

    def _from_base64(self, text: str, field: str) -> bytes:
        if len(text) // 4 * 3 > self._max_bytes + 3:
            raise TooLarge(f"An image has at most {self._max_bytes} bytes.", field=field)
        try:
            data = decoded(text)
        except ValueError as error:
            raise InvalidInput("Neither an http(s) URL, nor a data: URL, nor base64.", field=field) from error
        if not data:
            raise InvalidInput("The image is empty.", field=field)
        return data


def _says_base64(header: str) -> bool:
    """Whether a data URL ends in `;base64` before its comma, with spaces around or escaped as the rest may be."""
    ending = unquote(header[-_HEADER_CHARACTERS:]).rstrip().lower()
    return ending.endswith("base64") and ending.removesuffix("base64").rstrip().endswith(";")


def open_image(data: bytes, *, max_pixels: int, field: str = "image") -> Image.Image:
    """Decode stored bytes to an upright sRGB image in mode L, RGB or RGBA. Takes CPU time: call it in a thread.

    The rights that were kept when it was stored are in its `info`, so that copies keep them, too.

    Raises:
        InvalidInput: damaged, too large, or not an image.
    """
    return _with_rights(decode_image(data, max_pixels=max_pixels, field=field))


def _with_rights(decoded: DecodedImage) -> Image.Image:
    if decoded.rights is not None:
        decoded.image.info[RIGHTS] = decoded.rights
    return decoded.image


def _normalise(
    data: bytes, max_pixels: int, field: str, *, keep_format: bool, keep_rights: bool, side: int | None
) -> Media:
    decoded = decode_image(data, max_pixels=max_pixels, field=field)
    if side is not None:
        small = within(on_white(decoded.image), side)
        return _media(encode(small, "jpeg"), small.size, "jpeg")
    if keep_rights:
        _with_rights(decoded)
    image_format = _KEPT_FORMATS.get(decoded.format, "png") if keep_format else "png"
    return _media(encode(decoded.image, image_format), decoded.image.size, image_format)


def _media(data: bytes, size: tuple[int, int], image_format: ImageFormat) -> Media:
    return Media(data, *size, hashlib.sha256(data).hexdigest(), CONTENT_TYPES[image_format])
