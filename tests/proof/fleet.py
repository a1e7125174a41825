"""Simulated workers: replicas that draw one job at a time, and those that wait in their reserve."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from compute.errors import InvalidInput, TaskFailed, WorkerLost
from compute.worker.protocol import Alive, Artifact, Done, Job, Progress, Started, WorkEvent
from tests.proof.clock import pause
from tests.proof.history import Began, Published
from tests.proof.world import Process, World

__all__ = ["Fleet", "SimulatedPool"]

_TICK = 1.0
_STEPS = 4
_BREATHS = 2
"""How often a replica says between two steps that it lives."""
_WATCHDOG = 20.0
"""Seconds without a step after which a replica is replaced."""


@dataclass(eq=False)
class _Replica:
    name: str
    alive: bool = True
    hung_at: float | None = None
    device: asyncio.Lock = field(default_factory=asyncio.Lock)
    jobs: int = 0

    def check(self) -> None:
        if not self.alive:
            raise WorkerLost(f"{self.name} died")


class Fleet:
    """The replicas of one queue; those that die are replaced."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._made = 0
        self.replicas = [self._make() for _ in range(world.weather.replicas)]

    def _make(self) -> _Replica:
        self._made += 1
        return _Replica(f"replica-{self._made}")

    def kill_one(self) -> None:
        self.replace(self.world.chance.choice(self.replicas))

    def replace(self, replica: _Replica) -> None:
        if replica.alive:
            self.world.tell(f"{replica.name} dies")
            replica.alive = False
            self.replicas[self.replicas.index(replica)] = self._make()

    async def watch(self) -> None:
        """Replace those that hang."""
        while not self.world.over:
            await pause(1)
            for replica in list(self.replicas):
                if replica.hung_at is not None and self.world.now() - replica.hung_at > _WATCHDOG:
                    self.replace(replica)


class SimulatedPool:
    """The fleet as one dispatcher sees it."""

    queue = "inference"
    executor_type = "simulated"
    resumes = False

    def __init__(self, fleet: Fleet, process: Process) -> None:
        self._fleet = fleet
        self._process = process

    def capacity(self) -> int:
        return len(self._fleet.replicas) * (1 + self._fleet.world.weather.reserve)

    def ready(self) -> int:
        return len(self._fleet.replicas)

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        world = self._fleet.world
        replica = min(self._fleet.replicas, key=lambda one: one.jobs)
        replica.jobs += 1
        try:
            await pause(world.chance.uniform(0.001, 0.3))
            async for alive in _wait_for_device(replica):
                yield alive
            try:
                async for event in self._draw(job, replica):
                    yield event
            finally:
                # What hangs cannot be stopped: it has the device as long as the replica lives.
                if replica.hung_at is None:
                    replica.device.release()
        finally:
            replica.jobs -= 1

    async def _draw(self, job: Job, replica: _Replica) -> AsyncGenerator[WorkEvent]:
        world, mood = self._fleet.world, self._mood()
        replica.check()
        self._note(job, 0)
        yield Started(replica.name, "simulated")
        breaks_at = world.chance.randint(0, _STEPS)
        pace = world.chance.choice([0.05, 0.5, 2.0, 6.0])
        for step in range(1, _STEPS + 1):
            if mood is not None and step > breaks_at:
                await self._break(job, replica, mood)
            for _ in range(_BREATHS):
                await pause(pace * world.chance.uniform(0.5, 1.5) / _BREATHS)
                replica.check()
                yield Alive()
            if world.over:
                return
            self._note(job, step)
            yield Progress(step / (_STEPS + 1))
        yield await self._publish(job, replica)
        await pause(world.chance.uniform(0.001, 0.1))
        replica.check()
        yield Done({"fence": job.fence})

    async def _publish(self, job: Job, replica: _Replica) -> Artifact:
        world = self._fleet.world
        path = f"generations/{job.task_id}/{job.fence}/0.png"
        world.point(self._process, "publish: sent")
        await pause(world.chance.uniform(0.001, 0.5))
        replica.check()
        if not world.over:
            world.tell(f"{replica.name} publishes {path}")
            world.history.note(Published(at=world.now(), task=str(job.task_id), fence=job.fence, path=path))
        world.point(self._process, "publish: done")
        await pause(world.chance.uniform(0.001, 0.1))
        return Artifact(path, "image/png", 10, "aa", 64, 64)

    async def _break(self, job: Job, replica: _Replica, mood: str) -> None:
        self._fleet.world.tell(f"{replica.name}: {job.task_id} fence {job.fence}: {mood}")
        if mood == "invalid":
            raise InvalidInput("it cannot be drawn", field="prompt")
        if mood == "fail":
            raise TaskFailed("it was not drawn")
        replica.hung_at = self._fleet.world.now()
        while not self._fleet.world.over:
            # It cannot be stopped: whoever waits for it is told of nothing until the replica is gone.
            await pause(_TICK)
            replica.check()

    def _mood(self) -> str | None:
        world = self._fleet.world
        if world.calm():
            return None
        drawn = world.chance.random()
        for mood, likely in world.weather.moods.items():
            if drawn < likely:
                return mood
            drawn -= likely
        return None

    def _note(self, job: Job, step: int) -> None:
        world = self._fleet.world
        if not world.over:
            world.history.note(Began(at=world.now(), task=str(job.task_id), fence=job.fence, step=step))


async def _wait_for_device(replica: _Replica) -> AsyncGenerator[Alive]:
    """Take the device. Meanwhile a replica that draws for others says that it lives; one that hangs is silent."""
    while True:
        replica.check()
        if replica.hung_at is None:
            yield Alive()
        if not replica.device.locked():
            await replica.device.acquire()
            return
        await pause(_TICK)
