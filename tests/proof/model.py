"""What a task's life is: a pure model that every store of tasks has to agree with.

It says what each call to a store must answer and what clients must see afterwards, in the store's own words (`Start`,
`Beat`, `Complete`, `Fail`, `Release`, `ClaimedTask`), and nothing of how rows are kept. Time is a number of seconds
that the caller gives with each call. Its table of moves is written out here on purpose: it is the promise, not a copy
of the code.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from compute.dispatch.retry import Failure, RetryPolicy
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import Beat, ClaimedTask, Complete, Expired, Fail, Lease, Release, Start, Write

__all__ = ["ENDS", "LEASED", "MOVES", "Asked", "Ended", "Model", "ModelTask", "Unknown"]

MOVES = {
    "PENDING": {"QUEUED", "CANCELLED", "FAILED"},
    "QUEUED": {"EXECUTING", "PENDING", "CANCELLED", "FAILED"},
    "EXECUTING": {"COMPLETED", "FAILED", "CANCELLED", "PENDING"},
    "COMPLETED": set[str](),
    "FAILED": set[str](),
    "CANCELLED": set[str](),
}
ENDS = frozenset(status for status, targets in MOVES.items() if not targets)
LEASED = frozenset({"QUEUED", "EXECUTING"})
_LEADS_TO: dict[type, str] = {Start: "EXECUTING", Complete: "COMPLETED", Fail: "FAILED", Release: "PENDING"}


class Unknown(Exception):
    """There is no such task."""


class Ended(Exception):
    """The task's state forbids it."""


@dataclass(frozen=True)
class Asked:
    """What a client asks for."""

    id: UUID
    queue: str = "inference"
    tenant: str = "default"
    priority: int = 1
    max_retries: int | None = None
    webhook_url: str | None = None
    key: str | None = None


@dataclass
class ModelTask:
    asked: Asked
    place: int
    status: str = "PENDING"
    fence: int = 0
    retry_count: int = 0
    errors: list[str] = field(default_factory=list)
    error_category: str | None = None
    progress: float = 0.0
    result: Any = None
    owner: str | None = None
    lease_until: float = 0.0
    run_after: float = 0.0
    moves: list[str] = field(default_factory=lambda: ["PENDING"])

    @property
    def lease(self) -> Lease:
        return Lease(self.asked.id, self.fence)


class Model:
    """All tasks, and what became of them. `on_end` hears of each end in the moment in which it happens."""

    def __init__(self, on_end: Callable[[ModelTask, float], None] = lambda _task, _now: None) -> None:
        self.tasks: dict[UUID, ModelTask] = {}
        self._keys: dict[str, UUID] = {}
        self._served: dict[tuple[str, str], int] = {}
        self._turn = 0
        self._on_end = on_end

    def accept(self, asked: Asked, now: float) -> UUID:
        """Which task the client has now: the first one of its key; the same one, when it is asked for again."""
        if asked.key is not None:
            first = self._keys.setdefault(asked.key, asked.id)
            if first != asked.id:
                return first
        if asked.id not in self.tasks:
            self.tasks[asked.id] = ModelTask(asked, len(self.tasks), run_after=now)
        return asked.id

    def get(self, task_id: UUID) -> ModelTask:
        try:
            return self.tasks[task_id]
        except KeyError:
            raise Unknown(task_id) from None

    def ready(self, queue: str, now: float, locked: Collection[UUID] = ()) -> list[ModelTask]:
        """What may be claimed, in the order in which it is: by priority, then in turns between tenants, then by age."""
        waiting = [
            task
            for task in self.tasks.values()
            if task.asked.queue == queue and task.status == "PENDING" and task.run_after <= now
        ]
        waiting.sort(key=lambda task: task.place)
        turns: dict[tuple[int, str], int] = {}

        def rank(task: ModelTask) -> tuple[int, int, int, int]:
            asked = task.asked
            turn = turns.setdefault((asked.priority, asked.tenant), self._busy(queue, asked.tenant)) + 1
            turns[asked.priority, asked.tenant] = turn
            return -asked.priority, turn, self._served.get((queue, asked.tenant), 0), task.place

        ranked = [(rank(task), task) for task in waiting]
        return [task for _, task in sorted(ranked, key=lambda pair: pair[0]) if task.asked.id not in locked]

    def claim(
        self, queue: str, limit: int, *, owner: str, until: float, now: float, locked: Collection[UUID] = ()
    ) -> list[ClaimedTask]:
        return [self.take(task, owner=owner, until=until) for task in self.ready(queue, now, locked)[:limit]]

    def take(self, task: ModelTask, *, owner: str, until: float) -> ClaimedTask:
        """PENDING → QUEUED, under a new fence."""
        self._move(task, "QUEUED")
        task.fence += 1
        task.owner, task.lease_until = owner, until
        self._turn += 1
        self._served[task.asked.queue, task.asked.tenant] = self._turn
        return ClaimedTask(task.lease, "GENERATION", task.retry_count, "{}", task.asked.max_retries)

    def write(self, write: Write, *, now: float, until: float) -> bool:
        """Whether the lease still held; if not, nothing changes. What was written before counts as written, once.
        `until`: when a lease that is renewed now runs out."""
        task = self.tasks.get(write.lease.task_id)
        if task is None or task.fence != write.lease.fence:
            return False
        if task.status == _LEADS_TO.get(type(write)):
            return True
        if task.status not in LEASED:
            return False
        match write:
            case Start():
                return self._start(task)
            case Beat(percent=percent):
                task.lease_until = until
                task.progress = max(task.progress, percent)
            case Complete(result=result, started=started):
                if not ((started and self._start(task)) or task.status == "EXECUTING"):
                    return False
                task.result, task.progress, task.error_category = result, 100.0, None
                self._end(task, "COMPLETED", now)
            case Fail(category=category, message=message):
                self._blame(task, category, message)
                self._end(task, "FAILED", now)
            case Release(delay_seconds=delay, error=error):
                self._put_back(task, delay, error, now)
        return True

    def write_all(self, writes: Sequence[Write], *, now: float, until: float) -> list[bool]:
        """Starts first, ends last, at once."""
        order = (Start, Beat, Complete, Fail, Release)
        held: dict[int, bool] = {}
        for number, write in sorted(enumerate(writes), key=lambda pair: order.index(type(pair[1]))):
            held[number] = self.write(write, now=now, until=until)
        ended = {write.lease for number, write in enumerate(writes) if isinstance(write, Complete) and held[number]}
        # What is completed was started.
        return [
            held[number] or (isinstance(write, Start) and write.lease in ended) for number, write in enumerate(writes)
        ]

    def expired(self, now: float) -> list[ModelTask]:
        return [task for task in self.tasks.values() if task.status in LEASED and task.lease_until < now]

    def reap(self, tasks: Iterable[ModelTask], policy: RetryPolicy, now: float) -> int:
        """Put back whose lease ran out. It is charged a try only for what it began."""
        count = 0
        for task in list(tasks):
            count += 1
            attempt = Expired(task.lease, task.retry_count, task.asked.max_retries, task.owner, task.status != "QUEUED")
            gone = Failure(ErrorCategory.INTERNAL, f"Its Dispatcher ({task.owner}) died or was cut off.")
            end = policy.failed(attempt, gone) if attempt.begun else policy.lost(attempt, gone)
            self.write(end, now=now, until=now)
        return count

    def end(self, task_id: UUID, status: str, category: ErrorCategory | None, now: float) -> ModelTask:
        """End a task from outside: a cancel, or a client's own verdict. What its worker still says is dropped."""
        task = self.get(task_id)
        if status not in MOVES[task.status]:
            raise Ended(task.status)
        task.fence += 1
        if category is not None:
            task.error_category = str(category)
        self._end(task, status, now)
        return task

    def cancel(self, task_id: UUID, now: float) -> ModelTask:
        return self.end(task_id, "CANCELLED", ErrorCategory.CANCELLED, now)

    def delete(self, task_id: UUID) -> None:
        if self.get(task_id).status not in ENDS:
            raise Ended(self.tasks[task_id].status)
        del self.tasks[task_id]

    def _busy(self, queue: str, tenant: str) -> int:
        return sum(
            task.status in LEASED and task.asked.queue == queue and task.asked.tenant == tenant
            for task in self.tasks.values()
        )

    def _start(self, task: ModelTask) -> bool:
        if task.status != "QUEUED":
            return False
        self._move(task, "EXECUTING")
        return True

    def _put_back(self, task: ModelTask, delay: float, error: tuple[ErrorCategory, str] | None, now: float) -> None:
        if error is not None:
            self._blame(task, *error)
            task.retry_count += 1
        task.progress, task.run_after = 0.0, now + delay
        task.owner, task.lease_until = None, 0.0
        self._move(task, "PENDING")

    def _blame(self, task: ModelTask, category: ErrorCategory, message: str) -> None:
        task.errors.append(message)
        task.error_category = str(category)

    def _end(self, task: ModelTask, status: str, now: float) -> None:
        task.owner, task.lease_until = None, 0.0
        self._move(task, status)
        self._on_end(task, now)

    def _move(self, task: ModelTask, status: str) -> None:
        if status not in MOVES[task.status]:
            raise AssertionError(f"{task.status} → {status}")
        task.status = status
        task.moves.append(status)
