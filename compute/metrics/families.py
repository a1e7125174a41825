"""The metrics that are read from rows: names, meanings, labels. Those that processes count are
`compute.telemetry.instruments`."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from compute.monitoring.fold import CREATED_METRIC, ENDED_METRIC
from compute.tasks.usage import USAGE_METRIC

__all__ = ["CLUSTER", "MOST_NAMES", "Family", "Sample"]

MOST_NAMES = 100
"""So many queues, deployments and vendors have series of their own."""


class Family(NamedTuple):
    """One metric. A counter's name has no `_total`, which is added where it is shown."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


class Sample(NamedTuple):
    """One value of it."""

    family: Family
    value: float
    labels: Sequence[str] = ()


TASKS = Family("compute_tasks", "Tasks that there are, without those that were cleaned up.", ("status",))
TASKS_BY_TYPE = Family("compute_tasks_by_type", "The same by type.", ("task_type",))
TASKS_BY_PROVIDER = Family("compute_tasks_by_provider", "The same by provider.", ("provider",))
TASKS_ENDED = Family(
    ENDED_METRIC,
    "Tasks that have ended, by how, whatever became of their rows.",
    ("queue", "task_type", "status"),
    "counter",
)
TASKS_CREATED = Family(CREATED_METRIC, "Tasks that were accepted.", ("queue", "task_type"), "counter")
WORKFLOWS = Family("compute_workflows", "Workflows that there are, by status.", ("status",))
TRAININGS = Family("compute_trainings", "Trainings that there are, by status.", ("status",))

QUEUE_WAITING = Family("compute_queue_waiting_tasks", "Tasks that wait in a queue.", ("queue",))
QUEUE_RESERVED = Family(
    "compute_queue_reserved_tasks", "Claimed tasks that wait for their turn at a worker.", ("queue",)
)
QUEUE_RUNNING = Family("compute_queue_running_tasks", "Tasks that a worker has begun.", ("queue",))
QUEUE_OLDEST = Family(
    "compute_queue_oldest_waiting_age_seconds",
    "Age of the oldest task that waits in a queue; 0 if none does.",
    ("queue",),
)
QUEUE_WORKERS = Family(
    "compute_queue_workers", "Warm workers of a queue, as the living Dispatchers see them.", ("queue",)
)
QUEUE_CAPACITY = Family("compute_queue_capacity_tasks", "Tasks that Dispatchers hold for a queue at most.", ("queue",))
QUEUE_GPU = Family(
    "compute_queue_gpu_utilization_ratio", "Mean utilization of the GPUs of the workers that serve a queue.", ("queue",)
)
WORKERS = Family("compute_workers", "Workers by how they are: busy, idle or unhealthy.", ("deployment", "status"))
WORKER_MEMORY = Family("compute_worker_memory_bytes", "Main memory of all workers of a deployment.", ("deployment",))
WORKER_GPU = Family(
    "compute_worker_gpu_utilization_ratio", "Mean utilization of the GPUs of a deployment.", ("deployment",)
)
WORKER_GPU_MEMORY = Family(
    "compute_worker_gpu_memory_bytes", "Memory of these GPUs: used, and all of it.", ("deployment", "kind")
)
WORKER_SILENCE = Family(
    "compute_worker_oldest_heartbeat_age_seconds",
    "How long nothing was heard of the most silent worker of a deployment.",
    ("deployment",),
)
DISPATCHERS = Family("compute_dispatchers", "Dispatchers that have reported within 10 seconds.")

WEBHOOKS_WAITING = Family(
    "compute_webhook_waiting_deliveries", "Webhooks that are not delivered yet; counted up to 50,000."
)
WEBHOOKS_OVERDUE = Family(
    "compute_webhook_overdue_deliveries", "Those of them that might be sent now; counted up to 50,000."
)
WEBHOOKS_OLDEST = Family(
    "compute_webhook_oldest_waiting_age_seconds", "Age of the oldest webhook that is not delivered yet; 0 without one."
)

CALLS = Family(
    "compute_provider_calls",
    "Paid calls that are under way (INTENT, ACCEPTED) or whose outcome is unknown (UNCERTAIN).",
    ("vendor", "state"),
)
CALLS_OLDEST_UNCERTAIN = Family(
    "compute_provider_oldest_uncertain_age_seconds",
    "Age of the oldest paid call whose outcome is unknown; 0 without one.",
    ("vendor",),
)
BREAKERS = Family(
    "compute_provider_breakers_open", "Accounts at a vendor that are left alone, because they failed.", ("vendor",)
)
PAUSES = Family("compute_provider_accounts_paused", "Accounts at a vendor that asked for a pause.", ("vendor",))
USAGE = Family(
    USAGE_METRIC,
    "What tasks and paid calls have used: tasks, calls, images, megapixels, tokens, seconds, credits, GPU seconds.",
    ("provider", "unit"),
    "counter",
)
COST = Family("compute_cost", "What it cost by the prices in the settings.", ("provider", "currency"), "counter")

SNAPSHOT_AGE = Family(
    "compute_database_oldest_snapshot_age_seconds",
    "Age of the oldest transaction that keeps dead rows from being removed.",
)
SNAPSHOT_ROWS = Family(
    "compute_database_oldest_snapshot_age_transactions", "The same in transactions, replication slots included."
)
DATABASE_UP = Family("compute_database_up", "1 if the database has answered this scrape, 0 if it is away.")
SCRAPE_SECONDS = Family(
    "compute_metrics_collection_duration_seconds", "How long this collection took; scrapes within a second share one."
)
POOL = Family(
    "compute_database_pool_connections",
    "Connections of the ingress replica that was asked, and only of that.",
    ("replica", "state"),
)
INFO = Family("compute_build_info", "1; the version is a label.", ("version",))

CLUSTER = tuple(value for value in list(globals().values()) if isinstance(value, Family))
"""All of them."""
