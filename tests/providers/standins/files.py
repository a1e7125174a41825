"""A vendor's file host, and how a vendor reads the images that it is given."""

import hashlib
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from tests.providers.standins.exchange import Arrival, Reply, Route, answer
from tests.providers.standins.images import from_base64
from tests.providers.standins.server import StandIn

__all__ = ["Files", "Unreadable"]


class Unreadable(Exception):
    """An image that the vendor was given cannot be had, or is none."""


@dataclass(frozen=True)
class _File:
    data: bytes
    content_type: str
    made_at: float


class Files:
    """Files at `/files/{name}` of a host of a stand-in, for whoever knows the address.

    Args:
        signed: the address carries a token, and is refused without it.
    """

    def __init__(self, stand_in: StandIn, host: str, *, signed: bool = False) -> None:
        self.lifetime: float | None = None
        """Seconds of the stand-in's clock after which an address answers 404; None: never."""
        self._stand_in = stand_in
        self._host = host
        self._signed = signed
        self._files: dict[str, _File] = {}

    def route(self) -> Route:
        """`file`."""
        return Route("file", "GET", "/files/{name}", self._read, self._host, open=True)

    def keep(self, data: bytes, content_type: str = "") -> str:
        """Store a file; its address."""
        guessed = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
        name = f"{uuid4().hex}.{(content_type or guessed).partition('/')[2]}"
        self._files[name] = _File(data, content_type or guessed, self._stand_in.clock.now())
        token = f"?token={_token(name)}" if self._signed else ""
        return f"{self._stand_in.url(self._host)}/files/{name}{token}"

    def replace(self, name: str, data: bytes) -> None:
        """Give a file other bytes."""
        self._files[name] = replace(self._files[name], data=data)

    async def _read(self, arrival: Arrival) -> Reply:
        name = arrival.parts["name"]
        found = self._files.get(name)
        if self._signed and arrival.query.get("token") != _token(name):
            return answer(b"Forbidden", 403, "text/plain")
        if found is None or self._expired(found):
            return answer(b"Not Found", 404, "text/plain")
        return answer(found.data, 200, found.content_type)

    def _expired(self, found: _File) -> bool:
        return self.lifetime is not None and self._stand_in.clock.now() - found.made_at >= self.lifetime

    async def fetched(self, address: str) -> bytes:
        """The image behind a data URI, plain base64, an address of this host, or another one on loopback.

        Raises:
            Unreadable: it cannot be read.
        """
        if not address.startswith("http"):
            try:
                return from_base64(address)
            except ValueError as error:
                raise Unreadable("neither an address nor base64") from error
        parts = urlsplit(address)
        own = urlsplit(self._stand_in.url(self._host))
        if parts.netloc == own.netloc:
            found = self._files.get(parts.path.rpartition("/")[2])
            if found is None or self._expired(found):
                raise Unreadable("404")
            return found.data
        return await _downloaded(address)


async def _downloaded(address: str) -> bytes:
    if not (urlsplit(address).hostname or "").startswith("127."):
        raise Unreadable("a stand-in reads nothing beyond loopback")
    try:
        async with aiohttp.ClientSession() as session, session.get(address) as found:
            found.raise_for_status()
            return await found.read()
    except aiohttp.ClientError as error:
        raise Unreadable(str(error)) from error


def _token(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
