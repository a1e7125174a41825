"""Limits of one receiver, and the pauses in which it is left alone."""

import random

import pytest

from compute.webhooks.receivers import Breaker, Exchange, Receivers, ReceiverState
from compute.webhooks.retry import ReceiverHealth

EXACT = Breaker(failures=3, first=10, factor=2, longest=60, jitter=0)


def receivers(most: int = 8) -> Receivers:
    return Receivers(most, EXACT, random.Random(1))


def exchange(
    known: Receivers, receiver: str, health: ReceiverHealth | None, now: float = 0.0, asked: float = 0.0
) -> None:
    known.finished(known.started(receiver, now), health, now, asked)


def fall(known: Receivers, receiver: str, now: float = 0.0) -> None:
    for _ in range(EXACT.failures):
        exchange(known, receiver, ReceiverHealth.UNWELL, now)


def test_an_unknown_receiver_has_room_for_one() -> None:
    known = receivers()
    assert known.capacity("a", 0) == 1
    begun = known.started("a", 0)
    assert known.capacity("a", 0) == 0
    known.finished(begun, ReceiverHealth.SLOW, 0)
    assert (known.capacity("a", 0), known.standing("a", 0)) == (1, ReceiverState.UNKNOWN)


def test_prompt_successes_earn_room_up_to_the_most() -> None:
    known = receivers(most=6)
    earned = []
    for _ in range(4):
        exchange(known, "a", ReceiverHealth.WELL)
        earned.append(known.capacity("a", 0))
    assert earned == [2, 4, 6, 6]
    assert known.standing("a", 0) is ReceiverState.HEALTHY


def test_what_is_in_flight_takes_room() -> None:
    known = receivers()
    exchange(known, "a", ReceiverHealth.WELL)
    exchange(known, "a", ReceiverHealth.WELL)
    for capacity in (3, 2, 1, 0):
        known.started("a", 0)
        assert known.capacity("a", 0) == capacity


@pytest.mark.parametrize("health", [ReceiverHealth.SLOW, ReceiverHealth.UNWELL])
def test_one_bad_answer_loses_what_was_earned(health: ReceiverHealth) -> None:
    known = receivers()
    exchange(known, "a", ReceiverHealth.WELL)
    exchange(known, "a", ReceiverHealth.WELL)
    known.started("a", 0)
    exchange(known, "a", health)
    assert (known.capacity("a", 0), known.standing("a", 0)) == (0, ReceiverState.UNKNOWN)


def test_refusing_a_message_changes_nothing() -> None:
    known = receivers()
    exchange(known, "a", ReceiverHealth.WELL)
    exchange(known, "a", ReceiverHealth.WELL)
    exchange(known, "a", ReceiverHealth.REFUSING)
    assert (known.capacity("a", 0), known.standing("a", 0)) == (4, ReceiverState.HEALTHY)
    exchange(known, "b", ReceiverHealth.REFUSING)
    assert (known.capacity("b", 0), known.standing("b", 0)) == (1, ReceiverState.UNKNOWN)


def test_receivers_do_not_share_room() -> None:
    known = receivers()
    known.started("dead", 0)
    exchange(known, "alive", ReceiverHealth.WELL)
    assert (known.capacity("dead", 0), known.capacity("alive", 0)) == (0, 2)


def test_failures_in_a_row_leave_it_alone() -> None:
    known = receivers()
    exchange(known, "a", ReceiverHealth.UNWELL)
    exchange(known, "a", ReceiverHealth.UNWELL)
    assert known.capacity("a", 0) == 1
    exchange(known, "a", ReceiverHealth.UNWELL)
    assert (known.capacity("a", 9.9), known.standing("a", 9.9)) == (0, ReceiverState.OPEN)
    assert (known.capacity("a", 10), known.standing("a", 10)) == (1, ReceiverState.HALF_OPEN)


@pytest.mark.parametrize("health", [ReceiverHealth.WELL, ReceiverHealth.SLOW, ReceiverHealth.REFUSING])
def test_an_answer_in_between_begins_the_count_anew(health: ReceiverHealth) -> None:
    known = receivers()
    for _ in range(5):
        exchange(known, "a", ReceiverHealth.UNWELL)
        exchange(known, "a", ReceiverHealth.UNWELL)
        exchange(known, "a", health)
    assert known.capacity("a", 0) > 0


def test_it_is_probed_with_one_request_and_the_pauses_grow() -> None:
    known = receivers()
    fall(known, "a")
    now, pauses = 10.0, []
    for _ in range(4):
        probe = known.started("a", now)
        assert known.capacity("a", now) == 0
        known.finished(probe, ReceiverHealth.UNWELL, now)
        pauses.append(next(wait for wait in range(1, 100) if known.capacity("a", now + wait)))
        now += pauses[-1]
    assert pauses == [20, 40, 60, 60]


@pytest.mark.parametrize(
    ("health", "capacity"), [(ReceiverHealth.WELL, 2), (ReceiverHealth.SLOW, 1), (ReceiverHealth.REFUSING, 1)]
)
def test_an_answer_brings_it_back(health: ReceiverHealth, capacity: int) -> None:
    known = receivers()
    fall(known, "a")
    exchange(known, "a", health, now=10)
    assert known.capacity("a", 10) == capacity
    # And the next time begins with the first pause.
    fall(known, "a", now=10)
    assert (known.capacity("a", 19), known.capacity("a", 20)) == (0, 1)


def test_requests_that_fail_together_count_as_one_fall() -> None:
    known = receivers()
    for _ in range(4):
        exchange(known, "a", ReceiverHealth.WELL)
    together = [known.started("a", 0) for _ in range(8)]
    for one in together:
        known.finished(one, ReceiverHealth.UNWELL, 1)
    assert (known.capacity("a", 10.9), known.capacity("a", 11)) == (0, 1)


def test_a_success_that_was_on_its_way_brings_it_back_at_once() -> None:
    known = receivers()
    exchange(known, "a", ReceiverHealth.WELL)
    exchange(known, "a", ReceiverHealth.WELL)
    late = known.started("a", 0)
    fall(known, "a")
    known.finished(late, ReceiverHealth.WELL, 1)
    assert known.capacity("a", 1) == 2


def test_one_that_asks_for_a_pause_gets_it_within_bounds() -> None:
    for asked, pause in ((5, 10), (45, 45), (1e9, 60)):
        known = receivers()
        exchange(known, "a", ReceiverHealth.UNWELL, asked=asked)
        assert (known.capacity("a", pause - 1), known.capacity("a", pause)) == (0, 1)


def test_a_request_that_was_broken_off_says_nothing() -> None:
    known = receivers()
    fall(known, "a")
    exchange(known, "a", None, now=10)
    assert (known.capacity("a", 9), known.capacity("a", 10)) == (0, 1)


def test_pauses_are_spread() -> None:
    breaker = Breaker(first=100, jitter=0.2)
    pauses = [breaker.pause(1, 0, random.Random(seed)) for seed in range(100)]
    assert all(80 <= pause <= 120 for pause in pauses)
    assert max(pauses) - min(pauses) > 10


def test_memory_is_bounded_and_those_on_their_way_are_kept() -> None:
    known = receivers()
    first = known.started("first", 0)
    for number in range(10_500):
        exchange(known, f"host-{number}", ReceiverHealth.WELL)
    assert (known.capacity("host-0", 0), known.capacity("host-10499", 0)) == (1, 2)
    known.finished(first, ReceiverHealth.WELL, 0)
    assert known.capacity("first", 0) == 2


def test_an_exchange_knows_what_was_known() -> None:
    known = receivers()
    assert known.started("a", 0) == Exchange("a", ReceiverState.UNKNOWN, 0)
    assert known.in_flight(ReceiverState.UNKNOWN) == 1
