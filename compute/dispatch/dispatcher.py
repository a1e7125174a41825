"""The Dispatcher keeps every pool full: claim, run, renew, settle. Several may run; the rows keep them apart."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from compute.db.away import DatabaseAway
from compute.dispatch.pool import Pool
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.rounds import Rounds
from compute.dispatch.run import Run, RunLimits
from compute.dispatch.store import DispatchStore
from compute.dispatch.wellness import Wellness
from compute.dispatch.writer import LeaseWriter
from compute.events import notify
from compute.tasks.leases import ClaimedTask

__all__ = ["DispatchPolicy", "Dispatcher"]

_log = logging.getLogger(__name__)
_LISTENED = 10
"""How often a run is listened for within a lease."""
_MISSED = 8
"""So often without news, and it gives up: before the lease is lost, because it knows better than the reaper."""


@dataclass(frozen=True, slots=True)
class DispatchPolicy:
    """Times in seconds. `poll` stands behind the hints; `pulse` is how often progress is written.

    A run whose worker is not heard of for most of a `lease` gives up. A loop that is late by `hang` hangs.
    """

    lease: float = 15.0
    poll: float = 1.0
    pulse: float = 0.25
    beat: float = 1.0
    forget: float = 3600.0
    add_up: float = 30.0
    task_timeout: float = 3600.0
    queued_timeout: float = 600.0
    hang: float = 120.0
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_retries=3, backoff_seconds=2.0))


class Dispatcher:
    """Runs until cancelled. `owner` names this process in the leases it takes."""

    def __init__(self, store: DispatchStore, pools: Sequence[Pool], policy: DispatchPolicy, owner: str) -> None:
        self._store = store
        self._wellness = Wellness()
        self._pools = list(pools)
        self._policy = policy
        self._owner = owner
        self._writer = LeaseWriter(store, lease_seconds=policy.lease)
        self._runs: dict[UUID, Run] = {}
        self._busy = {pool.queue: 0 for pool in pools}
        self._wake = {pool.queue: asyncio.Event() for pool in pools}
        self._limits = RunLimits(policy.task_timeout, policy.queued_timeout)
        self._known = asyncio.Event()
        self._rounds = Rounds(patience_seconds=policy.hang)

    async def run(self) -> None:
        """Dispatch until cancelled; then hand back what is in flight."""
        writing = asyncio.create_task(self._writer.run(), name="writing")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail_with(writing))
                for loop in self._loops():
                    group.create_task(_for_ever(loop))
        finally:
            await asyncio.shield(self._leave(writing))

    def _loops(self) -> list[Callable[[], Awaitable[None]]]:
        policy = self._policy
        return [
            partial(self._store.listen, [notify.READY, notify.CANCELLED], self._on_notify),
            self._store.send_notifications,
            partial(self._every, policy.pulse, self._pulse, "writing progress"),
            partial(self._every, policy.lease / _LISTENED, self._listen_to_runs, "listening to workers"),
            partial(self._every, policy.beat, self._beat, "telling that it lives"),
            self._reap,
            partial(self._every, policy.forget, self._store.tidy, "tidying"),
            partial(self._every, policy.add_up, self._store.add_up, "adding up what was used"),
            *(partial(self._keep_full, pool) for pool in self._pools),
        ]

    def check(self) -> None:
        """Raises:
        RuntimeError: a loop hangs.
        """
        self._rounds.check()

    async def _keep_full(self, pool: Pool) -> None:
        # The others are to count what is claimed here.
        await self._known.wait()
        while True:
            self._rounds.came(f"claiming from {pool.queue}", self._policy.poll)
            free = pool.capacity() - self._busy[pool.queue]
            if free <= 0 or not await self._claim(pool, free):
                await self._wait(pool)

    async def _wait(self, pool: Pool) -> None:
        wake = self._wake[pool.queue]
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the wake-up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._policy.poll):
                await wake.wait()
        wake.clear()

    async def _claim(self, pool: Pool, limit: int) -> int:
        try:
            claimed = await self._store.claim(pool.queue, limit, owner=self._owner, lease_seconds=self._policy.lease)
        except DatabaseAway as error:
            _log.warning("claiming from %s paused, the database is out of reach: %s", pool.queue, error)
            return 0
        for task in claimed:
            self._launch(task, pool)
        return len(claimed)

    def _launch(self, claimed: ClaimedTask, pool: Pool) -> None:
        def free() -> None:
            self._busy[pool.queue] -= 1
            self._wake[pool.queue].set()

        def forget() -> None:
            self._store.notify(notify.ENDED)
            if self._runs.get(claimed.lease.task_id) is run:
                del self._runs[claimed.lease.task_id]

        self._busy[pool.queue] += 1
        run = Run(claimed, pool, self._writer, self._policy.retry, self._limits, free)
        self._runs[claimed.lease.task_id] = run
        run.when_finished(forget)

    def _on_notify(self, channel: str, payload: str) -> None:
        if channel == notify.READY and payload in self._wake:
            self._wake[payload].set()
        elif channel == notify.CANCELLED:
            with contextlib.suppress(ValueError):
                if run := self._runs.get(UUID(payload)):
                    run.abandon()

    async def _pulse(self) -> None:
        """Write progress when there is any, and renew leases well before they end, of runs whose workers were heard."""
        for run in list(self._runs.values()):
            run.pulse(self._policy.lease / 3)

    async def _listen_to_runs(self) -> None:
        # By times and not by seconds: this loop may have been held up, and all news with it.
        for run in list(self._runs.values()):
            run.listen(_MISSED)

    async def _reap(self) -> None:
        """Reap now and then. When the store was away, or its clock has jumped, owners could not renew their leases in
        time, and get a lease's time for it first."""
        while True:
            self._rounds.came("reaping", self._policy.lease)
            try:
                self._wellness.saw(await self._store.now(), tolerance=self._policy.lease / 3)
                if self._wellness.lasts(self._policy.lease):
                    await self._store.reap(self._policy.retry)
            except DatabaseAway as error:
                _log.warning("reaping later, the database is out of reach: %s", error)
                self._wellness.failed()
            slept_at = asyncio.get_running_loop().time()
            await asyncio.sleep(self._policy.lease / 3)
            if asyncio.get_running_loop().time() - slept_at > 2 * self._policy.lease / 3:
                # This process was stopped, and could renew nothing itself.
                self._wellness.held_up()

    async def _beat(self) -> None:
        """Tell readiness (and monitoring) that this dispatcher lives and what it can reach."""
        pools = {
            pool.queue: {"ready": pool.ready(), "capacity": pool.capacity(), "busy": self._busy[pool.queue]}
            for pool in self._pools
        }
        await self._store.beat(self._owner, pools)
        self._known.set()
        self._wellness.worked()

    async def _every(self, seconds: float, action: Callable[[], Awaitable[object]], what: str) -> None:
        while True:
            self._rounds.came(what, seconds)
            try:
                await action()
            except DatabaseAway as error:
                _log.warning("the database is out of reach, trying again: %s", error)
                self._wellness.failed()
            await asyncio.sleep(seconds)

    async def _leave(self, writing: asyncio.Task[None]) -> None:
        runs = list(self._runs.values())
        for run in runs:
            run.hand_back()
        # Their ends may have to wait, and their leases must last until then.
        renewing = asyncio.create_task(self._every(self._policy.pulse, self._pulse, "writing progress"))
        for run in runs:
            await run.wait()
        renewing.cancel()
        self._writer.close()
        await writing
        await self._store.close()


async def _for_ever(loop: Callable[[], Awaitable[None]]) -> None:
    """Raises:
    RuntimeError: the loop has ended.
    """
    await loop()
    raise RuntimeError("A loop of the Dispatcher has ended.")


async def _fail_with(writing: asyncio.Task[None]) -> None:
    """End the Dispatcher, by the error that ended its writer: without one no run could ever end."""
    await asyncio.wait([writing])
    await writing
