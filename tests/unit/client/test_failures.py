"""Failures of requests: what sort they are, whether they are sent again, and after how long."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from compute.client import Failure, RetryPolicy
from compute.client.common.failures import failure_of_error, failure_of_status, seconds_asked_for
from tests.patience import PATIENCE

NEVER, PACED, COLLECTABLE, UNKNOWN, OTHER = Failure


def distrusted() -> httpx.ConnectError:
    error = httpx.ConnectError("certificate verify failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    return error


@pytest.mark.parametrize(
    ("error", "with_key", "without"),
    [
        (httpx.ConnectError("refused"), NEVER, NEVER),
        (httpx.ConnectTimeout("slow"), NEVER, NEVER),
        (httpx.PoolTimeout("busy"), NEVER, NEVER),
        (httpx.ReadError("reset"), COLLECTABLE, UNKNOWN),
        (httpx.WriteError("reset"), COLLECTABLE, UNKNOWN),
        (httpx.RemoteProtocolError("closed"), COLLECTABLE, UNKNOWN),
        (httpx.ReadTimeout("silent"), COLLECTABLE, UNKNOWN),
        (httpx.UnsupportedProtocol("ftp"), OTHER, OTHER),
        (distrusted(), OTHER, OTHER),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
def test_errors_are_sorted(error: Exception, with_key: Failure, without: Failure) -> None:
    assert failure_of_error(error, repeatable=True) is with_key
    assert failure_of_error(error, repeatable=False) is without


@pytest.mark.parametrize(
    ("status", "code", "with_key", "without"),
    [
        (429, "RATE_LIMITED", PACED, PACED),
        (408, "TOO_SLOW", PACED, PACED),
        (503, "OVERLOADED", PACED, PACED),
        (503, "STORAGE_ERROR", PACED, PACED),
        (503, "UNAVAILABLE", COLLECTABLE, UNKNOWN),
        (500, "INTERNAL", COLLECTABLE, UNKNOWN),
        (502, "HTTP_502", COLLECTABLE, UNKNOWN),
        (504, "HTTP_504", COLLECTABLE, UNKNOWN),
        (404, "NOT_FOUND", OTHER, OTHER),
        (409, "CONFLICT", OTHER, OTHER),
        (422, "INVALID_INPUT", OTHER, OTHER),
        (501, "HTTP_501", OTHER, OTHER),
    ],
)
def test_answers_are_sorted(status: int, code: str, with_key: Failure, without: Failure) -> None:
    assert failure_of_status(status, code, repeatable=True) is with_key
    assert failure_of_status(status, code, repeatable=False) is without


def test_pauses_grow_are_spread_and_bounded() -> None:
    policy = RetryPolicy(tries=5, first_pause=1.0, longest_pause=4.0)
    for tried, most in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 4.0)):
        found = [policy.pause(COLLECTABLE, tried, None, 100.0) for _ in range(200)]
        assert all(pause is not None and 0 <= pause <= most for pause in found)
        assert max(pause or 0.0 for pause in found) > most / 2
    assert policy.pause(COLLECTABLE, 5, None, 100.0) is None
    assert policy.backoff(10_000) <= 4.0


def test_what_the_server_asks_for_is_waited_for_unless_it_is_too_much() -> None:
    policy = RetryPolicy(first_pause=1.0, most_patience=60.0)
    assert 7.0 <= (policy.pause(PACED, 1, 7.0, 100.0) or 0.0) <= 8.0
    assert policy.pause(PACED, 1, 61.0, 1000.0) is None
    assert policy.pause(PACED, 1, 7.0, 6.0) is None


def test_what_may_be_done_already_or_would_fail_again_is_not_sent_again() -> None:
    assert RetryPolicy().pause(UNKNOWN, 1, None, 100.0) is None
    assert RetryPolicy().pause(OTHER, 1, None, 100.0) is None


def test_the_server_asks_in_seconds_or_by_a_date() -> None:
    assert seconds_asked_for("12") == 12.0
    date = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    day = timedelta(days=1).total_seconds()
    assert day - PATIENCE < (seconds_asked_for(date) or 0.0) <= day
    assert seconds_asked_for(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0.0
    for odd in (None, "", "soon", "-5", "1.5", "٣", "9" * 400):
        found = seconds_asked_for(odd)
        assert found is None or found >= 0
