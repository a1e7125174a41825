"""A replica is given up for a loop that does its work, and for none that only observes."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import compute
from compute.deployments.kept import KeptLoops
from tests.patience import PATIENCE

OBSERVERS = ("Folding(", "MetricWriter(", "watch_event_loop", "roll.run", "audit.run", "keys.run")
"""What runs the loops that only observe."""


async def for_ever() -> None:
    await asyncio.Event().wait()


async def returns() -> None:
    return


async def fails() -> None:
    raise ZeroDivisionError


async def test_a_loop_that_observes_and_ends_is_begun_again_and_no_reason_to_replace_the_replica() -> None:
    loops, begun = KeptLoops(), asyncio.Queue[int]()

    async def observe() -> None:
        begun.put_nowait(1)
        raise ZeroDivisionError

    loops.work("working", for_ever())
    loops.observe("observing", observe)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            await begun.get()
    loops.check()
    await loops.close()


@pytest.mark.parametrize("loop", [returns, fails])
async def test_a_loop_that_works_and_ends_is_one(loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loops = KeptLoops()
    loops.work("working", loop())
    for _ in range(2):
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="working has ended"):
        loops.check()
    await loops.close()


async def test_observers_stop_last_and_whatever_has_become_of_the_work() -> None:
    loops, stopped = KeptLoops(), list[str]()

    async def until_stopped(name: str) -> None:
        try:
            await for_ever()
        finally:
            stopped.append(name)

    loops.work("failed", fails())
    loops.work("working", until_stopped("working"))
    loops.observe("observing", lambda: until_stopped("observing"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await loops.close()
    assert stopped == ["working", "observing"]


def test_everything_that_only_observes_is_kept_as_that() -> None:
    found = [
        (path.name, line.strip())
        for path in Path(compute.__file__).parent.rglob("*.py")
        for line in path.read_text().splitlines()
        if any(one in line for one in OBSERVERS) and re.search(r"create_task|loops\.\w+\(", line)
    ]
    assert len(found) >= 10
    assert [one for one in found if "loops.observe(" not in one[1]] == []
