"""Queues as a client sees them."""

from collections.abc import Mapping
from datetime import datetime

from compute.monitoring.queues import TRAINING_QUEUE, QueueState
from compute.requests.serving import Serving
from compute.schemas.monitoring.queues import QueueStats, QueueStatsResponse

__all__ = ["present_queues", "served_queues"]


def served_queues(serving: Serving) -> set[str]:
    """The queues that a pool, or providers elsewhere, are configured for."""
    return {pool.queue for pool in serving.queues.values()}


def present_queues(
    states: Mapping[str, QueueState], workers: Mapping[str, int], serving: Serving, now: datetime
) -> QueueStatsResponse:
    """Every queue that is served or has work, by name."""
    names = served_queues(serving) | {TRAINING_QUEUE} | states.keys() | workers.keys()
    queues = [_queue(name, states.get(name, QueueState()), workers.get(name, 0)) for name in sorted(names)]
    return QueueStatsResponse(
        queues=queues,
        total_pending=sum(queue.depth for queue in queues),
        total_active=sum(queue.active_tasks for queue in queues),
        timestamp=now,
    )


def _queue(name: str, state: QueueState, workers: int) -> QueueStats:
    wait = state.average_wait
    return QueueStats(
        name=name,
        depth=state.depth,
        active_workers=workers,
        active_tasks=state.active,
        reserved_tasks=state.reserved,
        avg_wait_time_ms=None if wait is None else round(1000 * wait, 3),
        tasks_completed_last_hour=state.completed,
        tasks_failed_last_hour=state.failed,
        oldest_waiting_seconds=None if state.oldest_seconds is None else round(state.oldest_seconds, 3),
        pending=state.depth,
        running=state.active,
        workers=workers,
    )
