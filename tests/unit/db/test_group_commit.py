"""Writes that are put by many and written together: their order, whatever happens, and who waits for whom."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest

from compute.db.away import DatabaseAway, RowLocked, StatementTooSlow
from compute.db.group_commit import GroupCommit, Load
from compute.errors import Unavailable
from tests.patience import NEVER, PATIENCE
from tests.proof.clock import SimulatedLoop, pause


class Put(NamedTuple):
    key: str
    number: int
    kind: str = "any"


class Table:
    """Takes writes like a store: keys may be locked, writes refused, and batches met by errors. A batch with a write
    that is `blocked` fails as a whole, after the seconds that the server lets it wait."""

    def __init__(self) -> None:
        self.locked: set[str] = set()
        self.refused: set[Put] = set()
        self.errors: list[Exception] = []
        self.blocked: Callable[[Put], bool] = lambda _: False
        self.trouble: type[Exception] = RowLocked
        self.seconds = 0.0
        self.written: dict[str, list[int]] = defaultdict(list)
        self.batches: list[Sequence[Put]] = []
        self.beats: dict[str, list[float]] = defaultdict(list)

    async def write(self, batch: Sequence[Put]) -> list[str | None]:
        await asyncio.sleep(0)
        self.batches.append(batch)
        if self.errors:
            raise self.errors.pop(0)
        if any(self.blocked(put) for put in batch):
            await pause(self.seconds)
            raise self.trouble
        if self.refused & set(batch):
            raise ValueError
        for put in batch:
            if put.key not in self.locked:
                self.written[put.key].append(put.number)
            if put.kind == "beat":
                self.beats[put.key].append(asyncio.get_running_loop().time())
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
        kind=lambda put: put.kind,
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
    puts = [Put(f"key {rng.randrange(8)}", number, rng.choice(["some", "others"])) for number in range(120)]
    table = Table()
    table.refused = set(rng.sample(puts, 5))
    table.errors = [DatabaseAway()] + [RowLocked() for _ in range(4)]
    rng.shuffle(table.errors)

    async def turn_keys() -> None:
        for _ in range(8):
            table.locked = set(rng.sample([f"key {n}" for n in range(8)], 3))
            blocked = {("kind", rng.choice(["some", "others", "none"])), ("key", f"key {rng.randrange(8)}")}
            table.blocked = lambda put, blocked=blocked: {("kind", put.kind), ("key", put.key)} & blocked  # type: ignore[misc]
            await asyncio.sleep(0.02)
        table.locked, table.blocked = set(), lambda _: False

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
    assert sorted(table.written["a"]) == [-2, 1, 2]
    assert [number for number in table.written["a"] if number > 0] == [1, 2]


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


def test_more_locked_keys_than_a_batch_holds_are_not_asked_for_without_a_pause() -> None:
    table, loop = Table(), SimulatedLoop()
    table.locked = {"a", "b", "c", "d", "e"}

    async def live() -> None:
        async with running(table, most=2) as commit:
            written = [commit.put(Put(key, 1)) for key in "abcde"]
            # The first look at each, and then rounds a tenth of a second apart.
            await pause(1.05)
            assert len(table.batches) <= 3 * (1 + 10)
            table.locked.clear()
            assert await asyncio.gather(*written) == ["written"] * 5

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(live())


TROUBLES = pytest.mark.parametrize(("trouble", "seconds"), [(RowLocked, 1.0), (StatementTooSlow, 5.0)])


class Runs:
    """Forty short ones that end while ends are blocked, eight long ones, one that begins every second, and now and then
    ends; heartbeats every five seconds."""

    LOCKED_FOR = 60

    def __init__(self, table: Table, loop: SimulatedLoop) -> None:
        self.table = table
        self.took: dict[str, list[float]] = defaultdict(list)
        self.drained_in = NEVER
        self._loop = loop

    async def live(self) -> None:
        self.table.blocked = lambda put: put.kind == "end"
        async with running(self.table) as commit, asyncio.TaskGroup() as group:
            for n in range(40):
                self._report(commit, group, f"short {n}", "start", "end")
            for second in range(self.LOCKED_FOR):
                self._report(commit, group, f"new {second}", "start", *(["end"] if second % 7 == 0 else []))
                if second % 5 == 0:
                    for key in [*(f"short {n}" for n in range(40)), *(f"long {n}" for n in range(8))]:
                        commit.put(Put(key, -1 - second, "beat"))
                await pause(1.0)
            self.table.blocked = lambda _: False
            free_at = self._loop.time()
        self.drained_in = self._loop.time() - free_at

    def _report(self, commit: GroupCommit[Put, str], group: asyncio.TaskGroup, key: str, *kinds: str) -> None:
        for number, kind in enumerate(kinds, 1):
            group.create_task(self._written(commit.put(Put(key, number, kind)), kind))

    async def _written(self, written: asyncio.Future[str], kind: str) -> None:
        since = self._loop.time()
        assert await written == "written"
        self.took[kind].append(self._loop.time() - since)


@TROUBLES
def test_what_is_locked_or_slow_delays_the_rest_by_a_few_tries(trouble: type[Exception], seconds: float) -> None:
    table, loop = Table(), SimulatedLoop()
    table.trouble, table.seconds = trouble, seconds
    runs = Runs(table, loop)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(runs.live())
    # Each heartbeat waits for the try that is being made.
    assert len(table.beats) == 48
    for times in table.beats.values():
        assert max(later - earlier for earlier, later in pairwise([0.0, *times, Runs.LOCKED_FOR])) <= 5 + seconds + 0.1
    assert max(runs.took["start"]) <= 4 * seconds
    assert runs.drained_in <= seconds + 0.5
    for n in range(40):
        assert [number for number in table.written[f"short {n}"] if number > 0] == [1, 2]


@TROUBLES
def test_one_that_is_locked_is_found_in_few_tries_and_shares_none_with_what_is_fresh(
    trouble: type[Exception], seconds: float
) -> None:
    table, loop = Table(), SimulatedLoop()
    table.trouble, table.seconds = trouble, seconds
    table.blocked = lambda put: put.key == "key 37"
    most_tries = 2 + 6

    async def live() -> None:
        async with running(table) as commit:
            puts = [commit.put(Put(f"key {n}", 1)) for n in range(64)]
            stays = puts.pop(37)
            assert set(await asyncio.gather(*puts)) == {"written"}
            assert loop.time() <= most_tries * (seconds + 0.2)
            for n in range(20):
                since = loop.time()
                assert await commit.put(Put(f"fresh {n}", 1)) == "written"
                assert loop.time() - since <= seconds + 0.1
                await pause(0.05)
            assert not stays.done()
            table.blocked = lambda _: False
            assert await stays == "written"

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(live())
    assert not any(
        any(put.key == "key 37" for put in batch) and any(put.key.startswith("fresh") for put in batch)
        for batch in table.batches
    )


def test_what_stays_locked_is_given_up_when_its_patience_ends() -> None:
    table, loop = Table(), SimulatedLoop()
    table.seconds = 1.0
    table.blocked = lambda put: put.kind == "end"

    async def live() -> None:
        async with running(table, patience=120.0) as commit:
            ends = [commit.put(Put(f"key {n}", 1, "end")) for n in range(30)]
            assert set(await asyncio.gather(*ends)) == {"given up"}
            assert 120 <= loop.time() <= 122

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(live())


@asynccontextmanager
async def refusing(table: Table, **bounds: Load) -> AsyncIterator[GroupCommit[Put, str]]:
    """A commit in which nothing waits for the database."""
    commit: GroupCommit[Put, str] = GroupCommit(
        table.write, id, given_up="given up", in_doubt="in doubt", waits=False, load=lambda _: Load(1, 10), **bounds
    )
    work = asyncio.create_task(commit.run())
    yield commit
    commit.close()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([work])


@pytest.mark.parametrize("trouble", [DatabaseAway, RowLocked, StatementTooSlow])
async def test_without_waiting_all_are_refused_when_the_database_cannot(trouble: type[Exception]) -> None:
    table = Table()
    table.errors = [trouble()]
    async with refusing(table, most=Load(2)) as commit:
        puts = [commit.put(Put("a", number)) for number in range(5)]
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [trouble] * 2 + [DatabaseAway] * 3
        assert not any(outcome.in_doubt for outcome in outcomes[2:] if isinstance(outcome, DatabaseAway))
        assert await commit.put(Put("a", 5)) == "written"


async def test_batches_and_what_waits_are_bounded_by_number_and_size() -> None:
    table = Table()
    async with refusing(table, most=Load(3, 25), most_waiting=Load(4, 50)) as commit:
        puts = [commit.put(Put("a", number)) for number in range(4)]
        with pytest.raises(Unavailable, match="Too many"):
            commit.put(Put("a", 4))
        assert await asyncio.gather(*puts) == ["written"] * 4
    # Two of ten are not more than 25.
    assert [len(batch) for batch in table.batches] == [2, 2]


async def test_without_waiting_what_nobody_waits_for_any_more_is_dropped() -> None:
    table = Table()
    async with refusing(table, most=Load(10)) as commit:
        puts = [commit.put(Put("a", number)) for number in range(3)]
        puts[1].cancel()
        assert await puts[2] == "written"
    assert table.written == {"a": [0, 2]}


async def test_a_cancelled_run_tells_what_was_being_written_from_what_was_not() -> None:
    table, never = Table(), asyncio.Event()

    async def write(batch: Sequence[Put]) -> list[str | None]:
        table.batches.append(batch)
        await never.wait()
        return []

    commit: GroupCommit[Put, str] = GroupCommit(
        write, id, given_up="given up", in_doubt="in doubt", most=1, waits=False
    )
    work = asyncio.create_task(commit.run())
    puts = [commit.put(Put("a", number)) for number in range(2)]
    async with asyncio.timeout(PATIENCE):
        while not table.batches:
            await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait([work])
    assert [await put for put in puts] == ["in doubt", "given up"]
