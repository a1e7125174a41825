"""A proof that cannot fail proves nothing: each planted fault is found within some worlds, and by its promise."""

import pytest

from tests.proof.simulation import simulate
from tests.unit.proof.planted import PLANTED

WORLDS = 60


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    planted = PLANTED[name]
    for seed in range(WORLDS):
        outcome = simulate(seed, planted.parts, weather=planted.weather)
        if planted.promises & {fault.partition(":")[0] for fault in outcome.faults}:
            return
    pytest.fail(f"{WORLDS} worlds, and nobody noticed")


def test_the_weather_of_a_planted_fault_does_no_harm_without_it() -> None:
    weathers = [planted.weather for planted in PLANTED.values() if planted.weather is not None]
    assert [
        fault for weather in weathers for seed in range(5) for fault in simulate(seed, weather=weather).faults
    ] == []
