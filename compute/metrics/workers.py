"""Metrics of workers: sums and means by deployment, because replicas come and go, and each would be a series."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from statistics import mean

from sqlalchemy.ext.asyncio import AsyncSession

from compute.metrics import families as of
from compute.metrics.families import MOST_NAMES, Sample
from compute.monitoring.workers import WorkerSeen, seen_workers

__all__ = ["read_workers"]

_STATUSES = ("busy", "idle", "unhealthy")


async def read_workers(session: AsyncSession) -> list[Sample]:
    """Those of all workers that have not gone."""
    workers, now = await seen_workers(session)
    by_deployment: defaultdict[str, list[WorkerSeen]] = defaultdict(list)
    by_queue: defaultdict[str, list[float]] = defaultdict(list)
    for worker in workers:
        by_deployment[worker.row.deployment].append(worker)
        for queue in worker.row.queues:
            if worker.well and worker.row.gpu_utilization is not None:
                by_queue[queue].append(worker.row.gpu_utilization)
    samples = [Sample(of.QUEUE_GPU, mean(used), (queue,)) for queue, used in sorted(by_queue.items())[:MOST_NAMES]]
    for deployment in sorted(by_deployment)[:MOST_NAMES]:
        there = by_deployment[deployment]
        samples += _of_deployment(deployment, there)
        silence = max((now - worker.row.seen_at).total_seconds() for worker in there)
        samples.append(Sample(of.WORKER_SILENCE, max(silence, 0.0), (deployment,)))
    return samples


def _of_deployment(deployment: str, workers: Iterable[WorkerSeen]) -> Iterator[Sample]:
    statuses: Counter[str] = Counter(worker.status for worker in workers)
    for status in _STATUSES:
        yield Sample(of.WORKERS, statuses[status], (deployment, status))
    rows = [worker.row for worker in workers if worker.well]
    yield Sample(of.WORKER_MEMORY, sum(row.memory for row in rows), (deployment,))
    used = [row.gpu_utilization for row in rows if row.gpu_utilization is not None]
    if used:
        yield Sample(of.WORKER_GPU, mean(used), (deployment,))
        yield Sample(of.WORKER_GPU_MEMORY, sum(row.gpu_memory or 0 for row in rows), (deployment, "used"))
        yield Sample(of.WORKER_GPU_MEMORY, sum(row.gpu_memory_total or 0 for row in rows), (deployment, "total"))
