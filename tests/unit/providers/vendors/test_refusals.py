"""Refusals of vendors: the time to come again, their words, and the next step."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.providers.calls.http import HttpResponse
from compute.providers.vendors.refusals import (
    LONGEST_PAUSE_SECONDS,
    USUAL_PAUSE_SECONDS,
    category_of,
    not_its_own,
    parsed,
    refusal,
    retry_after,
    retry_info,
    sentence,
)
from compute.schemas.enums import ErrorCategory

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "86400"}, LONGEST_PAUSE_SECONDS),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "60"}, 1.5),
    ],
)
def test_pause_that_headers_ask_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        (None, None),
        ("13s", None),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13s"}], 13.0),
        ([{"@type": "x"}, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.25s"}], 0.25),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "later"}], None),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "99999s"}], LONGEST_PAUSE_SECONDS),
    ],
)
def test_pause_that_details_of_googles_ask_for(details: Any, seconds: float | None) -> None:
    assert retry_info(details) == seconds


def test_a_sentence_has_the_words_and_the_id_and_no_secret() -> None:
    told = sentence("fal", "Key  k-123 is\nlocked.", "req_1", secrets=("k-123", ""))
    assert told == "fal: Key *** is locked. (request req_1)"
    assert len(sentence("fal", "x" * 5000, None)) < 1000


@pytest.mark.parametrize(
    ("status", "category", "hopeless"),
    [
        (400, ErrorCategory.INVALID_INPUT, False),
        (413, ErrorCategory.INVALID_INPUT, False),
        (422, ErrorCategory.INVALID_INPUT, False),
        (401, ErrorCategory.PROVIDER_ERROR, True),
        (402, ErrorCategory.PROVIDER_ERROR, True),
        (403, ErrorCategory.PROVIDER_ERROR, True),
        (404, ErrorCategory.PROVIDER_ERROR, True),
        (408, ErrorCategory.PROVIDER_TIMEOUT, False),
        (504, ErrorCategory.PROVIDER_TIMEOUT, False),
        (500, ErrorCategory.PROVIDER_ERROR, False),
        (599, ErrorCategory.PROVIDER_ERROR, False),
    ],
)
def test_what_a_status_means(status: int, category: ErrorCategory, hopeless: bool) -> None:
    error = refusal("fal", "no", status=status, request_id=None)
    assert (error.category, error.hopeless, error.charged, error.seconds) == (category, hopeless, True, 0.0)
    assert category_of(status) is category


def test_a_crowded_account_waits_and_an_empty_one_does_not() -> None:
    crowded = refusal("fashn", "slow down", status=429, request_id=None)
    empty = refusal("fashn", "no credits", status=429, request_id=None, poor=True)
    assert (crowded.charged, crowded.seconds, crowded.hopeless) == (False, USUAL_PAUSE_SECONDS, False)
    assert (empty.charged, empty.seconds, empty.hopeless) == (True, 0.0, True)


def test_an_answer_that_is_not_the_vendors_own_tells_its_status() -> None:
    response = HttpResponse(502, {"x-request-id": "abc"}, b"<html>")
    assert parsed(response) is None
    assert str(not_its_own("fal", response)) == "The answer of fal (502, request abc) is not in its usual form."


@pytest.mark.parametrize(
    "said",
    [
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Fri, 31 Dec 0001 00:00:00 +2359",
        "Fri, 31 Dec 2026 23:59:59 +99999999",
        "Fri, 31 Dec 2026 99:99:99 GMT",
        "Fri, 31 Dec " + "9" * 5000 + " 23:59:59 GMT",
        "9" * 5000,
        "1e999",
        "-1e999",
        "-1",
        "inf",
        "-inf",
        "nan",
        "\udcff",
        "\x00",
        "٣",
        ", , ,",
        "Fri",
    ],
)
def test_a_hostile_time_is_bounded_or_none(said: str) -> None:
    for headers in ({"retry-after": said}, {"retry-after-ms": said}, {"retry-after-ms": "x", "retry-after": said}):
        seconds = retry_after(headers, NOW)
        assert seconds is None or 0 <= seconds <= LONGEST_PAUSE_SECONDS


@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,30} (Jan|Dec|Foo) -?\d{1,30} \d{1,30}:\d+:\d+ ([+-]\d{1,12}|GMT|)")
    | st.floats().map(str)
)
def test_no_time_is_an_error(said: str) -> None:
    for headers in ({"retry-after": said}, {"retry-after-ms": said}):
        seconds = retry_after(headers, NOW)
        assert seconds is None or 0 <= seconds <= LONGEST_PAUSE_SECONDS
    info = retry_info([{"@type": "x.RetryInfo", "retryDelay": said}])
    assert info is None or 0 <= info <= LONGEST_PAUSE_SECONDS
