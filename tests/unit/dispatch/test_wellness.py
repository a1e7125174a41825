"""Since when the store has been well: what the reaper waits for."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from compute.dispatch.wellness import Wellness
from tests.proof.clock import SimulatedLoop, pause


async def an_outage(wellness: Wellness) -> None:
    wellness.failed()
    await pause(100)
    wellness.worked()


async def a_clock_that_jumps(wellness: Wellness) -> None:
    wellness.saw(1000.0, tolerance=5)
    await pause(10)
    wellness.saw(1010.0 + 3600, tolerance=5)


async def a_stop_of_this_process(wellness: Wellness) -> None:
    wellness.held_up()


@pytest.mark.parametrize("trouble", [an_outage, a_clock_that_jumps, a_stop_of_this_process])
def test_after_trouble_owners_have_their_time(trouble: Callable[[Wellness], Awaitable[None]]) -> None:
    async def story() -> None:
        wellness = Wellness()
        assert wellness.lasts(15)
        await trouble(wellness)
        assert not wellness.lasts(15)
        await pause(14)
        assert not wellness.lasts(15)
        await pause(1)
        assert wellness.lasts(15)

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(story())


def test_while_it_is_away_it_is_not_well_and_a_clock_that_is_set_back_hurts_nobody() -> None:
    async def story() -> None:
        wellness = Wellness()
        wellness.saw(1000.0, tolerance=5)
        wellness.saw(0.0, tolerance=5)
        assert wellness.lasts(15)
        wellness.failed()
        wellness.held_up()
        await pause(100)
        assert not wellness.lasts(15)

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(story())
