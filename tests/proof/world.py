"""One simulated world: its clock, its tasks, its processes, what goes wrong, and what everybody saw."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from compute.db.away import AwayReason, DatabaseAway, RowLocked
from tests.proof.clock import pause
from tests.proof.history import History
from tests.proof.model import Model
from tests.proof.outbox import Outbox
from tests.proof.weather import Weather
from tests.proof.workflow_model import WorkflowModel

__all__ = ["Process", "World", "forever"]

T = TypeVar("T")
_DEADLINE = 15.0
"""Seconds after which a store gives a silent connection up."""
_LOCK_TIMEOUT = 1.0
_KILLED_AT = ("claim", "write", "publish", "post", "settle")


class World:
    """All that one seed makes. `kill_at` names the one point at which the process that reaches it dies."""

    def __init__(
        self, seed: object, weather: Weather, *, kill_at: int | None = None, model: type[Model] = Model
    ) -> None:
        self.chance = Random(f"{seed} world")
        self.weather = weather
        self.outbox = Outbox()
        self.model = model(self.outbox.enter)
        self.workflows = WorkflowModel(self.model)
        self.history = History(grace=12.0 if weather.mild else 60.0, workers_seen=True, mild=weather.mild)
        self.processes: list[Process] = []
        self.troubles: list[str] = []
        self.trace: list[str] = []
        self.points = 0
        self.killed = False
        self.over = False
        self.locked: set[UUID] = set()
        self.cut_off: set[Process] = set()
        self.listeners: list[tuple[Process, frozenset[str], Callable[[str, str], None]]] = []
        self._kill_at = kill_at
        self._clock_offset = 0.0
        self._never: list[asyncio.Future[None]] = []

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def database_now(self) -> float:
        """What the database's clock shows."""
        return self.now() + self._clock_offset

    def jump(self, seconds: float) -> None:
        self.tell(f"the database's clock jumps by {seconds:.0f} s")
        self._clock_offset += seconds

    def calm(self) -> bool:
        return self.now() >= self.weather.calm

    def tell(self, what: str) -> None:
        self.trace.append(f"{self.now():9.3f}  {what}")

    def notify(self, channel: str, payload: str) -> None:
        """Tell those who listen, unless it is lost on the way."""
        for process, channels, on_notify in self.listeners:
            deaf = not self.calm() and self.chance.random() < self.weather.deaf
            if channel in channels and process.alive and not deaf:
                asyncio.get_running_loop().call_later(self.chance.uniform(0.0, 0.05), on_notify, channel, payload)

    async def never(self) -> None:
        """What a dead process waits for: it comes when the world is over."""
        if not self.over:
            future = asyncio.get_running_loop().create_future()
            self._never.append(future)
            await future

    def end(self) -> None:
        """From now on nobody waits, and nothing changes any more."""
        self.over = True
        for future in self._never:
            if not future.done():
                future.set_result(None)

    def point(self, process: "Process", name: str) -> None:
        """An await of `process`, at which it may die."""
        if not name.startswith(_KILLED_AT) or not process.restarts:
            return
        self.points += 1
        if self.points == self._kill_at:
            self.tell(f"{process.name} is killed at {name}")
            self.killed = True
            process.kill()


@dataclass(eq=False)
class Process:
    """Something that can be killed: from then on nothing of what it does reaches anybody."""

    world: World
    name: str
    restarts: bool = False
    """Whether somebody starts it again when it dies."""
    alive: bool = True
    died: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        self.alive = False
        self.died.set()

    async def call(
        self,
        name: str,
        effect: Callable[[], T],
        otherwise: T,
        *,
        rows: frozenset[UUID] = frozenset(),
        writes: bool = True,
        quick: bool = False,
    ) -> T:
        """Carry `effect` out at the database, as far as the weather lets it; `otherwise` is for when all is over.

        `rows` are those that it waits for while somebody keeps them locked. `quick`: its transaction is kept open
        for nothing.

        Raises:
            DatabaseAway: it may or may not have been carried out.
        """
        world, done = self.world, False
        trouble = self._trouble(writes)
        try:
            await self._pass(f"{name}: sent", world.chance.uniform(0.0005, 0.02 if quick else 0.1))
            if world.over:
                return otherwise
            if trouble in {"away", "lost before", "read-only"}:
                raise self._away(name, trouble)
            if trouble == "silent before":
                await self._silence(name)
            if rows & world.locked:
                await self._pass(f"{name}: waits for a lock", _LOCK_TIMEOUT)
                if rows & world.locked:
                    world.tell(f"{self.name}: {name}: a row is locked")
                    raise RowLocked
            result, done = effect(), True
            world.tell(f"{self.name}: {name} = {_short(result)}")
            if trouble == "lost after":
                raise self._away(name, trouble)
            if trouble == "silent after":
                await self._silence(name)
            await self._pass(f"{name}: done", world.chance.uniform(0.0005, 0.02))
        except asyncio.CancelledError:
            # The server hears of it too late, as often as not.
            if not done and self.alive and not world.over and world.chance.random() < 0.5:
                world.tell(f"{self.name}: {name} was cancelled and takes effect later")
                asyncio.get_running_loop().call_later(0.05, self._late, effect, rows)
            raise
        return otherwise if world.over else result

    def _late(self, effect: Callable[[], object], rows: frozenset[UUID]) -> None:
        if not self.world.over and not rows & self.world.locked:
            effect()

    async def _pass(self, point: str, seconds: float) -> None:
        self.world.point(self, point)
        await self.living()
        if not self.world.over:
            await pause(seconds)
            await self.living()

    async def living(self) -> None:
        """Go on only if nobody has killed it."""
        if not self.alive:
            await self.world.never()

    async def _silence(self, name: str) -> None:
        self.world.tell(f"{self.name}: {name} is not answered")
        await pause(_DEADLINE)
        await self.living()
        raise DatabaseAway(reason=AwayReason.SILENT)

    def _away(self, name: str, trouble: str) -> DatabaseAway:
        self.world.tell(f"{self.name}: {name}: {trouble}")
        return DatabaseAway(reason=AwayReason.READ_ONLY if trouble == "read-only" else AwayReason.LOST)

    def _trouble(self, writes: bool) -> str | None:
        world, weather = self.world, self.world.weather
        if world.calm():
            return None
        if self in world.cut_off or weather.within(weather.away, world.now()):
            return "away"
        if writes and weather.within(weather.read_only, world.now()):
            return "read-only"
        drawn = world.chance.random()
        if drawn < weather.lost:
            return world.chance.choice(["lost before", "lost after"])
        if drawn < weather.lost + weather.silent:
            return world.chance.choice(["silent before", "silent after"])
        return None


async def forever() -> None:
    """Until cancelled."""
    await asyncio.get_running_loop().create_future()


def _short(result: Any) -> str:
    text = str(result)
    return text if len(text) <= 200 else f"{text[:200]}…"
