"""Dispatcher, webhook sender and reaper in simulated worlds: whatever goes wrong, every promise is kept.

A seed that fails here, or in `python -m benchmarks.simulate`, is looked at with `python -m benchmarks.simulate --seed N
--trace`, mended, and kept in `KEPT`.
"""

import pytest

from tests.proof.simulation import simulate
from tests.proof.weather import Weather

WORLDS, AT_ONCE = 100, 10
_CHARGED = "a task was charged for what no worker had begun: its replica or its dispatcher died while it waited"
KEPT = dict.fromkeys((11, 35, 47), _CHARGED)
"""Seeds that have found something, and what it was."""

QUIET = Weather(tasks=2, replicas=1, reserve=1, calm=20.0)


@pytest.mark.parametrize("first", range(0, WORLDS, AT_ONCE))
def test_every_promise_is_kept(first: int) -> None:
    outcomes = [simulate(seed) for seed in range(first, first + AT_ONCE)]
    assert {outcome.seed: outcome.faults for outcome in outcomes if outcome.faults} == {}


@pytest.mark.parametrize("seed", KEPT)
def test_what_was_found_once_stays_mended(seed: int) -> None:
    assert simulate(seed).faults == [], KEPT[seed]


def test_a_seed_gives_the_same_world_every_time() -> None:
    assert simulate(7).trace == simulate(7).trace
    assert simulate(7).trace != simulate(8).trace


@pytest.mark.parametrize("part", range(4))
def test_a_process_may_die_at_every_await_of_claim_write_publish_and_post(part: int) -> None:
    points = simulate("quiet", weather=QUIET).points
    assert points > 40
    outcomes = {at: simulate("quiet", weather=QUIET, kill_at=at) for at in range(1 + part, points + 1, 4)}
    assert {at: outcome.faults for at, outcome in outcomes.items() if outcome.faults} == {}
    assert all(outcome.killed for outcome in outcomes.values())


def test_a_clock_that_jumps_ahead_takes_nobody_s_lease() -> None:
    jump = Weather(tasks=9, replicas=4, reserve=1, jumps=[(12.0, 3600.0)])
    rounds = [line for seed in range(12) for line in simulate(seed, weather=jump).trace if " reap = " in line]
    assert len(rounds) > 12
    assert {line.rpartition(" ")[2] for line in rounds} == {"0"}
