"""The times at which a webhook is tried again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.webhooks.retry import (
    AttemptOutcome,
    Backoff,
    DeliveryStatus,
    Limits,
    ReceiverHealth,
    decide,
    parse_retry_after,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXACT = Backoff(first=10, factor=3, longest=1000, jitter=0)
TEN = Limits(max_attempts=10, max_age=1e9)


def outcome(status: int | None, retry_after: float | None = None) -> AttemptOutcome:
    return AttemptOutcome(NOW, 5, status, None if status == 200 else "failed", retry_after)


def test_ten_attempts_take_about_a_day() -> None:
    exact = Backoff(jitter=0)
    hours = sum(exact.delay(attempt) for attempt in range(1, 10)) / 3600
    assert 22 < hours < 26
    assert exact.delay(1) <= 10


def test_pauses_grow_up_to_the_longest() -> None:
    assert [EXACT.delay(attempt) for attempt in (1, 2, 3, 4, 5, 6, 1000)] == [10, 30, 90, 270, 810, 1000, 1000]


def test_pauses_are_spread() -> None:
    pauses = [Backoff(first=100, jitter=0.2).delay(1) for _ in range(200)]
    assert all(80 <= pause <= 120 for pause in pauses)
    assert max(pauses) - min(pauses) > 10


@pytest.mark.parametrize(("asked", "pause"), [(None, 10), (3, 10), (500, 500), (1e9, 1000), (float("inf"), 1000)])
def test_a_receiver_may_ask_for_more_time_within_bounds(asked: float | None, pause: float) -> None:
    assert EXACT.delay(1, asked or 0) == pause


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_a_delivery(status: int) -> None:
    assert decide(outcome(status), 1, TEN, EXACT).status is DeliveryStatus.DELIVERED


@pytest.mark.parametrize("status", [None, 301, 400, 401, 404, 408, 429, 500, 503])
def test_everything_else_is_tried_again(status: int | None) -> None:
    verdict = decide(outcome(status), 2, TEN, EXACT)
    assert (verdict.status, verdict.delay) == (DeliveryStatus.PENDING, 30)


def test_gone_is_final_at_once() -> None:
    assert decide(outcome(410), 1, TEN, EXACT).status is DeliveryStatus.FAILED


@pytest.mark.parametrize(("attempts", "status"), [(9, DeliveryStatus.PENDING), (10, DeliveryStatus.FAILED)])
def test_the_last_attempt_is_the_last(attempts: int, status: DeliveryStatus) -> None:
    assert decide(outcome(500), attempts, TEN, EXACT).status is status


def test_a_success_on_the_last_attempt_counts() -> None:
    assert decide(outcome(200), 10, TEN, EXACT).status is DeliveryStatus.DELIVERED


@pytest.mark.parametrize(("age", "status"), [(70, DeliveryStatus.PENDING), (71, DeliveryStatus.FAILED)])
def test_what_would_be_too_old_by_then_is_given_up(age: float, status: DeliveryStatus) -> None:
    assert decide(outcome(500), 2, Limits(max_attempts=10, max_age=100), EXACT, age=age).status is status


def test_ten_attempts_end_before_the_age_does() -> None:
    assert sum(Backoff(jitter=0).delay(attempt) for attempt in range(1, 10)) * 1.2 < Limits().max_age


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (None, ReceiverHealth.UNWELL),
        (200, ReceiverHealth.WELL),
        (302, ReceiverHealth.REFUSING),
        (401, ReceiverHealth.REFUSING),
        (404, ReceiverHealth.REFUSING),
        (410, ReceiverHealth.REFUSING),
        (429, ReceiverHealth.UNWELL),
        (500, ReceiverHealth.UNWELL),
        (503, ReceiverHealth.UNWELL),
    ],
)
def test_what_an_answer_says_about_the_receiver(status: int | None, health: ReceiverHealth) -> None:
    assert outcome(status).health is health


def test_a_success_that_takes_its_time_earns_nothing() -> None:
    assert [AttemptOutcome(NOW, 2001, status).health for status in (200, 404)] == [ReceiverHealth.SLOW] * 2


@pytest.mark.parametrize(("status", "pause"), [(429, 300), (503, 300), (500, 10), (404, 10)])
def test_only_a_busy_receiver_may_ask_for_time(status: int, pause: float) -> None:
    assert decide(outcome(status, retry_after=300), 1, TEN, EXACT).delay == pause


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 7 ", 7),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


DATE_LIKE = st.from_regex(r"\A(Mon, )?[0-9]{1,25} (Jan|Feb) [0-9]{1,25} [0-9]{1,12}:[0-9]{1,3}( [+-][0-9]{1,12})?\Z")


@given(st.one_of(st.text(), DATE_LIKE, st.integers().map(str)))
def test_no_header_breaks_the_sender(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or 10 <= EXACT.delay(1, seconds or 0) <= 1000
