"""Metrics of one ingress process."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from sqlalchemy.pool import QueuePool

from compute.db.session import Database
from compute.metrics.collection import MetricCollection
from compute.metrics.families import POOL, Sample
from compute.requests.serving import Serving
from compute.settings import Settings

__all__ = ["OwnMetrics", "open_metrics"]


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


@asynccontextmanager
async def open_metrics(database: Database, serving: Serving, settings: Settings) -> AsyncIterator[MetricCollection]:
    """What this ingress process answers at /metrics."""
    collection = MetricCollection(
        database,
        served={pool.queue for pool in serving.queues.values()},
        currency=settings.currency,
        own=OwnMetrics(database),
    )
    yield collection
    await collection.close()
