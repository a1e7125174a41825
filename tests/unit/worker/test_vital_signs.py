"""Events of a job travel together where they are there together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from compute.errors import TaskFailed
from compute.worker.protocol import Alive, Done, Progress, Started, WorkEvent
from compute.worker.vital_signs import vital_batches, with_vital_signs
from compute.worker.watchdog import Watchdog
from tests.patience import NEVER, PATIENCE

STARTED, DONE = Started("x", "tiny"), Done({})
Batch = tuple[WorkEvent, ...]


async def batches_of(work: AsyncGenerator[WorkEvent], *, gather: float = 0.0) -> list[Batch]:
    async with aclosing(vital_batches(work, Watchdog(), NEVER, gather_seconds=gather)) as batches:
        return [batch async for batch in batches]


async def at_once() -> AsyncGenerator[WorkEvent]:
    yield STARTED
    yield Progress(0.5)
    yield DONE


async def slowly() -> AsyncGenerator[WorkEvent]:
    async for event in at_once():
        await asyncio.sleep(0)
        yield event


async def failing() -> AsyncGenerator[WorkEvent]:
    yield STARTED
    raise TaskFailed("It broke.")


async def test_what_is_there_together_travels_together() -> None:
    assert await batches_of(at_once()) == [(Alive(),), (STARTED, Progress(0.5), DONE)]


async def test_events_wait_for_those_that_follow_soon() -> None:
    assert await batches_of(slowly(), gather=0.2) == [(STARTED, Progress(0.5), DONE)]


async def test_no_event_waits_where_none_may() -> None:
    told: list[Batch] = []
    heard = asyncio.Semaphore(0)

    async def one_by_one() -> AsyncGenerator[WorkEvent]:
        async for event in at_once():
            await heard.acquire()
            yield event

    async with asyncio.timeout(PATIENCE), aclosing(vital_batches(one_by_one(), Watchdog(), NEVER)) as batches:
        async for batch in batches:
            told.append(batch)
            heard.release()
    assert told == [(Alive(),), (STARTED,), (Progress(0.5),), (DONE,)]


async def test_silent_work_is_alive() -> None:
    told: list[Batch] = []
    heard = asyncio.Event()

    async def silent() -> AsyncGenerator[WorkEvent]:
        await heard.wait()
        yield DONE

    async with asyncio.timeout(PATIENCE), aclosing(vital_batches(silent(), Watchdog(), 0.01)) as batches:
        async for batch in batches:
            told.append(batch)
            if len(told) == 3:
                heard.set()
    *alive, last = told
    assert set(alive) == {(Alive(),)}
    assert DONE in last


@pytest.mark.parametrize("gather", [0.0, 0.02])
async def test_what_came_before_a_failure_is_told(gather: float) -> None:
    told: list[WorkEvent] = []

    async def listen() -> None:
        async with aclosing(vital_batches(failing(), Watchdog(), NEVER, gather_seconds=gather)) as batches:
            async for batch in batches:
                told.extend(batch)

    with pytest.raises(TaskFailed, match=r"It broke\."):
        await listen()
    assert told[-1] is STARTED


async def test_one_by_one_they_are_the_same() -> None:
    async with aclosing(with_vital_signs(at_once(), Watchdog(), NEVER)) as events:
        assert [event async for event in events] == [Alive(), STARTED, Progress(0.5), DONE]
