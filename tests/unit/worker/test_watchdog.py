"""A thread that never comes back: whose job fails, whose is handed back, and what the replica says of itself."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from compute.errors import TaskFailed, WorkerLost
from compute.worker.protocol import Alive, Done, Started, WorkEvent
from compute.worker.stepping import Stepper
from compute.worker.vital_signs import alive_seconds, with_vital_signs
from compute.worker.watchdog import Watchdog
from tests.patience import NEVER, PATIENCE
from tests.unit.worker.studio import Sitting, Studio


class Clock:
    """Stands still until a test lets time pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Ward:
    """A studio whose watchdog's time a test lets pass: only what is in a thread then can be found to hang."""

    def __init__(self, home: Path) -> None:
        self._clock = Clock()
        self.watchdog = Watchdog(NEVER, clock=self._clock)
        self.studio = Studio(home, self.watchdog)

    async def let_time_pass(self, *, calls: int) -> bool:
        """Whether a call hangs, once so many are left in threads or wait for one."""
        await self.studio.until(lambda: self.watchdog.calls == calls)
        self._clock.seconds += 2 * NEVER
        try:
            self.watchdog.check()
        except WorkerLost:
            return True
        return False


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    ward = Ward(tmp_path)
    yield ward
    await ward.studio.close()


async def ended(sitting: Sitting) -> BaseException | None:
    async with asyncio.timeout(PATIENCE):
        return await sitting.error()


async def test_a_draw_that_never_returns_fails_itself_alone(ward: Ward) -> None:
    studio = ward.studio
    studio.gates.freeze(2)
    studio.gates.hold("upload", 1)
    first = studio.submit(1)
    await studio.until_in("upload", 1)
    hung = studio.submit(2)
    await studio.until_in("draw", 2)
    behind = [studio.submit(3), studio.submit(4)]
    await studio.until(lambda: ("prepare", 4) in studio.gates.ended)

    assert await ward.let_time_pass(calls=1)

    error = await ended(hung)
    assert isinstance(error, TaskFailed)
    assert not isinstance(error, WorkerLost), "it is to blame, and charged a try"
    assert "denoising made no step" in error.detail
    for sitting in behind:
        assert isinstance(await ended(sitting), WorkerLost)
        assert sitting.events == [Alive()]
    assert isinstance(await ended(studio.submit(5)), WorkerLost), "nothing is taken any more"
    studio.gates.let_go("upload", 1)
    assert await ended(first) is None, "one that has the device behind it is stored all the same"
    assert studio.finished == [1]


@pytest.mark.parametrize("stage", ["prepare", "decode"])
async def test_a_hang_in_another_stage_is_its_own_jobs_fault_too(ward: Ward, stage: str) -> None:
    studio = ward.studio
    studio.gates.hold(stage, 1)
    hung = studio.submit(1)
    await studio.until_in(stage, 1)
    waiting = studio.submit(2, reference_image_path=await studio.give_reference(2))
    studio.gates.hold("fetch", 2)
    await studio.until(lambda: bool(waiting.events))

    assert await ward.let_time_pass(calls=1)

    error = await ended(hung)
    assert isinstance(error, TaskFailed)
    assert not isinstance(error, WorkerLost)
    assert isinstance(await ended(waiting), WorkerLost)


async def test_one_that_has_begun_and_needs_the_thread_that_hangs_is_lost_with_it(ward: Ward) -> None:
    studio = ward.studio
    studio.gates.hold("decode", 1)
    hung, begun = studio.submit(1), studio.submit(2)
    await studio.until(lambda: ("draw", 2) in studio.gates.ended)
    assert await ward.let_time_pass(calls=2)
    assert not isinstance(await ended(hung), WorkerLost)
    assert isinstance(await ended(begun), WorkerLost)


async def test_a_cancelled_draw_whose_thread_does_not_come_back_is_found(ward: Ward) -> None:
    studio = ward.studio
    studio.gates.freeze(1)
    hung, behind = studio.submit(1), studio.submit(2)
    await studio.until_in("draw", 1)
    await studio.until(lambda: ("prepare", 2) in studio.gates.ended)
    hung.task.cancel()
    await asyncio.sleep(0)
    assert not hung.task.done(), "the device may still be in use"
    assert await ward.let_time_pass(calls=1)
    assert isinstance(await ended(behind), WorkerLost)
    await ended(hung)


async def test_steps_are_movement_and_so_is_the_wait_for_a_thread(ward: Ward) -> None:
    studio = ward.studio
    studio.gates.hold("draw", 1)
    drawing, waiting = studio.submit(1), studio.submit(2)
    await studio.until_in("draw", 1)
    await studio.until(lambda: ("prepare", 2) in studio.gates.ended)
    steps = len(drawing.events)
    # While it is held it goes on making steps.
    await studio.until(lambda: len(drawing.events) > steps)
    studio.gates.let_go("draw", 1)
    assert await ended(drawing) is None
    assert await ended(waiting) is None
    assert not await ward.let_time_pass(calls=0)


async def test_a_hang_is_found_by_itself() -> None:
    release = threading.Event()
    watchdog = Watchdog(0.05)
    told: list[object] = []
    try:
        with watchdog.told(told.append), pytest.raises(TaskFailed, match=r"denoising made no step for 0\.05 s"):
            await _watch(Stepper(lambda on_step: release.wait(PATIENCE), watchdog=watchdog))
        assert told == [None]
        with pytest.raises(WorkerLost):
            watchdog.check()
    finally:
        release.set()


async def _watch(stepper: Stepper[bool]) -> None:
    async with asyncio.timeout(PATIENCE), aclosing(stepper.steps()) as steps:
        async for _ in steps:
            pytest.fail("it makes none")


async def test_a_computation_that_is_left_is_waited_for_until_it_hangs() -> None:
    begun, release, clock = threading.Event(), threading.Event(), Clock()
    watchdog = Watchdog(NEVER, clock=clock)

    def compute() -> bool:
        begun.set()
        return release.wait(PATIENCE)

    computing = asyncio.create_task(watchdog.run(compute, what="computing"))
    try:
        async with asyncio.timeout(PATIENCE):
            while not begun.is_set():
                await asyncio.sleep(0.005)
        computing.cancel()
        await asyncio.sleep(0.05)
        assert not computing.done()
        clock.seconds = 2 * NEVER
        with pytest.raises(WorkerLost, match="computing made no step"):
            watchdog.check()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([computing])
        assert computing.cancelled()
    finally:
        release.set()


async def test_a_worker_says_that_it_lives_before_the_job_begins_and_while_it_runs() -> None:
    begin, finish = asyncio.Event(), asyncio.Event()

    async def work() -> AsyncIterator[WorkEvent]:
        await begin.wait()
        yield Started("replica-1", "tiny")
        await finish.wait()
        yield Done()

    seen: list[WorkEvent] = []
    async with asyncio.timeout(PATIENCE), aclosing(with_vital_signs(work(), Watchdog(), 0.001)) as events:
        async for event in events:
            seen.append(event)
            if len(seen) == 3:
                begin.set()
            if Started("replica-1", "tiny") in seen and seen[-1] == Alive():
                finish.set()
    kinds = [type(event) for event in seen]
    assert kinds[:3] == [Alive] * 3
    assert kinds[-1] is Done
    assert kinds.index(Started) < len(kinds) - 2


async def test_leaving_a_job_stops_its_work() -> None:
    stopped = asyncio.Event()

    async def work() -> AsyncIterator[WorkEvent]:
        try:
            await asyncio.sleep(NEVER)
            yield Done()
        finally:
            stopped.set()

    events = with_vital_signs(work(), Watchdog(), 0.001)
    assert [await anext(events), await anext(events)] == [Alive()] * 2
    await events.aclose()
    assert stopped.is_set()


def test_several_signs_of_life_fit_into_a_lease() -> None:
    assert alive_seconds(15) == 2
    assert alive_seconds(3) == 0.5
