"""Counts of replicas that a pool is told while Ray answers, fails and hangs."""

import asyncio
import threading
from typing import cast

from ray.serve.handle import DeploymentHandle

from compute.deployments.args import PoolArgs
from compute.deployments.pool import ServePool
from compute.deployments.replicas import ReplicaCounter
from tests.patience import NEVER, PATIENCE


class Handle:
    def options(self, *, stream: bool) -> "Handle":
        return self


class Ray:
    """Answers with `running`, fails, or hangs until it is let go."""

    def __init__(self) -> None:
        self.running: dict[str, int] | None = {"P": 2}
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()
        self.asked = 0

    def ask(self) -> dict[str, int] | None:
        self.asked += 1
        running, error = self.running, self.error
        assert self.free.wait(PATIENCE)
        if error is not None:
            raise error
        return running


def pool() -> ServePool:
    return ServePool(PoolArgs(name="P", num_replicas=2), cast("DeploymentHandle", Handle()))


async def test_the_last_answer_holds_until_the_next() -> None:
    ray, one = Ray(), pool()
    counter = ReplicaCounter(ray.ask, [one])
    await counter.count()
    assert one.ready() == 2
    ray.running = None  # nothing has changed
    await counter.count()
    ray.error = RuntimeError("no directory")
    await counter.count()
    assert one.ready() == 2
    ray.running, ray.error = {"P": 1}, None
    await one.recount()
    assert one.ready() == 1


async def test_one_that_asks_for_news_gets_an_answer_to_its_own_question() -> None:
    ray, one = Ray(), pool()
    counter = ReplicaCounter(ray.ask, [one])
    ray.free.clear()
    early = asyncio.create_task(counter.count())
    async with asyncio.timeout(PATIENCE):
        while ray.asked < 1:
            await asyncio.sleep(0.001)
    ray.running = {"P": 1}
    late = [asyncio.create_task(counter.count()) for _ in range(5)]
    await asyncio.sleep(0.01)
    ray.free.set()
    await asyncio.gather(early, *late)
    assert one.ready() == 1
    assert ray.asked == 2, "all of them shared it"


async def test_a_ray_that_hangs_is_waited_for_a_while_and_asked_once() -> None:
    ray, one = Ray(), pool()
    counter = ReplicaCounter(ray.ask, [one], deadline_seconds=0.02, patience_seconds=NEVER)
    async with asyncio.timeout(PATIENCE):
        while one.ready() != 2:
            await counter.count()
        asked = ray.asked
        ray.free.clear()
        while ray.asked == asked:
            await counter.count()
        for _ in range(3):
            await counter.count()
    assert ray.asked == asked + 1
    assert one.ready() == 2, "what was known holds for a while"
    ray.running = None
    ray.free.set()


async def test_numbers_that_are_too_old_count_as_none_until_ray_answers() -> None:
    ray, one = Ray(), pool()
    counter = ReplicaCounter(ray.ask, [one], deadline_seconds=0.02, patience_seconds=0.1)
    running = asyncio.create_task(counter.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while one.ready() != 2:
                await asyncio.sleep(0.005)
            ray.free.clear()
            ray.running = None
            while one.ready() != 0:
                await asyncio.sleep(0.005)
            ray.free.set()
            while one.ready() != 2:
                await asyncio.sleep(0.005)
    finally:
        ray.free.set()
        running.cancel()
