"""Queues as a client sees them."""

from collections.abc import Mapping
from datetime import datetime

from compute.monitoring.queues import TRAINING_QUEUE, QueueState
from compute.requests.serving import Serving
from compute.schemas.monitoring.queues import QueueStats, QueueStatsResponse

__all__ = ["present_queues"]


def present_queues(states: Mapping[str, QueueState], serving: Serving, now: datetime) -> QueueStatsResponse:
    """Every queue that is served or has work, by name."""
    served = {pool.queue for pool in serving.queues.values()} | {TRAINING_QUEUE}
    queues = [_queue(name, states.get(name, QueueState())) for name in sorted(served | states.keys())]
    return QueueStatsResponse(
        queues=queues,
        total_pending=sum(queue.depth for queue in queues),
        total_active=sum(queue.active_tasks for queue in queues),
        timestamp=now,
    )


def _queue(name: str, state: QueueState) -> QueueStats:
    wait = state.average_wait
    return QueueStats(
        name=name,
        depth=state.depth,
        active_tasks=state.active,
        reserved_tasks=state.reserved,
        avg_wait_time_ms=None if wait is None else round(1000 * wait, 3),
        tasks_completed_last_hour=state.completed,
        tasks_failed_last_hour=state.failed,
        oldest_waiting_seconds=None if state.oldest_seconds is None else round(state.oldest_seconds, 3),
        pending=state.depth,
        running=state.active,
    )
