"""The times of the loop that forgets."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from compute.retention.loop import RetentionLoop
from compute.retention.pruner import LEAD_SECONDS, NotLeader
from tests.proof.clock import SimulatedLoop

DAY = 24 * 3600.0


class Pruning:
    """Notes when it is asked; somebody else leads the first `refusals` times."""

    def __init__(self, refusals: int) -> None:
        self.times: list[float] = []
        self._refusals = refusals

    async def prune(self) -> Sequence[object]:
        self.times.append(asyncio.get_running_loop().time())
        if len(self.times) <= self._refusals:
            raise NotLeader
        return []


def asked(refusals: int, *, for_seconds: float) -> list[float]:
    pruning = Pruning(refusals)

    async def some_time() -> None:
        running = asyncio.create_task(RetentionLoop(pruning, every_seconds=DAY).run())  # type: ignore[arg-type]
        await asyncio.wait([running], timeout=for_seconds)
        running.cancel()
        await asyncio.wait([running])

    loop = SimulatedLoop()
    try:
        loop.run_until_complete(some_time())
    finally:
        loop.close()
    return pruning.times


def test_it_comes_now_and_then() -> None:
    times = asked(0, for_seconds=10 * DAY)
    assert times[0] == 0
    assert all(0.8 * DAY <= later - time <= 1.2 * DAY for time, later in pairwise(times))


def test_after_a_leader_that_was_killed_it_does_not_wait_for_the_next_time() -> None:
    """It was asked while the dead one's lease still held."""
    first, second = asked(1, for_seconds=DAY / 2)
    assert first == 0
    assert LEAD_SECONDS <= second <= 1.5 * LEAD_SECONDS
