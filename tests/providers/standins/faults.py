"""Faults of one request: what breaks on the wire, in the answer, or in a vendor's limits.

Each function makes a `Fault` for a stand-in's script: `fal.faults.on("submit", reset_after_body(), call=2)`. Faults of
a job's life are plans (`jobs.Plan`), those of webhooks are in `webhooks`, an expired address is `Files.lifetime`.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from email.utils import formatdate
from enum import Enum
from typing import Any

from tests.providers.standins.exchange import Reply, Reset, Trouble, answer
from tests.providers.standins.images import data_uri, from_base64
from tests.providers.standins.server import TRAP, Call, Fault, StandIn

__all__ = [
    "HUGE",
    "RetryAfter",
    "broken_stream",
    "from_nginx",
    "hang_before_headers",
    "hang_mid_body",
    "held",
    "html",
    "huge_picture",
    "rate_limited",
    "redirected",
    "refused",
    "reset_after_body",
    "reset_before_body",
    "reset_mid_body",
    "truncated_base64",
    "truncated_picture",
    "wrong_type",
]

HUGE = 300_000_000
"""Bytes of a huge picture."""
_ZEROS = bytes(1 << 20)
_PLACE = "@@here@@"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")


class RetryAfter(Enum):
    """How a 429 says when to come again."""

    SECONDS = "seconds"
    DATE = "HTTP date"
    MILLISECONDS = "retry-after-ms"
    NONE = "none"


def reset_before_body() -> Fault:
    """The vendor has seen the headers only, and does nothing."""

    async def play(call: Call) -> Reply:
        raise Reset

    return Fault("reset before the body is read", play)


def reset_after_body() -> Fault:
    """The vendor does its work, and charges for it; its answer is lost."""

    async def play(call: Call) -> Reply:
        await call.answer()
        raise Reset

    return Fault("reset after the body is read", play)


def hang_before_headers() -> Fault:
    """The vendor does its work and never answers. `StandIn.hanging` counts such requests."""

    async def play(call: Call) -> Reply:
        await call.answer()
        await call.stand_in.hang()
        raise Reset

    return Fault("hang before headers", play)


def held(gate: asyncio.Event, then: Fault | None = None) -> Fault:
    """The vendor has read the request, and answers once the gate is open; or `then` happens. `StandIn.hanging` counts
    such requests."""

    async def play(call: Call) -> Reply:
        await call.read()
        await call.stand_in.hold(gate)
        return await (call.answer() if then is None else then.play(call))

    return Fault("held", play)


def hang_mid_body() -> Fault:
    """Headers and half of the body, or the first part of a stream, and then nothing."""

    async def play(call: Call) -> Reply:
        return _stopping(await call.answer(), call.stand_in.hang)

    return Fault("hang in the body", play)


def reset_mid_body() -> Fault:
    """Headers and half of the body, or the first part of a stream, and then a reset."""

    async def stop() -> None:
        raise Reset

    async def play(call: Call) -> Reply:
        return _stopping(await call.answer(), stop)

    return Fault("reset in the body", play)


def _stopping(reply: Reply, stop: Callable[[], Any]) -> Reply:
    async def half() -> AsyncGenerator[bytes, None]:
        if isinstance(reply.body, bytes):
            yield reply.body[: len(reply.body) // 2]
        else:
            async with aclosing(reply.body) as parts:
                yield await anext(parts)
        await stop()

    return replace(reply, body=half(), length=len(reply.body) if isinstance(reply.body, bytes) else None)


def html(status: int = 200) -> Fault:
    """A page for people, as a proxy or a firewall in front of the vendor writes it. The vendor sees nothing."""
    page = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"

    async def play(call: Call) -> Reply:
        await call.read()
        return answer(page, status, "text/html; charset=UTF-8")

    return Fault(f"{status} with HTML", play)


def from_nginx(status: int = 502) -> Fault:
    """A proxy's own error, without the vendor's id header. The vendor sees nothing."""
    reason = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Temporarily Unavailable"}[status]
    head = f"<html>\r\n<head><title>{status} {reason}</title></head>\r\n"
    body = f"<body>\r\n<center><h1>{status} {reason}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n"
    page = f"{head}{body}</html>\r\n"

    async def play(call: Call) -> Reply:
        await call.read()
        return answer(page.encode(), status, "text/html", Server="nginx")

    return Fault(f"{status} by nginx", play)


def wrong_type(content_type: str = "text/plain; charset=utf-8") -> Fault:
    """The right bytes under another name."""

    async def play(call: Call) -> Reply:
        reply = await call.answer()
        return replace(reply, headers={**reply.headers, "Content-Type": content_type})

    return Fault("wrong content type", play)


def redirected(to: str = "", status: int = 302) -> Fault:
    """Led to another address: by default to the trap, which counts its visitors as `arrived("trap")`."""

    async def play(call: Call) -> Reply:
        await call.read()
        return Reply(status, b"", {"Location": to or call.stand_in.url(TRAP) + "/latest/meta-data"})

    return Fault("redirect to a private address", play)


def refused(trouble: Trouble, message: str = "") -> Fault:
    """The vendor refuses or fails in its own words, and does nothing else."""

    async def play(call: Call) -> Reply:
        await call.read()
        return call.stand_in.stamped(call.stand_in.error(trouble, message))

    return Fault(f"refused: {trouble}", play)


def rate_limited(seconds: float = 2, form: RetryAfter = RetryAfter.SECONDS) -> Fault:
    """A 429 in the vendor's words."""

    async def play(call: Call) -> Reply:
        await call.read()
        reply = call.stand_in.stamped(call.stand_in.error(Trouble.RATE_LIMIT))
        headers = {name: text for name, text in reply.headers.items() if not name.lower().startswith("retry-after")}
        return replace(reply, headers={**headers, **_retry_after(call.stand_in, seconds, form)})

    return Fault(f"429, retry after {seconds:g} as {form.value}", play)


def _retry_after(stand_in: StandIn, seconds: float, form: RetryAfter) -> dict[str, str]:
    match form:
        case RetryAfter.SECONDS:
            return {"Retry-After": f"{seconds:g}"}
        case RetryAfter.DATE:
            return {"Retry-After": formatdate(stand_in.clock.now() + seconds, usegmt=True)}
        case RetryAfter.MILLISECONDS:
            return {"retry-after-ms": f"{seconds * 1000:g}"}
        case RetryAfter.NONE:
            return {}


def broken_stream(after: int = 1) -> Fault:
    """A stream that ends in the vendor's error after so many parts, though it began with 200."""

    async def play(call: Call) -> Reply:
        reply = await call.answer()
        assert not isinstance(reply.body, bytes), f"{call.arrival.route} does not stream"
        parts = reply.body

        async def broken() -> AsyncGenerator[bytes, None]:
            async with aclosing(parts):
                for _ in range(after):
                    yield await anext(parts)
            yield call.stand_in.stream_error()

        return replace(reply, body=broken())

    return Fault("error in the middle of a stream", play)


def truncated_base64() -> Fault:
    """Base64 that ends in the middle of four characters."""
    return _changed_pictures("truncated base64", lambda text: text[: len(text) // 8 * 4 + 1])


def truncated_picture() -> Fault:
    """A picture that ends in the middle of its pixels, as a file or as sound base64. Its size can still be read."""

    def half(text: str) -> str:
        kept = _cut(from_base64(text))
        return data_uri(kept) if text.startswith("data:") else base64.b64encode(kept).decode()

    return _changed_pictures("truncated picture", half)


def _cut(picture: bytes) -> bytes:
    pixels = picture.index(b"IDAT" if picture.startswith(b"\x89PNG") else b"\xff\xda")
    return picture[: (pixels + len(picture)) // 2]


def _changed_pictures(name: str, change: Callable[[str], str]) -> Fault:
    async def play(call: Call) -> Reply:
        reply = await call.answer()
        assert isinstance(reply.body, bytes), f"{call.arrival.route} streams"
        if reply.body.startswith(_PICTURES):
            return replace(reply, body=_cut(reply.body))
        return replace(reply, body=json.dumps(_mapped(reply.data, change)).encode())

    return Fault(name, play)


def huge_picture(size: int = HUGE) -> Fault:
    """A picture of so many bytes, as a file or in base64. It is written piece by piece and never held in memory.

    It is a real picture, with zeros after its end.
    """

    async def play(call: Call) -> Reply:
        reply = await call.answer()
        assert isinstance(reply.body, bytes), f"{call.arrival.route} streams"
        if reply.body.startswith(_PICTURES):
            return replace(reply, body=_padded(reply.body, size, b""), length=size)
        before, picture, after = _around_picture(reply.data)
        filled = len(before) + len(picture) + size // 3 * 4
        return replace(reply, body=_padded(before + picture, filled, after), length=filled + len(after))

    return Fault(f"picture of {size} bytes", play)


def _around_picture(data: Any) -> tuple[bytes, bytes, bytes]:
    """JSON as written, parted at its first picture: before it, its base64 in whole groups of four, after it."""
    found: list[str] = []

    def marked(text: str) -> str:
        found.append(text)
        return _PLACE if len(found) == 1 else text

    before, after = json.dumps(_mapped(data, marked)).encode().split(_PLACE.encode())
    prefix, _, coded = found[0].rpartition(",")
    whole = coded.rstrip("=")
    return before, (f"{prefix}," if prefix else "").encode() + whole[: len(whole) // 4 * 4].encode(), after


async def _padded(start: bytes, size: int, end: bytes) -> AsyncGenerator[bytes, None]:
    """`start`, filled up to `size` with zeros, or with base64's "A" if there is an `end`."""
    filling = b"A" * len(_ZEROS) if end else _ZEROS
    yield start
    left = size - len(start)
    while left > 0:
        yield filling[: min(left, len(filling))]
        left -= len(filling)
    if end:
        yield end


def _mapped(data: Any, change: Callable[[str], str]) -> Any:
    """The same data with every picture in it changed."""
    if isinstance(data, dict):
        return {name: _mapped(one, change) for name, one in data.items()}
    if isinstance(data, list):
        return [_mapped(one, change) for one in data]
    return change(data) if isinstance(data, str) and _is_picture(data) else data


def _is_picture(text: str) -> bool:
    if text.startswith("data:image/"):
        return True
    try:
        return len(text) > 64 and base64.b64decode(text[:64], validate=True).startswith(_PICTURES)
    except binascii.Error:
        return False
