"""A model of the webhooks' outbox: one message for each end that somebody wants to be told of."""

from dataclasses import dataclass
from random import Random
from uuid import UUID

from tests.proof.model import ModelTask

__all__ = ["Delivery", "Outbox"]


@dataclass
class Delivery:
    """`status` as the outbox has it: PENDING, DELIVERED, FAILED."""

    id: UUID
    task_id: UUID
    url: str
    end: str
    created: float
    next_at: float
    status: str = "PENDING"
    attempts: int = 0


class Outbox:
    def __init__(self) -> None:
        self.deliveries: dict[UUID, Delivery] = {}
        self._ids = Random("deliveries")

    def enter(self, task: ModelTask, now: float) -> None:
        """In the moment in which the task ends."""
        if task.asked.webhook_url is not None:
            delivery_id = UUID(int=self._ids.getrandbits(128), version=4)
            self.deliveries[delivery_id] = Delivery(
                delivery_id, task.asked.id, task.asked.webhook_url, task.status, now, now
            )

    def due(self, now: float) -> list[Delivery]:
        """The oldest first."""
        found = [one for one in self.deliveries.values() if one.status == "PENDING" and one.next_at <= now]
        return sorted(found, key=lambda one: one.next_at)

    def untold(self) -> bool:
        return any(one.status == "PENDING" for one in self.deliveries.values())
