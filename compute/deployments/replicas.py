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


class ReplicaCounter:
    """Keeps `running` of each pool up to date.

    Serve's own status costs 80 ms of CPU. The names of its replicas' actors cost one call to Ray's directory, and
    while they stay as they were when all of them ran, nothing has changed.
    """

    def __init__(self, app_name: str, pools: Sequence[ServePool]) -> None:
        self._app_name = app_name
        self._pools = pools
        self._settled: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Count until cancelled; while Ray does not answer, the numbers age."""
        while True:
            try:
                await asyncio.to_thread(self._count)
            except Exception as error:
                _log.warning("Ray does not say which replicas run: %s", error)
            await asyncio.sleep(_INTERVAL_SECONDS)

    def _count(self) -> None:
        names = self._actor_names()
        if names and names == self._settled:
            return
        deployments = serve.status().applications[self._app_name].deployments
        for pool in self._pools:
            pool.running = deployments[pool.name].replica_states.get("RUNNING", 0)
        everyone_runs = sum(pool.running for pool in self._pools) == len(names)
        self._settled = names if everyone_runs else frozenset()

    def _actor_names(self) -> frozenset[str]:
        prefixes = tuple(f"SERVE_REPLICA::{self._app_name}#{pool.name}#" for pool in self._pools)
        actors = ray.util.list_named_actors(all_namespaces=True)
        return frozenset(actor["name"] for actor in actors if actor["name"].startswith(prefixes))
