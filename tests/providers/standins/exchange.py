"""A request as it arrived, an answer before it is written, and the routes between them."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

__all__ = ["Arrival", "Reply", "Reset", "Route", "Trouble", "answer"]


class Trouble(StrEnum):
    """Reasons for which a vendor refuses or fails. Each vendor has its own words for them."""

    BAD_REQUEST = "bad request"
    UNAUTHORIZED = "unauthorized"
    NO_MONEY = "no money"
    NOT_FOUND = "not found"
    POLICY = "content policy"
    RATE_LIMIT = "rate limit"
    SERVER = "server"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed out"
    OVERLOADED = "overloaded"


class Reset(Exception):
    """The connection is to be reset here, whatever was written before."""


@dataclass(frozen=True)
class Reply:
    """An answer before it is written, for a fault to change."""

    status: int = 200
    body: bytes | AsyncGenerator[bytes, None] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """The declared length of a streamed body; None: chunks."""

    @property
    def data(self) -> Any:
        """The JSON of an answer that is not streamed."""
        assert isinstance(self.body, bytes)
        return json.loads(self.body)

    def having(self, **headers: str) -> "Reply":
        """The same with more headers; underscores stand for hyphens."""
        return replace(
            self, headers={**self.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
        )


def answer(data: Any, status: int = 200, content_type: str = "application/json", **headers: str) -> Reply:
    """A JSON answer, or bytes or a stream of another type. Underscores in the names of headers stand for hyphens."""
    body = json.dumps(data).encode() if content_type == "application/json" else data
    return Reply(status, body, {"Content-Type": content_type}).having(**headers)


@dataclass(eq=False)
class Arrival:
    """One request as it arrived."""

    route: str
    number: int
    """Which one of its route, from 1 on."""
    host: str
    method: str
    path: str
    parts: Mapping[str, str]
    """The variables of the route's path."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names are looked up without regard to case."""
    paid: bool
    body: bytes | None = None
    """None: it was never read."""

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body or b"")
        except ValueError:
            return None


@dataclass(frozen=True)
class Route:
    """Requests of one method for one path, a pattern of aiohttp, at one host, and who answers them."""

    name: str
    method: str
    path: str
    handler: Callable[[Arrival], Awaitable[Reply]]
    host: str = "api"
    paid: bool = False
    """Each request that is read and not refused costs money."""
    open: bool = False
    """No credentials are asked for."""
