"""Limits and breakers of accounts."""

from dataclasses import replace

from compute.providers.ledger.gate import (
    AccountLimits,
    AccountState,
    BreakerPolicy,
    admit,
    failed,
    paused,
    succeeded,
)

NO_LIMIT = AccountLimits()
POLICY = BreakerPolicy(failures=5, first=15.0, longest=60.0, probe=30.0)


def after_failures(count: int, state: AccountState | None = None) -> AccountState:
    state = state or AccountState()
    for _ in range(count):
        state = failed(state, POLICY)
    return state


def test_the_breaker_opens_within_ten_calls_and_not_before_its_count() -> None:
    assert admit(after_failures(4), NO_LIMIT, POLICY)[1] is None
    _, pause = admit(after_failures(5), NO_LIMIT, POLICY)
    assert pause is not None
    assert pause.broken
    assert pause.seconds == 15.0


def test_one_call_probes_after_the_pause_and_the_others_wait_for_it() -> None:
    rested = replace(after_failures(5), open_for=0.0)
    probing, pause = admit(rested, NO_LIMIT, POLICY)
    assert pause is None
    _, second = admit(probing, NO_LIMIT, POLICY)
    assert second is not None
    assert second.broken
    # The probe never came back: another one goes.
    assert admit(replace(probing, probed_for=0.0), NO_LIMIT, POLICY)[1] is None


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_the_longest() -> None:
    state, pauses = after_failures(5), []
    for _ in range(4):
        pauses.append(state.open_for)
        state, _ = admit(replace(state, open_for=0.0), NO_LIMIT, POLICY)
        state = failed(state, POLICY)
    assert pauses == [15.0, 30.0, 60.0, 60.0]


def test_calls_that_left_before_it_opened_do_not_open_it_again() -> None:
    opened = after_failures(5)
    assert after_failures(20, opened).open_for == opened.open_for
    assert after_failures(20, opened).openings == 1


def test_a_success_closes_it() -> None:
    assert succeeded(after_failures(9)) == AccountState()


def test_limits_hold_within_one_batch() -> None:
    limits, state, let_through = AccountLimits(concurrency=3), AccountState(in_flight=1), 0
    for _ in range(5):
        state, pause = admit(state, limits, POLICY)
        let_through += pause is None
    assert let_through == 2


def test_the_rate_makes_room_when_the_oldest_call_is_a_minute_old() -> None:
    full = AccountState(in_last_minute=50, oldest_in_minute=48.0)
    _, pause = admit(full, AccountLimits(per_minute=50), POLICY)
    assert pause is not None
    assert pause.seconds == 12.0
    assert not pause.broken


def test_a_vendor_that_asks_for_a_pause_gets_it() -> None:
    _, pause = admit(paused(AccountState(), 13.0), NO_LIMIT, POLICY)
    assert pause is not None
    assert pause.seconds == 13.0
