"""The Dispatcher keeps every pool full: claim, run, renew, settle. Several may run; the rows keep them apart."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from compute.db.away import DatabaseAway
from compute.dispatch.pool import Pool
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.run import Run
from compute.dispatch.store import DispatchStore
from compute.dispatch.writer import LeaseWriter
from compute.events import hints
from compute.tasks.leases import Beat, Claimed

__all__ = ["DispatchPolicy", "Dispatcher"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DispatchPolicy:
    """Times in seconds. `poll` stands behind the hints; `pulse` is how often progress is written."""

    lease: float = 15.0
    poll: float = 1.0
    pulse: float = 0.25
    beat: float = 1.0
    forget: float = 3600.0
    task_timeout: float = 3600.0
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_retries=3, backoff_seconds=2.0))


class Dispatcher:
    """Runs until cancelled. `owner` names this process in the leases it takes."""

    def __init__(self, store: DispatchStore, pools: Sequence[Pool], policy: DispatchPolicy, owner: str) -> None:
        self._store = store
        self._pools = list(pools)
        self._policy = policy
        self._owner = owner
        self._writer = LeaseWriter(store, lease_seconds=policy.lease)
        self._runs: dict[UUID, Run] = {}
        self._busy = {pool.queue: 0 for pool in pools}
        self._wake = {pool.queue: asyncio.Event() for pool in pools}
        self._renewed_at = 0.0

    async def run(self) -> None:
        """Dispatch until cancelled; then hand back what is in flight."""
        policy = self._policy
        writing = asyncio.create_task(self._writer.run(), name="writing")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail_with(writing))
                group.create_task(self._store.listen([hints.READY, hints.CANCELLED], self._on_hint))
                group.create_task(self._store.send_hints())
                group.create_task(self._every(policy.pulse, self._pulse))
                group.create_task(self._every(policy.beat, self._beat))
                group.create_task(self._reap())
                group.create_task(self._every(policy.forget, self._store.tidy))
                for pool in self._pools:
                    group.create_task(self._keep_full(pool))
        finally:
            await asyncio.shield(self._leave(writing))

    async def _keep_full(self, pool: Pool) -> None:
        while True:
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

    def _launch(self, claimed: Claimed, pool: Pool) -> None:
        def free() -> None:
            self._busy[pool.queue] -= 1
            self._wake[pool.queue].set()

        def forget() -> None:
            self._store.hint(hints.ENDED)
            if self._runs.get(claimed.lease.task_id) is run:
                del self._runs[claimed.lease.task_id]

        self._busy[pool.queue] += 1
        run = Run(claimed, pool, self._writer, self._policy.retry, self._policy.task_timeout, free)
        self._runs[claimed.lease.task_id] = run
        run.when_finished(forget)

    def _on_hint(self, channel: str, payload: str) -> None:
        if channel == hints.READY and payload in self._wake:
            self._wake[payload].set()
        elif channel == hints.CANCELLED:
            with contextlib.suppress(ValueError):
                if run := self._runs.get(UUID(payload)):
                    run.abandon()

    async def _pulse(self) -> None:
        """Write progress when there is any, and renew every lease well before it ends."""
        runs = list(self._runs.values())
        now = asyncio.get_running_loop().time()
        due = now - self._renewed_at >= self._policy.lease / 3
        if not runs or not (due or any(run.has_news for run in runs)):
            return
        held = await asyncio.gather(*(self._writer.put(Beat(run.lease, run.report())) for run in runs))
        self._renewed_at = now
        for run, holds in zip(runs, held, strict=True):
            if not holds:
                run.abandon()

    async def _reap(self) -> None:
        """Reap now and then; but when the store was away, its owners could not renew their leases either: they get the
        time for it first."""
        while True:
            try:
                await self._store.reap(self._policy.retry)
                pause = self._policy.lease / 3
            except DatabaseAway as error:
                _log.warning("reaping later, the database is out of reach: %s", error)
                pause = self._policy.lease
            await asyncio.sleep(pause)

    async def _beat(self) -> None:
        """Tell readiness (and monitoring) that this dispatcher lives and what it can reach."""
        pools = {
            pool.queue: {"ready": pool.ready(), "capacity": pool.capacity(), "busy": self._busy[pool.queue]}
            for pool in self._pools
        }
        await self._store.beat(self._owner, pools)

    async def _every(self, seconds: float, action: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await action()
            except DatabaseAway as error:
                _log.warning("the database is out of reach, trying again: %s", error)
            await asyncio.sleep(seconds)

    async def _leave(self, writing: asyncio.Task[None]) -> None:
        runs = list(self._runs.values())
        for run in runs:
            run.hand_back()
        for run in runs:
            await run.wait()
        self._writer.close()
        await writing
        await self._store.close()


async def _fail_with(writing: asyncio.Task[None]) -> None:
    """End the Dispatcher, by the error that ended its writer: without one no run could ever end."""
    await asyncio.wait([writing])
    await writing
