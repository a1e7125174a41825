"""The Dispatcher's store on the model: what Postgres would answer, as far as the weather lets it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compute.dispatch.retry import RetryPolicy
from compute.tasks.leases import ClaimedTask, Write
from tests.proof.model import LEASED
from tests.proof.world import Process, forever

__all__ = ["SimulatedStore"]


class SimulatedStore:
    """Implements `DispatchStore` for one dispatcher process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def claim(self, queue: str, limit: int, *, owner: str, lease_seconds: float) -> list[ClaimedTask]:
        world = self._world

        def claim() -> list[ClaimedTask]:
            now = world.database_now()
            return world.model.claim(queue, limit, owner=owner, until=now + lease_seconds, now=now, locked=world.locked)

        return await self._process.call("claim", claim, [])

    async def write(self, writes: Sequence[Write], *, lease_seconds: float) -> Sequence[bool | None]:
        world = self._world

        def write() -> list[bool | None]:
            now = world.database_now()
            free = [one for one in writes if not self._waits(one)]
            held = dict(
                zip(map(id, free), world.model.write_all(free, now=now, until=now + lease_seconds), strict=True)
            )
            return [held.get(id(one)) for one in writes]

        names = "+".join(f"{type(one).__name__} {one.lease.task_id.hex[:6]}/{one.lease.fence}" for one in writes)
        return await self._process.call(f"write {names}", write, [False] * len(writes))

    def _waits(self, write: Write) -> bool:
        """Whether its row is locked, and it is not too late for it anyway."""
        task = self._world.model.tasks.get(write.lease.task_id)
        locked = write.lease.task_id in self._world.locked
        return locked and task is not None and task.lease == write.lease and task.status in LEASED

    async def now(self) -> float:
        return await self._process.call("now", self._world.database_now, 0.0)

    async def reap(self, policy: RetryPolicy) -> int:
        world = self._world

        def reap() -> int:
            now = world.database_now()
            dead = [task for task in world.model.expired(now) if task.asked.id not in world.locked]
            return world.model.reap(dead, policy, now)

        return await self._process.call("reap", reap, 0)

    async def beat(self, owner: str, pools: Mapping[str, Any]) -> None:
        await self._process.call("beat", lambda: None, None)

    async def tidy(self) -> None:
        await self._process.call("tidy", lambda: None, None)

    async def add_up(self) -> None:
        await self._process.call("add up", lambda: None, None)

    def notify(self, channel: str, payload: str = "") -> None:
        if self._process.alive:
            self._world.notify(channel, payload)

    async def send_notifications(self) -> None:
        await forever()

    async def listen(self, channels: Sequence[str], on_notify: Callable[[str, str], None]) -> None:
        self._world.listeners.append((self._process, frozenset(channels), on_notify))
        await forever()

    async def close(self) -> None:
        """Nothing is open."""
