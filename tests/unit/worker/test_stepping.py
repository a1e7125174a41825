import asyncio
import threading
from contextlib import aclosing

import pytest

from compute.errors import Interrupted
from compute.worker.protocol import OnStep
from compute.worker.stepping import Stepper
from tests.patience import PATIENCE


async def test_each_step_is_seen_and_the_result_is_kept() -> None:
    def work(on_step: OnStep) -> str:
        for step in range(3):
            on_step(step + 1, 3)
        return "picture"

    stepper = Stepper(work)
    assert [step async for step in stepper.steps()] == [(1, 3), (2, 3), (3, 3)]
    assert stepper.result == "picture"


async def test_an_error_of_the_call_is_raised_where_it_is_watched() -> None:
    def work(on_step: OnStep) -> None:
        on_step(1, 2)
        raise ValueError("broken")

    steps = Stepper(work).steps()
    assert await anext(steps) == (1, 2)
    with pytest.raises(ValueError, match="broken"):
        await anext(steps)


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_leaving_early_stops_the_call_at_its_next_step_and_waits_for_it(how: str) -> None:
    ended, may_go_on = threading.Event(), threading.Semaphore(3)
    steps_done = 0

    def work(on_step: OnStep) -> None:
        nonlocal steps_done
        try:
            for step in range(100):
                assert may_go_on.acquire(timeout=PATIENCE)
                steps_done += 1
                on_step(step + 1, 100)
        except Interrupted:
            ended.set()
            raise

    three_seen = asyncio.Event()

    async def watch() -> None:
        async with aclosing(Stepper(work).steps()) as steps:
            async for done, _ in steps:
                if done == 3:
                    three_seen.set()
                    if how == "close":
                        return

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(PATIENCE):
        await three_seen.wait()
    if how == "cancel":
        watching.cancel()
    for _ in range(3):
        # It leaves, and waits.
        await asyncio.sleep(0)
    assert not watching.done()
    may_go_on.release(97)
    await asyncio.wait([watching])
    assert watching.cancelled() is (how == "cancel")
    assert ended.is_set(), "the call had ended when the watcher left"
    assert steps_done == 4
