"""Health of the evaluator, by the counts of evaluations and the state of a breaker."""

import pytest

from compute.evaluation.statistics import Counts, health_of
from compute.providers.ledger.gate import AccountState, Breaker


@pytest.mark.parametrize(
    ("recent", "failed", "breaker", "set_up", "score", "healthy"),
    [
        (0, 0, Breaker.CLOSED, True, 1.0, True),
        (10, 2, Breaker.CLOSED, True, 0.8, True),
        (10, 6, Breaker.CLOSED, True, 0.4, False),
        (10, 0, Breaker.OPEN, True, 0.0, False),
        (10, 0, Breaker.HALF_OPEN, True, 0.5, True),
        (10, 6, Breaker.HALF_OPEN, True, 0.4, False),
        (10, 0, Breaker.CLOSED, False, 0.0, False),
    ],
)
def test_the_score_is_that_of_the_last_hours_and_of_the_breaker(
    recent: int, failed: int, breaker: Breaker, set_up: bool, score: float, healthy: bool
) -> None:
    found = health_of(Counts(100, 75, 200.0, recent, failed), breaker, set_up=set_up)
    assert (found.health_score, found.is_healthy) == (pytest.approx(score), healthy)
    assert (found.total_evaluations, found.success_rate, found.average_response_time) == (100, 0.75, 2.0)
    assert found.circuit_breaker_state == breaker


def test_without_any_evaluation_nothing_is_wrong() -> None:
    found = health_of(Counts(), Breaker.CLOSED, set_up=True)
    assert (found.success_rate, found.average_response_time, found.is_healthy) == (1.0, 0.0, True)


def test_a_breaker_is_half_open_once_its_pause_is_over() -> None:
    assert AccountState().breaker is Breaker.CLOSED
    assert AccountState(failures=5, openings=1, open_for=3.0).breaker is Breaker.OPEN
    assert AccountState(failures=5, openings=1).breaker is Breaker.HALF_OPEN
