"""Whatever is done to tasks, in whatever order and by whom: the store does what the model of their life says."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from compute.dispatch.retry import RetryPolicy
from compute.schemas.enums import ErrorCategory
from compute.tasks.ids import new_task_id
from compute.tasks.leases import Beat, Complete, Fail, Lease, Release, Start, Write
from tests.integration.dispatch.real_store import RealStore
from tests.proof.history import Accepted, Cancelled, History, Received, Seen
from tests.proof.model import ENDS, Asked, Ended, Model, ModelTask, Unknown

T = TypeVar("T")
CLAIMERS = 3
RECEIVER = "receiver.test"
KINDS = ["start", "beat", "complete", "both", "fail", "hand back", "retry"]
HELD, DEAD = 3600.0, -3600.0
"""Seconds for which a lease holds: for the whole test, or not even until it is given."""
POLICY = RetryPolicy(max_retries=1, backoff_seconds=0.0, free_losses=1000)

few = st.lists(st.integers(1, 4), min_size=1, max_size=CLAIMERS)


class Life(RuleBasedStateMachine):
    """Each call goes to the model and to the store, and both must give the same answer; then all tasks are compared."""

    tasks = Bundle("tasks")
    leases = Bundle("leases")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = RealStore(url, CLAIMERS)
        self.model = Model(self._ended)
        self.history = History()
        self.queue = f"queue-{uuid4().hex}"
        self.now = 0.0
        self.untold: dict[UUID, str] = {}
        self.deleted: set[UUID] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        self.now = getattr(self, "now", 0.0) + 1
        return self.runner.run(work)

    def _ended(self, task: ModelTask, now: float) -> None:
        if task.asked.webhook_url:
            self.untold[task.asked.id] = task.status

    def _until(self, lease_seconds: float) -> float:
        return self.now + 1e9 if lease_seconds > 0 else self.now - 1

    @initialize(target=tasks, tenants=st.lists(st.sampled_from("abc"), min_size=2, max_size=5))
    def crowd(self, tenants: list[str]) -> Any:
        asked = [Asked(new_task_id(), self.queue, tenant) for tenant in tenants]
        for one in asked:
            # One after the other: who comes first is part of the promise.
            self._accepted(one, self.do(self.store.accept([one])))
        return multiple(*(one.id for one in asked))

    @rule(
        target=tasks,
        tenant=st.sampled_from("abc"),
        priority=st.integers(0, 3),
        max_retries=st.sampled_from([None, 0, 2]),
        webhook=st.booleans(),
        key=st.sampled_from([None, None, "k", "l"]),
    )
    def accept(self, tenant: str, priority: int, max_retries: int | None, webhook: bool, key: str | None) -> UUID:
        url = f"http://{RECEIVER}/hook" if webhook else None
        named = f"{self.queue}-{key}" if key else None
        asked = Asked(new_task_id(), self.queue, tenant, priority, max_retries, url, named)
        return self._accepted(asked, self.do(self.store.accept([asked])))

    def _accepted(self, asked: Asked, given: list[UUID]) -> UUID:
        expected = self.model.accept(asked, self.now)
        assert given == [expected]
        self.history.note(Accepted(at=self.now, task=str(expected), webhook=asked.webhook_url is not None))
        return expected

    @rule(target=leases, limits=few, dead=st.booleans())
    def claim(self, limits: list[int], dead: bool) -> Any:
        """Several at once: together they take what one would have taken, each no more than it asked for."""
        return self._claim(limits, dead, ())

    @rule(target=leases, task=tasks, limits=few)
    def claim_while_one_is_locked(self, task: UUID, limits: list[int]) -> Any:
        """One locked row costs nobody else."""

        async def claim() -> list[Any]:
            async with self.store.held(task):
                return await self.store.claim(self.queue, limits, HELD)

        return self._claim(limits, False, [task], claim())

    def _claim(self, limits: list[int], dead: bool, locked: Any, work: Any = None) -> Any:
        seconds = DEAD if dead else HELD
        batches = self.do(work or self.store.claim(self.queue, limits, seconds))
        assert all(len(batch) <= limit for batch, limit in zip(batches, limits, strict=True))
        taken = [one for batch in batches for one in batch]
        expected = self.model.ready(self.queue, self.now, locked)[: sum(limits)]
        assert len({one.lease.task_id for one in taken}) == len(taken), "claimed twice"
        if len(limits) == 1:
            assert {one.lease.task_id for one in taken} == {task.asked.id for task in expected}, "not whose turn it was"
        assert len(taken) == len(expected)
        for one in taken:
            task = self.model.get(one.lease.task_id)
            given = self.model.take(task, owner="somebody", until=self._until(seconds))
            assert (one.lease, one.retry_count, one.max_retries) == (given.lease, given.retry_count, given.max_retries)
        return multiple(*(one.lease for one in taken))

    @rule(
        held=st.lists(leases, min_size=1, max_size=4, unique=True),
        kinds=st.lists(st.sampled_from(KINDS), min_size=4, max_size=4),
        percent=st.floats(0, 100),
        silent=st.booleans(),
    )
    def report(self, held: list[Lease], kinds: list[str], percent: float, silent: bool) -> None:
        """Any lease that ever was may report anything, in a batch with others; the fence and the status decide."""
        writes = [write for lease, kind in zip(held, kinds, strict=False) for write in _writes(kind, lease, percent)]
        self._report(writes, DEAD if silent else HELD)

    @rule(lease=leases, kinds=st.lists(st.sampled_from(["start", "beat", "complete"]), min_size=1, max_size=3))
    def run_on(self, lease: Lease, kinds: list[str]) -> None:
        """What one run reports, one after the other; half of it twice, because its answer was lost."""
        for kind in kinds:
            for _ in range(1 + (kind != "beat")):
                self._report(_writes(kind, lease, 50.0), HELD)

    def _report(self, writes: list[Write], seconds: float) -> None:
        expected = self.model.write_all(writes, now=self.now, until=self._until(seconds))
        assert self.do(self.store.write(writes, seconds)) == expected

    @rule()
    def reap(self) -> None:
        dead = self.model.expired(self.now)
        assert self.do(self.store.reap(POLICY)) == len(dead)
        self.model.reap(dead, POLICY, self.now)

    @rule(task=tasks, status=st.sampled_from(["CANCELLED", "FAILED", "COMPLETED"]))
    def end(self, task: UUID, status: str) -> None:
        category = ErrorCategory.CANCELLED if status == "CANCELLED" else ErrorCategory.INTERNAL
        outcomes = []
        for act in (lambda: self.do(self.store.end(task, status)), lambda: self._end(task, status, category)):
            try:
                act()
                outcomes.append(None)
            except (Ended, Unknown) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        if status == "CANCELLED" and outcomes == [None, None]:
            self.history.note(Cancelled(at=self.now, task=str(task)))

    def _end(self, task: UUID, status: str, category: ErrorCategory) -> None:
        self.model.end(task, status, category, self.now)

    @rule(some=st.lists(tasks, min_size=1, max_size=4, unique=True))
    def cancel_all(self, some: list[UUID]) -> None:
        ended = self.do(self.store.cancel_all(some))
        open_ones = {task for task in some if task in self.model.tasks and self.model.tasks[task].status not in ENDS}
        assert ended == open_ones
        for task in ended:
            self.model.cancel(task, self.now)
            self.history.note(Cancelled(at=self.now, task=str(task)))

    @precondition(lambda self: self.untold)
    @rule(status_code=st.sampled_from([200, 500]))
    def deliver(self, status_code: int) -> None:
        """Every end is told to its receiver, again and again until it is taken; then no more."""
        sent = self.do(self.store.deliver(RECEIVER, status_code))
        assert {one.task_id: one.payload["status"] for one in sent} == self.untold
        for one in sent:
            self.history.note(
                Received(at=self.now, task=str(one.task_id), message=str(one.id), status=one.payload["status"])
            )
        if status_code == 200:
            self.untold.clear()

    @invariant()
    def all_agree(self) -> None:
        tasks = list(self.model.tasks.values())
        for task, shown in zip(tasks, self.do(self.store.shown([task.asked.id for task in tasks])), strict=True):
            assert (shown.status, shown.retry_count) == (task.status, task.retry_count)
            assert len(shown.errors) == len(task.errors)
            assert (shown.progress, shown.error_category) == (task.progress, task.error_category)
            assert shown.result == task.result
            self.history.note(
                Seen(
                    at=self.now,
                    asked=self.now,
                    task=str(task.asked.id),
                    status=shown.status,
                    progress=shown.progress,
                    retries=shown.retry_count,
                    attempt=task.fence,
                )
            )

    def teardown(self) -> None:
        if self.model.tasks:
            self.do(self.store.cancel_all(list(self.model.tasks)))
            self.do(self.store.deliver(RECEIVER, 200))
        self.do(self.store.close())
        self.runner.close()
        faults = self.history.faults()
        assert faults == []


def _writes(kind: str, lease: Lease, percent: float) -> list[Write]:
    started, completed = Start(lease, "replica", "test"), Complete(lease, {"artifacts": []})
    writes: dict[str, list[Write]] = {
        "start": [started],
        "beat": [Beat(lease, percent)],
        "complete": [completed],
        "both": [started, completed],
        "fail": [Fail(lease, ErrorCategory.INTERNAL, "broken")],
        "hand back": [Release(lease)],
        "retry": [Release(lease, error=(ErrorCategory.INTERNAL, "broken"))],
    }
    return writes[kind]


def test_the_store_agrees_with_the_model_of_a_tasks_life(database_url: str) -> None:
    run_state_machine_as_test(
        lambda: Life(database_url),
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            derandomize=True,
            # A history that fails is short enough to be read, and hundreds of tries to shorten it take minutes.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
