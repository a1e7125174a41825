"""A download across several connections: what is there, what is missing, and when to give up."""

from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import httpx

from compute.client.common.calls import Call
from compute.client.common.config import Config
from compute.client.common.disk import PartFile
from compute.client.common.failures import Failure
from compute.client.errors import APIError, ClientError, IntegrityError, WaitTimeout

__all__ = ["Transfer", "source_of"]

_PART = 206


@dataclass(slots=True)
class Transfer:
    """The state of one download.

    Attributes:
        began: When it began; with `timeout` the deadline.
        tag: The version of the file that was begun with. Another one is begun anew.
        total: Its size; None while unknown.
        pause: Seconds until the next connection.
    """

    part: PartFile
    config: Config
    timeout: float | None
    began: float
    tag: str | None = None
    total: int | None = None
    tried: int = 0
    heard: float = 0.0
    pause: float = 0.0

    def __post_init__(self) -> None:
        self.heard = self.began

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            WaitTimeout: it has passed.
        """
        if self.timeout is None:
            return self.config.silence
        left = self.began + self.timeout - monotonic()
        if left <= 0:
            raise WaitTimeout("the file has not arrived in time")
        return left

    def asking(self, call: Call) -> Call:
        """The request for what is missing."""
        headers = [("Accept-Encoding", "identity")]
        if self.part.size and self.tag:
            headers += [("Range", f"bytes={self.part.size}-"), ("If-Range", self.tag)]
        elif self.part.size:
            self.part.restart()
        return replace(call, headers=tuple(headers))

    def begins(self, answer: httpx.Response) -> None:
        """Note what an answer says of the file. One that begins at the start begins anew."""
        length = answer.headers.get("content-length", "")
        if answer.status_code != _PART:
            self.part.restart()
        elif not answer.headers.get("content-range", "").startswith(f"bytes {self.part.size}-"):
            raise IntegrityError("the server sends another part of the file than it was asked for")
        tag = answer.headers.get("etag")
        self.tag = None if tag is None or tag.startswith("W/") else tag
        self.total = self.part.size + int(length) if length.isdecimal() else None

    def receives(self, chunk: bytes) -> None:
        """Take some bytes."""
        self.part.write(chunk)
        self.heard, self.tried = monotonic(), 0
        self.left()

    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return self.total is None or self.part.size >= self.total

    def failed(self, error: ClientError, failure: Failure) -> bool:
        """Note a failure that may pass, and return that the file is not complete.

        Raises:
            ClientError: it would not pass, or the server is away for too long.
        """
        if failure is Failure.OTHER:
            raise error
        self.tried += 1
        asked = error.retry_after if isinstance(error, APIError) else None
        self.pause = self.config.retry.backoff(self.tried, asked)
        if monotonic() + self.pause - self.heard > self.config.timeout:
            raise error
        return False


def source_of(source: Any, server: str) -> tuple[str, httpx.URL | None]:
    """Where a file is: a path below the API, or an address.

    Example:
        source_of("refs/dress.png", "http://127.0.0.1:8000")  # ("/storage/images/refs/dress.png", None)
    """
    from compute.client.common.calls import segment

    text = str(getattr(source, "path", source))
    if text.startswith(("http://", "https://")):
        return "", httpx.URL(text)
    if text.startswith("/"):
        # A link of a server that was given no public address of its own.
        return "", httpx.URL(server).join(text)
    return "/".join(["/storage/images", *(segment(part) for part in text.split("/"))]), None
