"""What an ingress process knows by itself."""

import os
import socket
from collections.abc import Iterator

from sqlalchemy.pool import QueuePool

from compute.db.session import Database
from compute.metrics.collection import MetricCollection
from compute.metrics.families import POOL, Sample
from compute.requests.serving import Serving
from compute.settings import Settings

__all__ = ["OwnMetrics", "metrics_of"]


class OwnMetrics:
    """The samples of one process; they say which one it is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._replica = f"{socket.gethostname()}-{os.getpid()}"

    def __call__(self) -> Iterator[Sample]:
        pool = self._database.engine.pool
        if isinstance(pool, QueuePool):
            yield Sample(POOL, pool.checkedout(), (self._replica, "used"))
            yield Sample(POOL, pool.checkedin(), (self._replica, "idle"))


def metrics_of(database: Database, serving: Serving, settings: Settings) -> MetricCollection:
    """What this ingress process answers at /metrics."""
    return MetricCollection(
        database,
        served={pool.queue for pool in serving.queues.values()},
        currency=settings.currency,
        own=OwnMetrics(database),
    )
