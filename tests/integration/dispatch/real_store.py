"""The store on Postgres, as the model of a task's life speaks to it: by its interfaces alone, no table named."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import UUID

from compute.db.keys import get_row
from compute.db.session import Database
from compute.db.tables import IdempotencyKey, Task
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.errors import Conflict, NotFound
from compute.events.notify import Notifier
from compute.schemas.enums import ErrorCategory, TaskStatus
from compute.tasks import store
from compute.tasks.leases import ClaimedTask, Write
from compute.tasks.submission.writer import Key, Submission, TaskWriter
from compute.webhooks.retry import AttemptOutcome, DeliveryStatus, Verdict
from compute.webhooks.rows import PostgresDeliveryStore
from compute.webhooks.store import ClaimedDelivery as Delivery
from compute.webhooks.store import DeliveryAttempt, Settled
from tests.proof.model import Asked, Ended, Unknown

__all__ = ["RealStore"]


class RealStore:
    """One database, and a dispatcher's store for each of those who claim at once."""

    def __init__(self, url: str, claimers: int) -> None:
        self._database = Database(url)
        self._writer = TaskWriter(self._database, Notifier(self._database))
        self._stores = [PostgresDispatchStore(self._database) for _ in range(claimers)]
        self._deliveries = PostgresDeliveryStore(self._database)

    async def close(self) -> None:
        for one in (*self._stores, self._deliveries):
            await one.close()
        await self._writer.close()
        await self._database.close()

    async def accept(self, asked: Sequence[Asked]) -> list[UUID]:
        """Submit at the same time, one request each; the task that each client has now."""
        earlier = await asyncio.gather(*(self._writer.submit(_submission(one)) for one in asked))
        return [UUID(row.answer) if row else one.id for one, row in zip(asked, earlier, strict=True)]

    async def claim(self, queue: str, limits: Sequence[int], lease_seconds: float) -> list[list[ClaimedTask]]:
        """As many claimers at once as there are limits."""
        return await asyncio.gather(
            *(
                claimer.claim(queue, limit, owner=f"claimer {number}", lease_seconds=lease_seconds)
                for number, (claimer, limit) in enumerate(zip(self._stores, limits, strict=False))
            )
        )

    async def write(self, writes: Sequence[Write], lease_seconds: float) -> list[bool | None]:
        return list(await self._stores[0].write(writes, lease_seconds=lease_seconds))

    async def reap(self, policy: RetryPolicy) -> int:
        return await self._stores[0].reap(policy)

    async def end(self, task_id: UUID, status: str) -> None:
        try:
            async with self._database.transaction() as session:
                if status == "CANCELLED":
                    await store.cancel(session, task_id)
                else:
                    await store.end(session, task_id, TaskStatus(status), error_category=ErrorCategory.INTERNAL)
        except NotFound:
            raise Unknown(task_id) from None
        except Conflict:
            raise Ended(task_id) from None

    async def cancel_all(self, task_ids: Sequence[UUID]) -> set[UUID]:
        async with self._database.transaction() as session:
            return set(await store.cancel_all(session, task_ids))

    @asynccontextmanager
    async def held(self, task_id: UUID) -> AsyncIterator[None]:
        """Inside, the task is locked by a cancel that is taken back in the end; without effect on one that ended."""
        with suppress(_TakenBackError):
            async with self._database.transaction() as session:
                with suppress(NotFound, Conflict):
                    await store.cancel(session, task_id)
                yield
                raise _TakenBackError

    async def shown(self, task_ids: Sequence[UUID]) -> "list[Shown]":
        """The tasks as the API reads them.

        Raises:
            NotFound: one is not there.
        """
        async with self._database.transaction() as session:
            return [Shown(await get_row(session, Task, task_id)) for task_id in task_ids]

    async def deliver(self, receiver: str, status_code: int) -> list[Delivery]:
        """Claim what is due to the receiver, say that it answered so to each, and hand back what was sent."""
        claimed = await self._deliveries.claim({receiver: 100}, lease_seconds=60)
        outcome = AttemptOutcome(datetime.now(UTC), 1, status_code, None if status_code < 300 else "no")
        verdict = Verdict(DeliveryStatus.DELIVERED if outcome.delivered else DeliveryStatus.PENDING)
        settled = await self._deliveries.settle([DeliveryAttempt(one, outcome, verdict) for one in claimed])
        assert set(settled) <= {Settled.MOVED}
        return list(claimed)


class _TakenBackError(Exception):
    """Rolls a transaction back."""


def _submission(asked: Asked) -> Submission:
    task = Task(
        id=asked.id,
        task_type="GENERATION",
        queue=asked.queue,
        tenant=asked.tenant,
        priority=asked.priority,
        max_retries=asked.max_retries,
        webhook_url=asked.webhook_url,
        spec={"num_outputs": 1},
        origin_instance="proof",
    )

    async def row() -> IdempotencyKey:
        return IdempotencyKey(key=asked.key, fingerprint=asked.key, status_code=201, answer=str(asked.id))

    return Submission([task], Key(asked.key, asked.key, row) if asked.key else None)


class Shown:
    """What the model knows of a task, too."""

    def __init__(self, task: Task) -> None:
        self.id = task.id
        self.status = str(task.status)
        self.retry_count = task.retry_count
        self.errors = list(task.errors)
        self.error_category = task.error_category
        self.progress = task.progress
        self.result = task.result
