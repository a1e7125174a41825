"""A whole world from a seed: clients, dispatchers, workers, what goes wrong; then calm, and what came of it."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.proof.clients import Client, look_at_all
from tests.proof.clock import SimulatedLoop, pause
from tests.proof.fleet import Fleet, SimulatedPool
from tests.proof.model import ENDS
from tests.proof.parts import REAL, Parts, Runs
from tests.proof.weather import Weather, forecast
from tests.proof.workflow_clients import WorkflowClient, look_at_workflows
from tests.proof.world import Process, World

__all__ = ["Outcome", "simulate"]

_PATIENCE = 1200.0
"""Seconds after the calm within which everything that was accepted has ended."""
_AFTER = 30.0


@dataclass(frozen=True)
class Outcome:
    seed: object
    faults: list[str]
    trace: list[str]
    points: int
    """How many awaits there were at which a process could have been killed."""
    killed: bool
    weather: Weather


def simulate(
    seed: object, parts: Parts = REAL, *, weather: Weather | None = None, kill_at: int | None = None
) -> Outcome:
    """The same seed gives the same world, down to the order of all calls."""
    state = random.getstate()
    # What components leave to chance themselves.
    random.seed(f"{seed} components")
    try:
        with asyncio.Runner(loop_factory=SimulatedLoop) as runner, _quiet():
            weather = weather or forecast(random.Random(f"{seed} weather"))
            return runner.run(_Simulation(seed, parts, weather, kill_at).run())
    finally:
        random.setstate(state)


class _Simulation:
    def __init__(self, seed: object, parts: Parts, weather: Weather, kill_at: int | None) -> None:
        self._seed = seed
        self._parts = parts
        self._weather = weather
        self._kill_at = kill_at

    async def run(self) -> Outcome:
        world = self._world = World(self._seed, self._weather, kill_at=self._kill_at, model=self._parts.model)
        self._fleet = Fleet(world)
        self._running: set[asyncio.Task[None]] = set()
        self._living: dict[asyncio.Task[None], Process] = {}
        world.tell(f"weather: {self._weather}")
        clients = [asyncio.create_task(Client(world, number).run()) for number in range(self._weather.tasks)]
        clients += [asyncio.create_task(WorkflowClient(world, n).run()) for n in range(self._weather.workflows)]
        beside = [asyncio.create_task(self._fleet.watch()), asyncio.create_task(self._weather_on())]
        kept = [(f"dispatcher-{n}", self._dispatcher) for n in range(self._weather.dispatchers)]
        kept += [(f"sender-{n}", self._parts.sender) for n in range(self._weather.senders)]
        kept += [(f"engine-{n}", self._parts.engine) for n in range(self._weather.engines)]
        beside += [asyncio.create_task(self._keep(name, make)) for name, make in kept]
        try:
            await self._until_done(clients)
        finally:
            look_at_workflows(world)
            look_at_all(world)
            world.history.complete = True
            world.end()
            await _stop([*clients, *beside, *self._running])
        return Outcome(
            self._seed, world.troubles + world.history.faults(), world.trace, world.points, world.killed, self._weather
        )

    async def _until_done(self, clients: list[asyncio.Task[None]]) -> None:
        give_up = self._weather.calm + _PATIENCE
        while self._world.now() < give_up:
            ended = all(task.status in ENDS for task in self._world.model.tasks.values())
            if ended and all(client.done() for client in clients) and not self._world.outbox.untold():
                break
            await pause(1)
        for client in clients:
            if client.done():
                client.result()
        # What goes on after the end is seen as well.
        await pause(_AFTER)

    def _dispatcher(self, process: Process) -> Runs:
        return self._parts.dispatcher(process, SimulatedPool(self._fleet, process))

    async def _keep(self, name: str, make: Callable[[Process], Runs]) -> None:
        """A process that is started again whenever it has ended."""
        world, count = self._world, 0
        while not world.over:
            count += 1
            process = Process(world, f"{name}.{count}", restarts=True)
            world.tell(f"{process.name} starts")
            running = asyncio.create_task(make(process).run())
            self._running.add(running)
            self._living[running] = process
            died = asyncio.create_task(process.died.wait())
            await asyncio.wait([running, died], return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            del self._living[running]
            if running.done() and not running.cancelled() and not world.over:
                world.troubles.append(f"no_process_ends_by_itself: {process.name} ended: {running.exception()!r}")
            await pause(world.chance.uniform(0.5, 10))

    async def _weather_on(self) -> None:
        weather = self._weather
        events: list[tuple[float, Callable[[], None]]] = []
        events += [(at, self._kill) for at in weather.kills]
        events += [(at, self._leave) for at in weather.leaves]
        events += [(at, self._fleet.kill_one) for at in weather.replica_kills]
        events += [(at, _jump(self._world, by)) for at, by in weather.jumps]
        for begin, end in weather.locks:
            events += [(begin, self._lock), (min(end, weather.calm), self._unlock)]
        for begin, end in weather.cuts:
            events += [(begin, self._cut), (min(end, weather.calm), self._mend)]
        for at, act in sorted(events, key=lambda event: event[0]):
            await pause(max(at - self._world.now(), 0))
            act()

    def _kill(self) -> None:
        if self._living:
            process = self._world.chance.choice(list(self._living.values()))
            self._world.tell(f"{process.name} is killed")
            process.kill()

    def _leave(self) -> None:
        if self._living:
            running = self._world.chance.choice(list(self._living))
            self._world.tell(f"{self._living[running].name} is asked to leave")
            running.cancel()

    def _cut(self) -> None:
        if self._living:
            process = self._world.chance.choice(list(self._living.values()))
            self._world.tell(f"{process.name} is cut off")
            self._world.cut_off.add(process)

    def _mend(self) -> None:
        self._world.tell("nobody is cut off any more")
        self._world.cut_off.clear()

    def _lock(self) -> None:
        world = self._world
        things = {**world.model.tasks, **world.workflows.workflows}
        open_ones = [thing_id for thing_id, thing in things.items() if thing.status not in ENDS]
        if open_ones:
            locked = world.chance.choice(open_ones)
            world.tell(f"{locked.hex[:6]} is locked")
            world.locked.add(locked)

    def _unlock(self) -> None:
        self._world.tell("nothing is locked any more")
        self._world.locked.clear()


def _jump(world: World, seconds: float) -> Callable[[], None]:
    return lambda: world.jump(seconds)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Thousands of worlds would fill the log with their troubles."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
