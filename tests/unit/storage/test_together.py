"""Calls at once: as many as may be, their results in order, and nothing goes on behind the first that fails."""

import asyncio

import pytest

from compute.storage.together import AT_ONCE, for_each
from tests.patience import NEVER, PATIENCE


async def test_results_come_in_the_order_of_the_items_however_long_each_takes() -> None:
    done = asyncio.Event()

    async def call(item: int) -> int:
        if item == 0:
            await done.wait()
        elif item == 3:
            done.set()
        return item * 10

    async with asyncio.timeout(PATIENCE):
        assert await for_each(range(4), call) == [0, 10, 20, 30]


async def test_as_many_calls_as_may_be_are_under_way_and_no_more() -> None:
    # Each waits for the others of its round, so fewer at once would never end.
    rounds = asyncio.Barrier(AT_ONCE)
    under_way, most = 0, 0

    async def call(_: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await rounds.wait()
        under_way -= 1

    async with asyncio.timeout(PATIENCE):
        await for_each(range(3 * AT_ONCE), call)
    assert most == AT_ONCE


async def test_the_first_failure_in_order_is_told_and_ends_the_others() -> None:
    failed, cancelled = asyncio.Event(), asyncio.Event()

    async def call(item: int) -> None:
        if item == 1:
            await failed.wait()
            raise ValueError("the second")
        if item == 2:
            failed.set()
            raise ValueError("the third")
        if item == 3:
            try:
                await asyncio.sleep(NEVER)
            finally:
                cancelled.set()

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ValueError, match="the second"):
            await for_each(range(4), call)
    assert cancelled.is_set()


async def test_no_items_are_no_results() -> None:
    assert await for_each([], asyncio.sleep) == []
