"""Sorts what a request may fail of into five kinds, and decides whether and when it is sent again.

NEVER_DELIVERED   nobody heard it: refused, no such host, no connection. Sent again.
PACED             the server asks to come back later, and has done nothing. Sent again when it says.
COLLECTABLE       it may have been carried out, and its outcome is kept: sending it again collects it.
UNKNOWN           it may have been carried out, and sending it again might do it twice. Not sent again.
OTHER             it would fail again.
"""

import random
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from time import monotonic, time

import httpx

__all__ = [
    "NO_ROUTE",
    "Failure",
    "Patience",
    "RetryPolicy",
    "failure_of_error",
    "failure_of_status",
    "seconds_asked_for",
]

_NEVER_DELIVERED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_AMBIGUOUS = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError)
_PACED_STATUSES = frozenset({408, 429})
_PACED_CODES = frozenset({"OVERLOADED", "STORAGE_ERROR"})
"""Codes of a 503 that say that nothing was accepted. Of UNAVAILABLE the outcome may be unknown."""
_AMBIGUOUS_STATUSES = frozenset({500, 502, 503, 504})
NO_ROUTE = "NO_ROUTE"
"""The code that this client gives a 404 that is not of the API."""


class Failure(StrEnum):
    """A kind of failure; see the module."""

    NEVER_DELIVERED = "NEVER_DELIVERED"
    PACED = "PACED"
    COLLECTABLE = "COLLECTABLE"
    UNKNOWN = "UNKNOWN"
    OTHER = "OTHER"


def failure_of_error(error: Exception, *, repeatable: bool) -> Failure:
    """The kind of a request that got no answer. `repeatable`: doing it twice is as good as once, or it has a key.

    Example:
        failure_of_error(httpx.ConnectError("refused"), repeatable=False)  # Failure.NEVER_DELIVERED
    """
    if isinstance(error, _NEVER_DELIVERED):
        return Failure.OTHER if _distrusts(error) else Failure.NEVER_DELIVERED
    if isinstance(error, _AMBIGUOUS):
        return Failure.COLLECTABLE if repeatable else Failure.UNKNOWN
    return Failure.OTHER


def failure_of_status(status: int, code: str, *, repeatable: bool) -> Failure:
    """The kind of a request that was answered with this status, which is no success.

    Example:
        failure_of_status(503, "OVERLOADED", repeatable=False)  # Failure.PACED
    """
    if status in _PACED_STATUSES or (status == httpx.codes.SERVICE_UNAVAILABLE and code in _PACED_CODES):
        return Failure.PACED
    if status in _AMBIGUOUS_STATUSES or code == NO_ROUTE:
        return Failure.COLLECTABLE if repeatable else Failure.UNKNOWN
    return Failure.OTHER


def seconds_asked_for(header: str | None) -> float | None:
    """What `Retry-After` says, in seconds or as a date; None if it says nothing that can be understood.

    Example:
        seconds_asked_for("7")  # 7.0
    """
    if header is None:
        return None
    if header.isascii() and header.isdecimal():
        return float(header[:9])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _distrusts(error: BaseException) -> bool:
    """Whether a certificate was refused, which it would be again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is sent, and how long the pauses are.

    The pause before try n is random between 0 and `first_pause` x 2^(n-1), at most `longest_pause`. What the server
    asks for with `Retry-After` comes on top; more than `most_patience` of it is not waited for.

    Attributes:
        tries: How often a request is sent at most; 1 never repeats. Streams and downloads go on after a lost
            connection whatever it is: what bounds them is the `timeout` of the client.
    """

    tries: int = 8
    first_pause: float = 0.25
    longest_pause: float = 8.0
    most_patience: float = 60.0

    def pause(self, failure: Failure, tried: int, asked: float | None, left: float) -> float | None:
        """Seconds until the next try; None if there is to be none.

        Args:
            tried: How often it was sent already.
            asked: What the server asked for.
            left: Seconds until the deadline of the whole call.
        """
        if failure in (Failure.UNKNOWN, Failure.OTHER) or tried >= self.tries:
            return None
        if asked is not None and asked > self.most_patience:
            return None
        seconds = self.backoff(tried, asked)
        return seconds if seconds < left else None

    def backoff(self, tried: int, asked: float | None = None) -> float:
        """Seconds of a pause after so many tries in a row."""
        spread = min(self.longest_pause, self.first_pause * 2 ** min(tried - 1, 16))
        return (asked or 0.0) + random.uniform(0.0, spread)  # noqa: S311 - spreads load, keeps no secret


@dataclass(slots=True)
class Patience:
    """How long a server that is away is waited for, in what goes on across connections.

    It is counted from the first failure on, not from the last byte: nobody listens while a caller is busy with what
    came before.

    Attributes:
        seconds: From the first failure to the last.
        tried: Failures since there was any progress.
        since: When the first of them was noticed; None without one.
    """

    seconds: float
    tried: int = 0
    since: float | None = None

    def renew(self) -> None:
        """Note progress."""
        self.tried, self.since = 0, None

    def fails(self, retry: RetryPolicy, asked: float | None) -> float | None:
        """Note a failure, and return the seconds until the next connection; None if there is to be none.

        The first connection after progress is made at once, unless the server asked for a pause.
        """
        now = monotonic()
        self.since = now if self.since is None else self.since
        self.tried += 1
        seconds = asked or 0.0 if self.tried == 1 else retry.backoff(self.tried - 1, asked)
        return seconds if now + seconds - self.since <= self.seconds else None
