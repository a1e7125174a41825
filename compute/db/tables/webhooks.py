"""Webhooks that must be sent, and the tries to send them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import NOW, Base

__all__ = ["RECEIVER", "WebhookAttempt", "WebhookDelivery"]

RECEIVER = "lower(left(split_part(split_part(split_part(url, '/', 3), '?', 1), '#', 1) COLLATE \"C\", 255))"
"""The receiver of a delivery, in SQL: the authority of its URL in lower case. No longer than a name that resolves with
its port, so that any URL fits into an index."""


class WebhookDelivery(Base):
    """A webhook that must reach its URL: the outbox. It outlives its task, so `payload` is complete."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    task_id: Mapped[UUID]
    url: Mapped[str]
    payload: Mapped[dict[str, Any]]
    traceparent: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="PENDING")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=NOW)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        # Each receiver's waiting deliveries are a part of their own, so a dead one's backlog is stepped over at once.
        Index(
            "webhook_deliveries_receiver",
            text(RECEIVER),
            "next_attempt_at",
            postgresql_where=text("status = 'PENDING'"),
        ),
        # Whatever waits for too long.
        Index("webhook_deliveries_age", "created_at", postgresql_where=text("status = 'PENDING'")),
        Index("webhook_deliveries_task", "task_id"),
    )


class WebhookAttempt(Base):
    """One try at a delivery: the log an operator reads when a receiver says that nothing came."""

    __tablename__ = "webhook_attempts"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"))
    attempted_at: Mapped[datetime] = mapped_column(server_default=NOW)
    status_code: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None]
    duration_ms: Mapped[int] = mapped_column(Integer)

    __table_args__ = (Index("webhook_attempts_delivery", "delivery_id", "id"),)
