"""How many replicas of each pool are warm, asked of Ray at a price that an idle cluster can pay."""

import asyncio
import logging
from collections.abc import Sequence

import ray.util
from ray import serve

from compute.deployments.pool import ServePool

__all__ = ["ReplicaCounter"]

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 1.0
_INTERVAL_WITH_STANDBY_SECONDS = 0.25
"""A standby is there to shorten a gap; learning of the gap must not be most of it."""


class ReplicaCounter:
    """Tells each pool how many of its replicas run.

    Serve's own status costs 80 ms of CPU. The names of its replicas' actors cost one call to Ray's directory, and
    while they stay as they were when all of them ran, nothing has changed. The directory also knows first: it forgets
    an actor the moment it dies, while Serve's status shows it as running until the next health check.
    """

    def __init__(self, app_name: str, pools: Sequence[ServePool]) -> None:
        self._app_name = app_name
        self._pools = pools
        self._deployments = [name for pool in pools for name in (pool.name, pool.standby_name) if name]
        self._settled: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()
        self._interval = (
            _INTERVAL_WITH_STANDBY_SECONDS if any(pool.has_standby for pool in pools) else _INTERVAL_SECONDS
        )
        for pool in pools:
            pool.recount = self.count

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await self.count()
            await asyncio.sleep(self._interval)

    async def count(self) -> None:
        """Count now; while Ray does not answer, the numbers age."""
        async with self._turn:
            try:
                running = await asyncio.to_thread(self._running)
            except Exception as error:
                _log.warning("Ray does not say which replicas run: %s", error)
                return
            if running is not None:
                for pool in self._pools:
                    pool.counted(running[pool.name], running[pool.standby_name] if pool.standby_name else 0)

    def _running(self) -> dict[str, int] | None:
        """Running replicas by deployment, or None while nothing has changed."""
        names = self._actor_names()
        if names and names == self._settled:
            return None
        alive = {name: sum(actor.startswith(self._prefix(name)) for actor in names) for name in self._deployments}
        status = serve.status().applications[self._app_name].deployments
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
        return f"SERVE_REPLICA::{self._app_name}#{deployment}#"
