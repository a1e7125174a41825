"""A download across several connections: what is there, what is missing, and when to give up."""

from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import httpx

from compute.client.common.calls import Call, segment
from compute.client.common.config import Config, is_sendable
from compute.client.common.disk import PartFile
from compute.client.common.failures import Failure, Patience
from compute.client.errors import (
    APIError,
    ArgumentError,
    ClientError,
    IntegrityError,
    NoAnswer,
    UnexpectedAnswer,
    WaitTimeout,
)

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
        furthest: The most bytes that there were. A connection that brings no more than that is no progress.
        sha256: What the file should be; None if nobody has said it.
    """

    part: PartFile
    config: Config
    timeout: float | None
    began: float
    tag: str | None = None
    total: int | None = None
    pause: float = 0.0
    furthest: int = 0
    sha256: str | None = None
    patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self.patience = Patience(self.config.timeout)

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
        """Note what an answer says of the file. One that begins at the start begins anew.

        Raises:
            UnexpectedAnswer: it is not the file as it is stored.
            IntegrityError: it is another part of the file, or nobody could tell whether it is complete.
        """
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnexpectedAnswer("the file comes packed, though it was asked for as it is", answer.status_code)
        if answer.headers.get("content-type", "").lower().startswith("text/html"):
            raise UnexpectedAnswer("a web page comes instead of the file", answer.status_code)
        length = answer.headers.get("content-length", "")
        if answer.status_code != _PART:
            self.part.restart()
        elif not answer.headers.get("content-range", "").startswith(f"bytes {self.part.size}-"):
            raise IntegrityError("the server sends another part of the file than it was asked for")
        tag = answer.headers.get("etag")
        self.tag = tag if tag is not None and is_sendable(tag) and not tag.startswith("W/") else None
        known = answer.headers.get("content-range", "").rpartition("/")[2] if answer.status_code == _PART else ""
        if known.isdecimal():
            self.total = int(known)
        else:
            self.total = self.part.size + int(length) if length.isdecimal() else None
        if self.total is None and self.sha256 is None and "chunked" not in answer.headers.get("transfer-encoding", ""):
            raise IntegrityError("the server does not say how long the file is: nobody can tell whether it is complete")

    def receives(self, chunk: bytes) -> None:
        """Take some bytes."""
        self.part.write(chunk)
        if self.part.size > self.furthest:
            self.furthest = self.part.size
            self.patience.renew()
        self.left()

    def ends(self) -> bool:
        """Note that an answer has come to its end; whether nothing is missing.

        Raises:
            ClientError: nothing new has come for too long.
        """
        if self.total is None or self.part.size >= self.total:
            return True
        failure = Failure.COLLECTABLE
        return self.failed(NoAnswer(f"{self.config.url} sends only a part of the file", failure=failure), failure)

    def failed(self, error: ClientError, failure: Failure) -> bool:
        """Note a failure that may pass, and return that the file is not complete.

        Raises:
            ClientError: it would not pass, or the server is away for too long.
        """
        if failure is Failure.OTHER:
            raise error
        pause = self.patience.fails(self.config.retry, error.retry_after if isinstance(error, APIError) else None)
        if pause is None:
            raise error
        self.pause = pause
        return False


def source_of(source: Any, server: str) -> tuple[str, httpx.URL | None]:
    """Where a file is: a path below the API, or an address.

    Raises:
        ArgumentError: it is neither.

    Example:
        source_of("refs/dress.png", "http://127.0.0.1:8000")  # ("/storage/images/refs/dress.png", None)
    """
    text = str(getattr(source, "path", source))
    if text.startswith(("http://", "https://", "/")):
        try:
            # A server that was given no public address of its own makes links without one.
            return "", httpx.URL(server).join(text)
        except httpx.InvalidURL as error:
            raise ArgumentError(f"the link of the file is no address: {error}") from error
    return "/".join(["/storage/images", *(segment(part) for part in text.split("/"))]), None
