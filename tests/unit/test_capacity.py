"""So much at a time, so many in the queue, in order, and nothing lost when somebody gives up."""

import asyncio

import pytest

from compute.capacity import Capacity
from compute.errors import Overloaded
from tests.patience import PATIENCE


async def until(condition: "asyncio.Event") -> None:
    async with asyncio.timeout(PATIENCE):
        await condition.wait()


class WorkflowLease:
    """Holds an amount until it is let go."""

    def __init__(self, capacity: Capacity, amount: int) -> None:
        self.has = asyncio.Event()
        self.let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(capacity, amount))

    async def _hold(self, capacity: Capacity, amount: int) -> None:
        async with capacity.taken(amount):
            self.has.set()
            await self.let_go.wait()

    async def end(self) -> None:
        self.let_go.set()
        async with asyncio.timeout(PATIENCE):
            await self.task


async def test_no_more_is_held_than_there_is() -> None:
    capacity = Capacity(10, busy="full", waiting=5)
    first, second = WorkflowLease(capacity, 6), WorkflowLease(capacity, 6)
    await until(first.has)
    assert not second.has.is_set()
    await first.end()
    await until(second.has)
    await second.end()
    assert capacity.free == 10


async def test_a_small_one_does_not_overtake_a_large_one() -> None:
    capacity = Capacity(10, busy="full", waiting=5)
    first, large, small = WorkflowLease(capacity, 8), WorkflowLease(capacity, 9), WorkflowLease(capacity, 1)
    await until(first.has)
    await asyncio.sleep(0)
    assert capacity.free == 0
    assert not small.has.is_set()
    await first.end()
    await until(large.has)
    await until(small.has)
    await large.end()
    await small.end()
    assert capacity.free == 10


async def test_a_full_queue_refuses() -> None:
    capacity = Capacity(1, busy="Come back later.", waiting=1)
    first, second = WorkflowLease(capacity, 1), WorkflowLease(capacity, 1)
    await until(first.has)
    with pytest.raises(Overloaded, match="Come back later"):
        async with capacity.taken():
            pass
    await first.end()
    await second.end()
    assert capacity.free == 1


async def test_who_waits_too_long_is_refused() -> None:
    capacity = Capacity(1, busy="full", waiting=1, seconds=0.01)
    first = WorkflowLease(capacity, 1)
    await until(first.has)
    with pytest.raises(Overloaded):
        async with capacity.taken():
            pass
    await first.end()
    assert capacity.free == 1


async def test_who_gives_up_frees_its_place() -> None:
    capacity = Capacity(2, busy="full", waiting=1)
    first, second = WorkflowLease(capacity, 2), WorkflowLease(capacity, 2)
    await until(first.has)
    second.task.cancel()
    await asyncio.wait([second.task])
    third = WorkflowLease(capacity, 1)
    await first.end()
    await until(third.has)
    await third.end()
    assert capacity.free == 2


async def test_who_gives_up_when_its_turn_comes_gives_it_back() -> None:
    capacity = Capacity(1, busy="full", waiting=2)
    first, second, third = (WorkflowLease(capacity, 1) for _ in range(3))
    await until(first.has)
    first.let_go.set()
    # `first` has ended and granted it to `second`, which has not run since.
    await first.task
    second.task.cancel()
    await until(third.has)
    await third.end()
    assert capacity.free == 1


async def test_more_than_there_is_runs_alone() -> None:
    capacity = Capacity(10, busy="full", waiting=1)
    huge = WorkflowLease(capacity, 1000)
    await until(huge.has)
    with pytest.raises(Overloaded):
        capacity.take_now(1)
    await huge.end()
    capacity.take_now(10)
    capacity.give_back(10)
    assert capacity.free == 10
