"""The life of a task: one table of allowed transitions, and nothing else changes a status.

PENDING    accepted; waits for a worker (also after a retry, until `run_after`)
QUEUED     claimed by a dispatcher under a lease; waits for its turn on a replica
EXECUTING  a replica works on it
COMPLETED, FAILED, CANCELLED  the end: exactly one of them, once
"""

from collections.abc import Mapping
from types import MappingProxyType

from compute.schemas.enums import TaskStatus

__all__ = ["LEASED", "TERMINAL", "TRANSITIONS", "can_move", "sources"]

TRANSITIONS: Mapping[TaskStatus, frozenset[TaskStatus]] = MappingProxyType(
    {
        TaskStatus.PENDING: frozenset({TaskStatus.QUEUED, TaskStatus.CANCELLED, TaskStatus.FAILED}),
        TaskStatus.QUEUED: frozenset(
            {TaskStatus.EXECUTING, TaskStatus.PENDING, TaskStatus.CANCELLED, TaskStatus.FAILED}
        ),
        TaskStatus.EXECUTING: frozenset(
            {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.PENDING}
        ),
        TaskStatus.COMPLETED: frozenset(),
        TaskStatus.FAILED: frozenset(),
        TaskStatus.CANCELLED: frozenset(),
    }
)

TERMINAL = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
LEASED = frozenset({TaskStatus.QUEUED, TaskStatus.EXECUTING})


def can_move(source: TaskStatus, target: TaskStatus) -> bool:
    """Whether the table allows `source` → `target`."""
    return target in TRANSITIONS[source]


def sources(target: TaskStatus) -> list[TaskStatus]:
    """The statuses from which `target` can be reached, for the WHERE of an update.

    Example:
        sources(TaskStatus.EXECUTING)  # [TaskStatus.QUEUED]
    """
    return [source for source, targets in TRANSITIONS.items() if target in targets]
