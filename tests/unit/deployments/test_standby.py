"""The moments at which a standby takes the device and gives it back."""

import asyncio
import threading

import pytest

from compute.deployments.standby import Standby, StandDown
from tests.patience import PATIENCE


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Device:
    """Counts how often it was taken; waits for `release` first."""

    def __init__(self) -> None:
        self.taken = 0
        self.release = threading.Event()
        self.release.set()

    def take(self) -> "Device":
        assert self.release.wait(PATIENCE)
        self.taken += 1
        return self


async def test_the_device_is_taken_by_the_first_job_and_once() -> None:
    device = Device()
    standby = Standby(device.take, idle_seconds=30)
    assert device.taken == 0

    async def job() -> Device:
        async with standby.in_use() as mine:
            return mine

    assert await asyncio.gather(job(), job(), job()) == [device] * 3
    assert device.taken == 1


async def test_a_job_cancelled_during_activation_takes_nothing_from_the_next_one() -> None:
    device = Device()
    device.release.clear()
    standby = Standby(device.take, idle_seconds=30)

    async def job() -> Device:
        async with standby.in_use() as mine:
            return mine

    first, second = asyncio.create_task(job()), asyncio.create_task(job())
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    device.release.set()
    assert await second is device
    assert device.taken == 1


async def test_it_stands_down_once_it_was_used_and_then_idle() -> None:
    clock, device = Clock(), Device()
    standby = Standby(device.take, idle_seconds=30, clock=clock)
    clock.seconds = 1000
    standby.check()  # never used: it holds nothing
    async with standby.in_use():
        clock.seconds = 2000
        standby.check()  # a long job is no idleness
    standby.check()
    clock.seconds = 2029
    standby.check()
    async with standby.in_use():
        pass
    clock.seconds = 2058
    standby.check()
    clock.seconds = 2059
    with pytest.raises(StandDown, match="30 s"):
        standby.check()


async def test_one_that_cannot_be_activated_says_so_and_asks_to_be_replaced() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise MemoryError("full")

    standby = Standby(fail, idle_seconds=30)
    standby.check()
    for _ in range(2):
        with pytest.raises(MemoryError, match="full"):
            async with standby.in_use():
                pytest.fail("there is nothing to use")
    assert len(calls) == 1
    with pytest.raises(StandDown):
        standby.check()
