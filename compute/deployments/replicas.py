"""Counts the warm replicas of each pool by asking Ray, cheaply enough for an idle cluster."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

import ray.util
from ray import serve

from compute.deployments.pool import ServePool

__all__ = ["ReplicaCounter", "ReplicaDirectory"]

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 1.0
_INTERVAL_WITH_STANDBY_SECONDS = 0.25
"""Short, because a standby is there to shorten a gap: detecting the gap must not be most of it."""


class ReplicaCounter:
    """Keeps each pool's number of running replicas up to date.

    Ray is asked in a thread, one call at a time. While it does not answer, the numbers age; once they are older than
    `patience_seconds`, no replica counts as warm, and no further task is claimed for the pools.
    """

    def __init__(
        self,
        ask: Callable[[], Mapping[str, int] | None],
        pools: Sequence[ServePool],
        *,
        deadline_seconds: float = 5.0,
        patience_seconds: float = 60.0,
    ) -> None:
        """`ask` blocks; it returns the running replicas by deployment, or None while nothing has changed."""
        self._ask = ask
        self._pools = pools
        self._deadline_seconds = deadline_seconds
        self._patience_seconds = patience_seconds
        self._running: Mapping[str, int] | None = None
        self._asking: asyncio.Task[Mapping[str, int] | None] | None = None
        self._answered_at: float | None = None
        self._is_old = False
        self._interval = (
            _INTERVAL_WITH_STANDBY_SECONDS if any(pool.has_standby for pool in pools) else _INTERVAL_SECONDS
        )
        for pool in pools:
            pool.recount = self.count

    async def run(self) -> None:
        """Count until cancelled."""
        self._answered_at = asyncio.get_running_loop().time()
        while True:
            await self.count()
            await asyncio.sleep(self._interval)

    async def count(self) -> None:
        """Ask now, and wait for the answer for a limited time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_seconds):
                if self._asking is not None:
                    # The running call may have begun before the change that caused this one.
                    await asyncio.wait([self._asking])
                if self._asking is None:
                    self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
                    self._asking.add_done_callback(self._answered)
                await asyncio.wait([self._asking])
        self._age()

    def _answered(self, asking: "asyncio.Task[Mapping[str, int] | None]") -> None:
        self._asking = None
        if asking.cancelled():
            return
        if (error := asking.exception()) is not None:
            _log.warning("Ray does not say which replicas run: %s", error)
            return
        self._answered_at = asyncio.get_running_loop().time()
        if (answer := asking.result()) is not None:
            self._running = answer
        if self._running is not None:
            self._tell(self._running)

    def _age(self) -> None:
        now = asyncio.get_running_loop().time()
        is_old = self._answered_at is not None and now - self._answered_at > self._patience_seconds
        if is_old and not self._is_old:
            _log.error("Ray has not said for %g s which replicas run; none counts now", self._patience_seconds)
            self._tell({})
        self._is_old = is_old

    def _tell(self, running: Mapping[str, int]) -> None:
        for pool in self._pools:
            pool.counted(running.get(pool.name, 0), running.get(pool.standby_name, 0) if pool.standby_name else 0)


class ReplicaDirectory:
    """Asks Ray for the number of running replicas of an application's deployments.

    Serve's own status costs 80 ms of CPU. The names of its replicas' actors cost one call to Ray's directory, and
    while they are the same as when all replicas ran, nothing has changed. The directory is also quicker: it drops an
    actor the moment it dies, while Serve's status shows it as running until the next health check.
    """

    def __init__(self, application: str, pools: Sequence[ServePool]) -> None:
        self.application = application
        self._deployments = [name for pool in pools for name in (pool.name, pool.standby_name) if name]
        self._settled: frozenset[str] = frozenset()
        self._names: frozenset[str] | None = None

    @property
    def deployments(self) -> Sequence[str]:
        """The names of the deployments whose replicas it knows."""
        return self._deployments

    @property
    def alive(self) -> frozenset[str] | None:
        """`deployment#replica` of each replica whose actor was there when Ray last answered; None if it never did."""
        if self._names is None:
            return None
        return frozenset(name.partition("#")[2] for name in self._names)

    def running(self) -> dict[str, int] | None:
        """Running replicas by deployment, or None while nothing has changed."""
        self._names = names = self._actor_names()
        if names and names == self._settled:
            return None
        alive = {name: sum(actor.startswith(self._prefix(name)) for actor in names) for name in self._deployments}
        status = serve.status().applications[self.application].deployments
        running = {
            name: min(status[name].replica_states.get("RUNNING", 0), count) if name in status else 0
            for name, count in alive.items()
        }
        self._settled = names if sum(running.values()) == len(names) else frozenset()
        return running

    def _actor_names(self) -> frozenset[str]:
        prefixes = tuple(self._prefix(name) for name in self._deployments)
        actors = ray.util.list_named_actors(all_namespaces=True)
        return frozenset(actor["name"] for actor in actors if actor["name"].startswith(prefixes))

    def _prefix(self, deployment: str) -> str:
        return f"SERVE_REPLICA::{self.application}#{deployment}#"
