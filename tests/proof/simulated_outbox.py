"""The webhook sender's store on the model, and receivers that are not always well."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from compute.webhooks.retry import AttemptOutcome, DeliveryStatus
from compute.webhooks.store import ClaimedDelivery, DeliveryAttempt, DuePage, Lottery, LotteryResult, Settled
from tests.proof.clock import pause
from tests.proof.history import Received
from tests.proof.outbox import Delivery
from tests.proof.world import Process, World

__all__ = ["SimulatedDeliveries", "SimulatedReceivers"]

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedDeliveries:
    """Implements `DeliveryStore` for one sender process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def due(self, after: str | None, most: int) -> DuePage:
        def look() -> DuePage:
            waiting = {_receiver(one) for one in self._world.outbox.due(self._world.database_now())}
            names = sorted(name for name in waiting if after is None or name > after)
            return DuePage(names[:most], names[most - 1] if len(names) > most else None)

        return await self._process.call("due", look, DuePage([], None), writes=False)

    async def claim(self, quotas: Mapping[str, int], lease_seconds: float) -> Sequence[ClaimedDelivery]:
        def claim() -> list[ClaimedDelivery]:
            now = self._world.database_now()
            left = dict(quotas)
            claimed = []
            for one in self._world.outbox.due(now):
                if left.get(receiver := _receiver(one), 0) > 0:
                    left[receiver] -= 1
                    one.next_at = now + lease_seconds
                    claimed.append(_claimed(one, now))
            return claimed

        return await self._process.call("claim webhooks", claim, [])

    async def claim_by_lottery(self, lots: Mapping[str, Lottery], lease_seconds: float) -> LotteryResult:
        def claim() -> LotteryResult:
            now = self._world.database_now()
            due = self._world.outbox.due(now)
            claimed = []
            for receiver, lot in lots.items():
                for one in self._drawn([one for one in due if _receiver(one) == receiver], lot):
                    one.next_at = now + lease_seconds
                    claimed.append(_claimed(one, now))
            return LotteryResult(claimed, {})

        return await self._process.call("claim webhooks by lot", claim, LotteryResult([], {}))

    def _drawn(self, due: Sequence[Delivery], lot: Lottery) -> list[Delivery]:
        nths: Counter[str] = Counter()
        drawn = []
        for one in due:
            path = one.url.partition("?")[0]
            weight = lot.weights.get(path, 0.0)
            if path not in lot.weights or (weight is not None and not nths[path]):
                drawn.append((nths[path], self._world.chance.random() + (weight or 0.0), one))
            nths[path] += 1
        return [one for *_, one in sorted(drawn, key=lambda entry: entry[:2])[: lot.quota]]

    async def settle(self, attempts: Sequence[DeliveryAttempt]) -> Sequence[Settled]:
        def settle() -> list[Settled]:
            return [self._settled(attempt) for attempt in attempts]

        return await self._process.call("settle webhooks", settle, [Settled.GONE] * len(attempts))

    def _settled(self, attempt: DeliveryAttempt) -> Settled:
        one = self._world.outbox.deliveries[attempt.claimed.id]
        one.attempts += 1
        ours = one.status == DeliveryStatus.PENDING and _at(one.next_at) == attempt.claimed.leased_until
        if one.status != DeliveryStatus.PENDING or not (ours or attempt.outcome.delivered):
            return Settled.LATE
        one.status = str(attempt.verdict.status)
        one.next_at = self._world.database_now() + attempt.verdict.delay
        return Settled.MOVED

    async def expire(self, max_age: float, most: int) -> int:
        def expire() -> int:
            now = self._world.database_now()
            old = [one for one in self._world.outbox.due(now) if now - one.created > max_age][:most]
            for one in old:
                one.status = "FAILED"
            return len(old)

        return await self._process.call("expire webhooks", expire, 0)

    async def close(self) -> None:
        """Nothing is open."""


class SimulatedReceivers:
    """`post` as the sender knows it. What is received may be answered badly, late or never."""

    def __init__(self, process: Process, timeout_seconds: float) -> None:
        self._process = process
        self._timeout = timeout_seconds

    async def post(self, claimed: ClaimedDelivery) -> AttemptOutcome:
        world, begun = self._process.world, self._process.world.now()
        world.point(self._process, "post: sent")
        await self._process.living()
        await pause(world.chance.uniform(0.001, 0.3))
        await self._process.living()
        trouble = self._trouble(world)
        if trouble != "refused" and not world.over:
            world.tell(f"{self._process.name}: {claimed.receiver} gets {claimed.payload} ({trouble})")
            task, status = str(claimed.task_id), claimed.payload["status"]
            world.history.note(Received(at=world.now(), task=task, message=str(claimed.id), status=status))
        if trouble == "silent" and not world.over:
            await pause(self._timeout)
        world.point(self._process, "post: done")
        await self._process.living()
        status_code = {"refused": 503, "silent": None}.get(trouble, 204)
        error = None if status_code == 204 else trouble
        return AttemptOutcome(_at(begun), round((world.now() - begun) * 1000), status_code, error)

    def _trouble(self, world: World) -> str:
        if not world.calm() and world.chance.random() < world.weather.bad_receiver:
            return world.chance.choice(["refused", "silent"])
        return "well"


def _receiver(delivery: Delivery) -> str:
    return delivery.url.split("/")[2]


def _claimed(one: Delivery, now: float) -> ClaimedDelivery:
    payload = {"status": one.end}
    return ClaimedDelivery(
        one.id, one.task_id, one.url, _receiver(one), payload, _at(one.next_at), one.attempts, now - one.created
    )


def _at(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
