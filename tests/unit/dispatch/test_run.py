"""One attempt, with a pool and a store of this test's own: what it says of its worker, and what it is charged."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import pytest

from compute.dispatch.retry import RetryPolicy
from compute.dispatch.run import Run, RunLimits
from compute.dispatch.store import DispatchStore
from compute.dispatch.writer import LeaseWriter
from compute.errors import StorageFailed, TaskFailed, WorkerLost
from compute.tasks.leases import Beat, ClaimedTask, Complete, Fail, Lease, Release, Write
from compute.worker.protocol import Alive, Done, Job, Progress, Started, WorkEvent
from tests.patience import NEVER, PATIENCE

POLICY = RetryPolicy(max_retries=3, backoff_seconds=2, free_losses=4, chance=lambda: 1.0)
STARTED = Started("replica-1", "tiny")


@dataclass
class Rows:
    """The only thing of a store that a run needs. While it is `away` writes do not come back."""

    written: list[Write] = field(default_factory=list)
    away: bool = False

    async def write(self, writes: Sequence[Write], **options: Any) -> list[bool]:
        async with asyncio.timeout(PATIENCE):
            while self.away:
                await asyncio.sleep(0.001)
        self.written += writes
        return [True] * len(writes)

    def of(self, kind: type[Write]) -> list[Write]:
        return [write for write in self.written if isinstance(write, kind)]


class OnePool:
    """Streams what a test puts into `events`; an exception there is raised, None is the end."""

    queue = "inference"
    executor_type = "test"
    resumes = False

    def __init__(self) -> None:
        self.events: asyncio.Queue[WorkEvent | Exception | None] = asyncio.Queue()
        self.read = 0

    def capacity(self) -> int:
        return 1

    def ready(self) -> int:
        return 1

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event
            self.read += 1


class Bed:
    """A run, and the writer that it writes with."""

    def __init__(self, *, fence: int = 1, task: float = NEVER, queued: float = NEVER) -> None:
        self.pool, self.rows = OnePool(), Rows()
        self._writer = LeaseWriter(cast("DispatchStore", self.rows), lease_seconds=NEVER)
        self._writing = asyncio.create_task(self._writer.run())
        claimed = ClaimedTask(Lease(UUID(int=1), fence), "GENERATION", 0, "{}", None)
        self.run = Run(claimed, self.pool, self._writer, POLICY, RunLimits(task, queued), lambda: None)

    async def say(self, *events: WorkEvent) -> None:
        """Until the run has heard them."""
        heard = self.pool.read + len(events)
        for event in events:
            self.pool.events.put_nowait(event)
        await self.until(lambda: self.pool.read == heard)

    async def renewed(self, renew_seconds: float, *, beats: int) -> None:
        """Until so many beats have been written, given every chance."""

        def pulsed() -> bool:
            self.run.pulse(renew_seconds)
            return len(self.rows.of(Beat)) == beats

        await self.until(pulsed)

    async def not_renewed(self, renew_seconds: float) -> None:
        before = len(self.rows.of(Beat))
        for _ in range(3):
            self.run.pulse(renew_seconds)
            await asyncio.sleep(0.005)
        assert len(self.rows.of(Beat)) == before

    async def end(self) -> Write:
        """The last thing written."""
        async with asyncio.timeout(PATIENCE):
            await self.run.wait()
        self._writer.close()
        await self._writing
        return self.rows.written[-1]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)


def charged(end: Write) -> bool:
    assert isinstance(end, Release), end
    return end.error is not None


Loss = Callable[[Bed], Awaitable[None]]


async def dies(bed: Bed) -> None:
    bed.pool.events.put_nowait(WorkerLost("The replica died."))


async def falls_silent(bed: Bed) -> None:
    for _ in range(4):
        bed.run.listen(3)


async def loses_its_store(bed: Bed) -> None:
    bed.pool.events.put_nowait(StorageFailed("The object store is away."))


@pytest.mark.parametrize("loss", [dies, falls_silent, loses_its_store])
async def test_only_what_had_begun_is_charged_for_the_loss_of_its_worker(loss: Loss) -> None:
    for heard, is_charged in (((), False), ((Alive(),), False), ((Alive(), STARTED), True)):
        bed = Bed()
        await bed.say(*heard)
        await loss(bed)
        assert charged(await bed.end()) is is_charged, heard


@pytest.mark.parametrize("loss", [dies, falls_silent, loses_its_store])
async def test_who_often_loses_workers_that_prepare_for_it_is_charged(loss: Loss) -> None:
    for heard, is_charged in (((), False), ((Alive(),), True)):
        bed = Bed(fence=POLICY.free_losses + 1)
        await bed.say(*heard)
        await loss(bed)
        assert charged(await bed.end()) is is_charged, heard


async def test_silence_is_counted_from_the_last_news() -> None:
    bed = Bed()
    for _ in range(5):
        await bed.say(Alive())
        for _ in range(3):
            bed.run.listen(3)
    await bed.say(STARTED)
    for _ in range(4):
        bed.run.listen(3)
    end = await bed.end()
    assert isinstance(end, Release)
    assert end.error is not None
    assert "Nothing was heard of its replica" in end.error[1]


async def test_what_waits_for_its_turn_for_too_long_is_handed_back() -> None:
    bed = Bed(fence=100, queued=0.05)
    await bed.say(Alive())
    bed.run.listen(3)
    await asyncio.sleep(0.06)
    bed.run.listen(3)
    assert not charged(await bed.end())


async def test_a_turn_ends_the_wait_and_begins_the_time_of_the_task() -> None:
    waiting = Bed(queued=0.05)
    await waiting.say(Alive(), STARTED)
    await asyncio.sleep(0.06)
    waiting.run.listen(3)
    waiting.pool.events.put_nowait(Done())
    waiting.pool.events.put_nowait(None)
    assert isinstance(await waiting.end(), Complete)
    running = Bed(task=0.05)
    await running.say(STARTED)
    assert charged(await running.end())


async def test_an_error_of_the_jobs_own_is_charged_though_it_had_not_begun() -> None:
    bed = Bed()
    await bed.say(Alive())
    bed.pool.events.put_nowait(TaskFailed("denoising made no step"))
    assert charged(await bed.end())


async def test_a_lease_is_renewed_by_news_alone() -> None:
    bed = Bed()
    await bed.not_renewed(0)
    await bed.say(Alive())
    await bed.not_renewed(NEVER)
    await bed.renewed(0, beats=1)
    await bed.not_renewed(0)
    await bed.say(Alive(), STARTED)
    await bed.renewed(0, beats=2)
    bed.run.hand_back()
    assert await bed.end() == Release(Lease(UUID(int=1), 1))


async def test_progress_is_written_at_once_and_one_beat_is_under_way_at_a_time() -> None:
    bed = Bed()
    await bed.say(STARTED, Progress(0.25))
    bed.rows.away = True
    await bed.not_renewed(NEVER)
    await bed.say(Progress(0.5), Progress(0.75))
    await bed.not_renewed(0)
    bed.rows.away = False
    await bed.renewed(NEVER, beats=2)
    assert bed.rows.of(Beat) == [Beat(bed.run.lease, 25), Beat(bed.run.lease, 75)]
    bed.run.abandon()
    await bed.run.wait()
    assert not [write for write in bed.rows.written if isinstance(write, Fail | Release)]
    await bed.end()


@pytest.mark.parametrize(
    "metadata",
    [
        {"timings": {"draw_ms": 12.5}, "denoising_steps": "four"},
        {"timings": {"draw_ms": "long"}, "denoising_steps": 4},
    ],
    ids=str,
)
async def test_what_cannot_be_told_of_a_task_makes_it_no_failure(metadata: dict[str, Any]) -> None:
    bed = Bed()
    bed.pool.events.put_nowait(Done(metadata))
    bed.pool.events.put_nowait(None)
    assert isinstance(await bed.end(), Complete)
