"""Loops of the Dispatcher that hang or end: its health tells, and nothing is claimed before the others know of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.rounds import Rounds
from compute.dispatch.store import DispatchStore
from tests.patience import NEVER, PATIENCE
from tests.proof.clock import SimulatedLoop, pause

QUICK = DispatchPolicy(poll=0.01, pulse=0.01, beat=0.01, lease=0.3, hang=0.1)


class Store:
    """Nothing waits in it. Methods named in `hung` never return, those in `ended` return at once."""

    def __init__(self, *, hung: str = "", ended: str = "") -> None:
        self.called: list[str] = []
        self.reaped_at: list[float] = []
        self._hung = hung
        self._ended = ended

    async def claim(self, queue: str, limit: int, **options: Any) -> list[Any]:
        await self._call("claim")
        return []

    async def write(self, writes: object, *, lease_seconds: float) -> list[bool]:
        raise NotImplementedError

    async def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def reap(self, policy: object) -> int:
        self.reaped_at.append(asyncio.get_running_loop().time())
        await self._call("reap")
        return 0

    async def beat(self, owner: str, pools: object) -> None:
        await self._call("beat")

    async def tidy(self) -> None:
        await self._call("tidy")

    async def add_up(self) -> None:
        await self._call("add_up")

    async def listen(self, channels: object, on_notify: object) -> None:
        await self._loop("listen")

    async def send_notifications(self) -> None:
        await self._loop("send_notifications")

    async def close(self) -> None:
        self.called.append("close")

    async def _call(self, name: str) -> None:
        self.called.append(name)
        if name == self._hung:
            await asyncio.sleep(NEVER)

    async def _loop(self, name: str) -> None:
        if name != self._ended:
            await asyncio.sleep(NEVER)


class NoWorkers:
    """A pool with room for one job, which never comes."""

    queue = "inference"
    executor_type = "test"
    resumes = False

    def capacity(self) -> int:
        return 1

    def ready(self) -> int:
        return 1

    def run(self, job: object) -> Any:
        raise NotImplementedError


@asynccontextmanager
async def dispatching(
    store: Store, policy: DispatchPolicy = QUICK
) -> AsyncIterator[tuple[Dispatcher, "asyncio.Task[None]"]]:
    dispatcher = Dispatcher(cast("DispatchStore", store), [NoWorkers()], policy, "me")
    work = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher, work
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
            await work


def hanging(dispatcher: Dispatcher) -> str:
    try:
        dispatcher.check()
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("hung", "loop"), [("claim", "claiming from inference"), ("reap", "reaping"), ("beat", "telling that it lives")]
)
async def test_a_loop_that_hangs_is_named(hung: str, loop: str) -> None:
    async with dispatching(Store(hung=hung)) as (dispatcher, _), asyncio.timeout(PATIENCE):
        while loop not in hanging(dispatcher):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("loop", ["listen", "send_notifications"])
async def test_a_loop_that_ends_ends_the_dispatcher(loop: str) -> None:
    async with dispatching(Store(ended=loop)) as (_, work), asyncio.timeout(PATIENCE):
        await asyncio.wait([work])
        assert isinstance(work.exception(), ExceptionGroup)


def test_a_dispatcher_that_was_stopped_lets_the_owners_of_leases_be_first() -> None:
    """They may have been stopped with it, and could renew nothing."""
    store, loop, policy = Store(), SimulatedLoop(), DispatchPolicy()
    stopped_for = 4 * policy.lease

    async def some_time() -> None:
        async with dispatching(store, policy):
            await pause(3 * policy.lease)
            loop.stand_still(stopped_for)
            await pause(3 * policy.lease)

    try:
        loop.run_until_complete(some_time())
    finally:
        loop.close()
    stopped_at = 3 * policy.lease
    before = [at for at in store.reaped_at if at <= stopped_at]
    after = [at for at in store.reaped_at if at > stopped_at]
    assert len(before) >= 6
    assert len(after) >= 3
    assert after[0] >= stopped_at + stopped_for + policy.lease


async def test_nothing_is_claimed_before_the_others_can_know_of_it() -> None:
    store = Store(hung="beat")
    async with dispatching(store):
        await asyncio.sleep(10 * QUICK.poll)
        assert "claim" not in store.called
    store = Store()
    async with dispatching(store), asyncio.timeout(PATIENCE):
        while "claim" not in store.called:
            await asyncio.sleep(0.01)
    assert store.called.index("beat") < store.called.index("claim")


async def test_a_loop_that_comes_round_again_is_well() -> None:
    rounds = Rounds(patience_seconds=0.01)
    rounds.check()
    rounds.came("reaping", 0)
    rounds.came("claiming", NEVER)
    await asyncio.sleep(0.05)
    with pytest.raises(RuntimeError, match=r"hang: reaping$"):
        rounds.check()
    rounds.came("reaping", NEVER)
    rounds.check()
