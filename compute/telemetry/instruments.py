"""Counters and histograms of what processes do. They count in memory; `compute.metrics.sums` adds them up in Postgres.

A process that is replaced begins at nothing, and one of several may not be asked: sums in the database are right for
both. What can be read from rows (tasks by status, say) needs no instrument. Labels have few values, which are ours:
never what a caller has sent.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = ["ALL", "Counter", "Histogram", "Instrument", "Labels", "Sums", "drain", "put_back"]

Labels = tuple[str, ...]

SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
LONG = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1800.0)


class Sums(NamedTuple):
    """What was observed: how often in each bucket (the last one has no bound), and the sum of all values."""

    counts: tuple[int, ...]
    total: float

    def plus(self, other: "Sums") -> "Sums":
        return Sums(
            tuple(one + two for one, two in zip(self.counts, other.counts, strict=True)), self.total + other.total
        )


class Instrument:
    """Observations by labels, since they were last taken. Any thread may observe."""

    kind: str

    def __init__(self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name = name
        self.documentation = documentation
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._counts: dict[Labels, list[int]] = {}
        self._totals: dict[Labels, float] = {}
        ALL[name] = self

    def take(self) -> dict[Labels, Sums]:
        """What was observed since the last time."""
        with self._lock:
            counts, self._counts = self._counts, {}
            totals, self._totals = self._totals, {}
        return {labels: Sums(tuple(counts[labels]), totals[labels]) for labels in counts}

    def add(self, labels: Labels, sums: Sums) -> None:
        """Count what was observed elsewhere, or was taken and could not be kept."""
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self.bounds) + 1))
            for index, count in enumerate(sums.counts):
                counts[index] += count
            self._totals[labels] = self._totals.get(labels, 0.0) + sums.total

    def _observe(self, labels: Labels, bucket: int, value: float, times: int = 1) -> None:
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}")
        with self._lock:
            if (counts := self._counts.get(labels)) is None:
                counts = self._counts[labels] = [0] * (len(self.bounds) + 1)
                self._totals[labels] = 0.0
            counts[bucket] += times
            self._totals[labels] += value


class Counter(Instrument):
    """Counts events. The name has no `_total`, which is added where it is shown."""

    kind = "counter"

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, documentation, labels, ())

    def inc(self, *labels: str, by: int = 1) -> None:
        self._observe(labels, 0, by, by)


class Histogram(Instrument):
    """Counts values by size."""

    kind = "histogram"

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str] = (), bounds: Sequence[float] = SHORT
    ) -> None:
        super().__init__(name, documentation, labels, bounds)

    def observe(self, value: float, *labels: str) -> None:
        self._observe(labels, bisect_left(self.bounds, value), value)


ALL: dict[str, Instrument] = {}
"""Those of this process, by name."""

Taken = Mapping[tuple[str, Labels], Sums]


def drain() -> dict[tuple[str, Labels], Sums]:
    """Take what all instruments have observed."""
    return dict(_taken())


def put_back(taken: Taken) -> None:
    """Count what was taken and could not be kept once more."""
    for (name, labels), sums in taken.items():
        ALL[name].add(labels, sums)


def _taken() -> Iterator[tuple[tuple[str, Labels], Sums]]:
    for name, instrument in ALL.items():
        for labels, sums in instrument.take().items():
            yield (name, labels), sums


REQUESTS = Histogram(
    "compute_http_request_duration_seconds",
    "Time from a request's head to the end of its answer, for event streams to its beginning.",
    ("method", "route", "status"),
)
EVENT_LOOP_LAG = Histogram(
    "compute_event_loop_lag_seconds",
    "How late the event loop of a process was, looked at twice a second.",
    ("process",),
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)
TASK_WAITS = Histogram(
    "compute_task_wait_duration_seconds",
    "Time from when a task might run until a Dispatcher claimed it; retries wait anew.",
    ("queue",),
    LONG,
)
TASK_RUNS = Histogram(
    "compute_task_run_duration_seconds",
    "Time from a claim to the end of that attempt: completed, failed, retried, fallback, handed_back or lost.",
    ("task_type", "outcome"),
    LONG,
)
TASK_STAGES = Histogram(
    "compute_task_stage_duration_seconds",
    "Time that completed attempts spent in each stage on a worker.",
    ("task_type", "stage"),
    LONG,
)
DIFFUSION_STEPS = Histogram(
    "compute_diffusion_step_duration_seconds",
    "Time of one denoising step, as the mean of a completed attempt.",
    ("task_type",),
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
TASK_ERRORS = Counter(
    "compute_task_errors",
    "Attempts at tasks that failed, by category, and whether the task ended with it.",
    ("category", "final"),
)
FENCED_WRITES = Counter(
    "compute_fenced_writes",
    "Writes of attempts that came too late, because the lease was lost, and were dropped.",
    ("write",),
)
EXPIRED_LEASES = Counter(
    "compute_expired_leases", "Leases of tasks that ran out, by what became of the task.", ("outcome",)
)
WEBHOOK_ATTEMPTS = Histogram(
    "compute_webhook_attempt_duration_seconds", "Time of one attempt at a webhook.", ("outcome",), SHORT
)
