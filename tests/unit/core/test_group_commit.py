"""Writes that are put by many and written together: their order, whatever happens, and who waits for whom."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from compute.db.away import DatabaseAway, RowLocked
from compute.db.group_commit import GroupCommit
from tests.patience import NEVER, PATIENCE


class Put(NamedTuple):
    key: str
    number: int


class Table:
    """Takes writes like a store: keys may be locked, writes refused, and batches met by errors."""

    def __init__(self) -> None:
        self.locked: set[str] = set()
        self.refused: set[Put] = set()
        self.errors: list[Exception] = []
        self.written: dict[str, list[int]] = defaultdict(list)
        self.batches: list[Sequence[Put]] = []

    async def write(self, batch: Sequence[Put]) -> list[str | None]:
        await asyncio.sleep(0)
        self.batches.append(batch)
        if self.errors:
            raise self.errors.pop(0)
        if self.refused & set(batch):
            raise ValueError
        for put in batch:
            if put.key not in self.locked:
                self.written[put.key].append(put.number)
        return [None if put.key in self.locked else "written" for put in batch]


@asynccontextmanager
async def running(table: Table, *, patience: float = NEVER, most: int = 100) -> AsyncIterator[GroupCommit[Put, str]]:
    commit: GroupCommit[Put, str] = GroupCommit(
        table.write,
        lambda put: put.key,
        given_up="given up",
        most=most,
        patience_seconds=patience,
        meanwhile=lambda put: "later" if put.number < 0 else None,
    )
    work = asyncio.create_task(commit.run())
    try:
        yield commit
    finally:
        commit.close()
        async with asyncio.timeout(PATIENCE):
            await work


@pytest.mark.parametrize("seed", range(4))
async def test_writes_of_one_key_keep_their_order_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    puts = [Put(f"key {rng.randrange(8)}", number) for number in range(120)]
    table = Table()
    table.refused = set(rng.sample(puts, 5))
    table.errors = [DatabaseAway()] + [RowLocked() for _ in range(4)]
    rng.shuffle(table.errors)

    async def turn_keys() -> None:
        for _ in range(8):
            table.locked = set(rng.sample([f"key {n}" for n in range(8)], 3))
            await asyncio.sleep(0.02)
        table.locked = set()

    async with running(table, most=rng.choice([3, 20, 100])) as commit:
        turning = asyncio.create_task(turn_keys())
        futures = []
        for put in puts:
            futures.append(commit.put(put))
            if rng.random() < 0.1:
                await asyncio.sleep(0.005)
        answers = await asyncio.gather(*futures, return_exceptions=True)
        await turning
    for put, answer in zip(puts, answers, strict=True):
        assert isinstance(answer, ValueError) if put in table.refused else answer == "written"
    for key, numbers in table.written.items():
        assert numbers == [put.number for put in puts if put.key == key and put not in table.refused]


async def test_a_locked_key_holds_up_nobody_else() -> None:
    table = Table()
    table.locked = {"a"}
    async with running(table) as commit:
        waits = [commit.put(Put("a", number)) for number in range(3)]
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*(commit.put(Put("b", number)) for number in range(3))) == ["written"] * 3
        assert not any(wait.done() for wait in waits)
        table.locked = set()
        assert await asyncio.gather(*waits) == ["written"] * 3
    assert table.written == {"a": [0, 1, 2], "b": [0, 1, 2]}


async def test_a_refused_write_is_found_in_few_batches() -> None:
    table = Table()
    table.refused = {Put("a", 37)}
    async with running(table) as commit:
        answers = await asyncio.gather(*(commit.put(Put("a", n)) for n in range(64)), return_exceptions=True)
    assert [n for n, answer in enumerate(answers) if isinstance(answer, ValueError)] == [37]
    assert len(table.batches) <= 13
    assert table.written["a"] == [n for n in range(64) if n != 37]


async def test_what_nobody_needs_to_wait_for_is_answered_at_once_and_written_later_once() -> None:
    table = Table()
    table.locked = {"a"}
    async with running(table) as commit:
        first = commit.put(Put("a", 1))
        async with asyncio.timeout(PATIENCE):
            while not table.batches:
                await asyncio.sleep(0)
            assert await commit.put(Put("a", -1)) == "later"
            assert await commit.put(Put("a", -2)) == "later"
        table.locked = set()
        assert await first == "written"
        assert await commit.put(Put("a", 2)) == "written"
    assert table.written["a"] == [1, -2, 2]


async def test_a_write_is_given_up_when_patience_ends_or_nobody_writes_any_more() -> None:
    table = Table()
    table.locked = {"a"}
    async with running(table, patience=0.0) as commit:
        assert await commit.put(Put("a", 1)) == "given up"
    assert await commit.put(Put("b", 1)) == "given up"


async def test_a_cancelled_run_leaves_nobody_waiting() -> None:
    table = Table()
    table.locked = {"a"}
    commit: GroupCommit[Put, str] = GroupCommit(table.write, lambda put: put.key, given_up="given up", most=10)
    work = asyncio.create_task(commit.run())
    waits = commit.put(Put("a", 1))
    async with asyncio.timeout(PATIENCE):
        while not table.batches:
            await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await waits == "given up"


async def test_more_locked_keys_than_a_batch_holds_are_not_asked_for_without_a_pause() -> None:
    table = Table()
    table.locked = {"a", "b", "c", "d", "e"}
    async with running(table, most=2) as commit:
        written = [commit.put(Put(key, 1)) for key in "abcde"]
        for _ in range(3000):
            await asyncio.sleep(0)
        # The first look at each, and then rounds a tenth of a second apart.
        assert len(table.batches) <= 3 + 4
        table.locked.clear()
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*written) == ["written"] * 5
