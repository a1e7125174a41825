"""Faults on purpose: what the proof is there to find, one at a time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from uuid import UUID

from compute.db.away import DatabaseAway
from compute.dispatch.dispatcher import Dispatcher
from compute.dispatch.retry import RetryPolicy
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import ClaimedTask, Complete, Lease, Write
from compute.webhooks.sender import SendPolicy, WebhookSender
from compute.webhooks.store import ClaimedDelivery, DeliveryAttempt, Lottery, LotteryResult, Settled
from tests.proof.fleet import SimulatedPool
from tests.proof.model import Model, ModelTask
from tests.proof.parts import POLICY, REAL, Parts, Runs
from tests.proof.simulated_outbox import SimulatedDeliveries, SimulatedReceivers
from tests.proof.simulated_store import SimulatedStore
from tests.proof.weather import Weather
from tests.proof.world import Process

__all__ = ["PLANTED"]


class _NoFence(Model):
    """Takes whatever anybody says of a task for the word of its last claim."""

    def write(self, write: Write, *, now: float, until: float) -> bool:
        task = self.tasks.get(write.lease.task_id)
        fence = task.fence if task else 0
        return super().write(replace(write, lease=Lease(write.lease.task_id, fence)), now=now, until=until)


class _SameFence(Model):
    """Claims again under the fence that the attempt before had."""

    def take(self, task: ModelTask, *, owner: str, until: float) -> ClaimedTask:
        claimed = super().take(task, owner=owner, until=until)
        task.fence = 1
        return claimed._replace(lease=task.lease)


class _EndsFirst(Model):
    """Writes an end before the start that came with it."""

    def write_all(self, writes: Sequence[Write], *, now: float, until: float) -> list[bool]:
        held = {id(one): self.write(one, now=now, until=until) for one in writes if isinstance(one, Complete)}
        return [held[id(one)] if id(one) in held else self.write(one, now=now, until=until) for one in writes]


class _Charges(Model):
    """Charges a try for what had not begun."""

    def reap(self, tasks: Iterable[ModelTask], policy: RetryPolicy, now: float) -> int:
        for task in tasks:
            if task.status == "QUEUED":
                task.status = "EXECUTING"
        return super().reap(tasks, policy, now)


class _LosesEvent(Model):
    """Does not log that a task began."""

    def _start(self, task: ModelTask) -> bool:
        started = super()._start(task)
        if started:
            task.moves.pop()
        return started


class _EndsTwice(Model):
    """Cancels what has ended."""

    def end(self, task_id: UUID, status: str, category: ErrorCategory | None, now: float) -> ModelTask:
        task = self.get(task_id)
        if task.status == "COMPLETED":
            task.status = "EXECUTING"
        return super().end(task_id, status, category, now)


class _NeverReaps(Model):
    """Leaves with the dead what was theirs."""

    def reap(self, tasks: Iterable[ModelTask], policy: RetryPolicy, now: float) -> int:
        return 0


class _GivesUp(SimulatedStore):
    """Says of what could not be written that its lease was lost."""

    async def write(self, writes: Sequence[Write], *, lease_seconds: float) -> Sequence[bool | None]:
        try:
            return await super().write(writes, lease_seconds=lease_seconds)
        except DatabaseAway:
            return [False] * len(writes)


class _Deaf(Dispatcher):
    """Lets a cancelled run go on."""

    def _launch(self, claimed: ClaimedTask, pool: SimulatedPool) -> None:  # type: ignore[override]
        super()._launch(claimed, pool)
        self._runs[claimed.lease.task_id].abandon = lambda: None  # type: ignore[method-assign]


class _OtherStatus(SimulatedDeliveries):
    """Tells a receiver that a task has failed, and the next time that it has not."""

    async def claim(self, quotas: dict[str, int], lease_seconds: float) -> Sequence[ClaimedDelivery]:
        claimed = await super().claim(quotas, lease_seconds)
        return [replace(one, payload={"status": "COMPLETED"}) for one in claimed]

    async def claim_by_lottery(self, lots: Mapping[str, Lottery], lease_seconds: float) -> LotteryResult:
        drawn = await super().claim_by_lottery(lots, lease_seconds)
        return replace(drawn, claimed=[replace(one, payload={"status": "COMPLETED"}) for one in drawn.claimed])


class _ForgetsRefused(SimulatedDeliveries):
    """Takes a refusal for a success."""

    def _settled(self, attempt: DeliveryAttempt) -> Settled:
        settled = super()._settled(attempt)
        self._world.outbox.deliveries[attempt.claimed.id].status = "DELIVERED"
        return settled


def _with_model(model: type[Model]) -> Parts:
    return replace(REAL, model=model)


def _with_store(store: type[SimulatedStore]) -> Parts:
    def make(process: Process, pool: SimulatedPool) -> Runs:
        return Dispatcher(store(process), [pool], POLICY, process.name)

    return replace(REAL, dispatcher=make)


def _deaf(process: Process, pool: SimulatedPool) -> Runs:
    return _Deaf(SimulatedStore(process), [pool], POLICY, process.name)


def _with_deliveries(deliveries: type[SimulatedDeliveries]) -> Parts:
    def make(process: Process) -> Runs:
        chance = Random(process.world.chance.random())
        post = SimulatedReceivers(process, 15.0).post
        return WebhookSender(deliveries(process), post, policy=SendPolicy(poll=2.0), chance=chance)

    return replace(REAL, sender=make)


@dataclass(frozen=True)
class Planted:
    """A fault, the promises of which one has to notice, and the weather in which it shows if not in any."""

    parts: Parts
    promises: set[str]
    weather: Weather | None = None


_SPLIT = Weather(tasks=25, dispatchers=2, replicas=6, cuts=[(4.0, 22.0), (5.0, 22.0)])
"""Some dispatcher reports when its tasks are others' already."""
_AWAY = Weather(mild=True, tasks=25, replicas=4, reserve=2, away=[(4.0, 8.5), (20.0, 24.5)])
"""Writes gather, a start and its end among them."""
_DEADLY = Weather(tasks=9, replicas=1, reserve=3, kills=[8.0, 14.0, 20.0, 26.0])
_CANCELLED = Weather(mild=True, tasks=9, replicas=4, cancels=0.5)
_REFUSING = Weather(tasks=6, bad_receiver=0.6)

PLANTED = {
    "no fence": Planted(_with_model(_NoFence), {"the_last_claim_alone_ends_it"}, _SPLIT),
    "the same fence": Planted(_with_model(_SameFence), {"a_fence_publishes_once"}, _DEADLY),
    "ends before starts": Planted(_with_model(_EndsFirst), {"small_troubles_cost_no_attempt"}, _AWAY),
    "charged for nothing": Planted(_with_model(_Charges), {"only_what_began_is_charged"}, _DEADLY),
    "a lost event": Planted(_with_model(_LosesEvent), {"its_events_follow_the_table"}),
    "two ends": Planted(_with_model(_EndsTwice), {"it_ends_once", "an_end_stays"}, _CANCELLED),
    "no reaper": Planted(_with_model(_NeverReaps), {"an_accepted_task_ends"}, _DEADLY),
    "gives up": Planted(_with_store(_GivesUp), {"small_troubles_cost_no_attempt"}, _AWAY),
    "deaf to a cancel": Planted(replace(REAL, dispatcher=_deaf), {"nothing_lives_after_a_cancel"}, _CANCELLED),
    "another status": Planted(_with_deliveries(_OtherStatus), {"it_ends_once"}),
    "a webhook forgotten": Planted(_with_deliveries(_ForgetsRefused), {"webhooks_arrive_at_least_once"}, _REFUSING),
}
