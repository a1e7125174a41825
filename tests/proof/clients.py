"""Simulated clients: they submit with a key, ask again when no answer came, poll, cancel and delete."""

from random import Random
from uuid import UUID

from compute.db.away import DatabaseAway
from compute.events import notify
from tests.proof.clock import pause
from tests.proof.history import Accepted, Cancelled, Deleted, Logged, Seen
from tests.proof.model import ENDS, Asked, Ended, Unknown
from tests.proof.world import Process, World

__all__ = ["Client", "look_at_all"]

_TENANTS = ("a", "b", "c")


class Client:
    """One task's: from its submission until it has seen the end."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self._process = Process(world, f"client-{number}")
        self._chance = Random(world.chance.random())
        chance = self._chance
        webhook = f"http://receiver-{chance.randint(1, 2)}.test/hook" if chance.random() < 0.7 else None
        self._asked = Asked(
            UUID(int=chance.getrandbits(128), version=4),
            tenant=chance.choice(_TENANTS),
            priority=chance.randint(0, 3),
            max_retries=chance.choice([None, 0, 1]),
            webhook_url=webhook,
            key=f"key-{number}",
        )

    async def run(self) -> None:
        """Its task ends, or the world does."""
        chance = self._chance
        await pause(chance.uniform(0, 25))
        await self._submit()
        if chance.random() < self.world.weather.cancels:
            await pause(chance.uniform(0, 15))
            await self._cancel()
        while not self.world.over and not await self._look():
            await pause(chance.uniform(0.2, 5))
        if chance.random() < 0.2 and not self.world.over:
            await self._delete()

    async def _submit(self) -> None:
        world, asked = self.world, self._asked
        while not world.over:
            try:
                await self._process.call(f"accept {_short(asked.id)}", self._accept, asked.id)
            except DatabaseAway:
                await pause(self._chance.uniform(0.1, 2))
                continue
            webhook = asked.webhook_url is not None
            world.history.note(Accepted(at=world.now(), task=str(asked.id), webhook=webhook))
            world.notify(notify.READY, asked.queue)
            return

    def _accept(self) -> UUID:
        return self.world.model.accept(self._asked, self.world.database_now())

    async def _cancel(self) -> None:
        world, task = self.world, self._asked.id

        def cancel() -> str:
            try:
                return world.model.cancel(task, world.database_now()).status
            except Ended as error:
                return str(error)

        try:
            status = await self._process.call(f"cancel {_short(task)}", cancel, "", rows=frozenset({task}))
        except DatabaseAway:
            return
        if status == "CANCELLED" and not world.over:
            world.history.note(Cancelled(at=world.now(), task=str(task)))
            world.notify(notify.CANCELLED, str(task))

    async def _look(self) -> bool:
        """Whether it has ended."""
        world, asked = self.world, self.world.now()
        task = self._asked.id
        try:
            seen = await self._process.call(
                f"get {_short(task)}", lambda: _seen(world, task, asked), None, writes=False
            )
        except DatabaseAway:
            return False
        if seen is None:
            return world.over
        world.history.note(seen)
        return seen.status in ENDS

    async def _delete(self) -> None:
        world, task = self.world, self._asked.id
        moves = tuple(world.model.get(task).moves)
        # Its receiver may be told later, and its events go with it.
        world.history.note(Logged(at=world.now(), task=str(task), moves=moves))
        try:
            await self._process.call(
                f"delete {_short(task)}", lambda: world.model.delete(task), None, rows=frozenset({task})
            )
        except (DatabaseAway, Unknown):
            return
        world.history.note(Deleted(at=world.now(), task=str(task)))


def look_at_all(world: World) -> None:
    """What everybody would see now."""
    for task in world.model.tasks:
        seen = _seen(world, task, world.now())
        world.history.note(seen)
        world.history.note(Logged(at=world.now(), task=str(task), moves=tuple(world.model.get(task).moves)))


def _seen(world: World, task_id: UUID, asked: float) -> Seen:
    task = world.model.get(task_id)
    outputs = tuple(one["path"] for one in task.result["artifacts"]) if task.result else ()
    return Seen(
        at=world.now(),
        asked=asked,
        task=str(task_id),
        status=task.status,
        progress=task.progress,
        retries=task.retry_count,
        attempt=task.fence,
        outputs=outputs,
    )


def _short(task_id: UUID) -> str:
    return task_id.hex[:6]
