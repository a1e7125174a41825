"""Paid calls to providers, and the health of the accounts that pay for them."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Double, Index, Numeric, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import NOW, Base

__all__ = [
    "CALLS_OF_NO_TASK",
    "CALLS_OF_TASK",
    "KNOWN_CALLS",
    "OPEN_CALLS",
    "Evaluations",
    "ProviderAccount",
    "ProviderCall",
    "TaskText",
]

# What the rows of the partial indices are. Who walks one says the same, word for word.
OPEN_CALLS = "state IN ('INTENT', 'ACCEPTED')"
KNOWN_CALLS = "vendor_id IS NOT NULL"
CALLS_OF_NO_TASK = "task_id IS NULL"
CALLS_OF_TASK = "task_id IS NOT NULL"


class ProviderCall(Base):
    """One paid call: see `compute.providers.calls.call` for its states. Only `compute.providers.ledger` writes it.

    `fence` is that of the run that made it, `part` what it is of its task, `attempt` counts the calls for one part.
    `account` tells accounts apart without telling their keys. `result` is what was stored of the answer, `amount` what
    it cost in the currency of the price table. `requests` is the log of what went over the wire. `task_id` is NULL for
    calls without a task, whose part alone says what they are. `settled` is who found out what became of an uncertain
    one, and how: an operator's action, or `webhook`.
    """

    __tablename__ = "provider_calls"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    task_id: Mapped[UUID | None]
    fence: Mapped[int | None] = mapped_column(BigInteger)
    part: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    tenant: Mapped[str | None]
    task_type: Mapped[str | None]
    provider: Mapped[str]
    vendor: Mapped[str]
    account: Mapped[str]
    endpoint: Mapped[str]
    state: Mapped[str]
    vendor_id: Mapped[str | None]
    addresses: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None]
    error_category: Mapped[str | None]
    requests: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    units: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    amount: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    accepted_at: Mapped[datetime | None]
    uncertain_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    settled: Mapped[str | None]
    settled_at: Mapped[datetime | None]

    __table_args__ = (
        Index("provider_calls_of_task", "task_id", "provider", "part", "attempt", unique=True),
        Index("provider_calls_of_no_task", "part", "attempt", postgresql_where=text(CALLS_OF_NO_TASK)),
        Index("provider_calls_open", "vendor", "account", postgresql_where=text(OPEN_CALLS)),
        Index("provider_calls_of_vendor", "vendor", "vendor_id", postgresql_where=text(KNOWN_CALLS)),
        Index("provider_calls_of_account", "vendor", "account", "created_at"),
        # What the list of calls walks along, newest first.
        Index("provider_calls_created", text("created_at DESC"), text("id DESC")),
        Index("provider_calls_of_state", "state", "created_at", "id"),
        Index("provider_calls_of_provider", "provider", "created_at", "id"),
        Index("provider_calls_of_task_in_time", "task_id", "created_at", "id", postgresql_where=text(CALLS_OF_TASK)),
    )


class ProviderAccount(Base):
    """The health of one account at one vendor, and what it may do: shared by all replicas.

    `failures` are those in a row. After `openings` openings of its circuit breaker it is left alone until `open_until`;
    then one call, which may take until `probe_until`, finds out how it is. `paused_until` is what it asked for itself.
    """

    __tablename__ = "provider_accounts"

    vendor: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default="0")
    openings: Mapped[int] = mapped_column(server_default="0")
    open_until: Mapped[datetime | None]
    probe_until: Mapped[datetime | None]
    paused_until: Mapped[datetime | None]


class Evaluations(Base):
    """How many images a vendor's model has evaluated within one hour, and how. `refused` are those that it would not
    look at, `seconds` is the time that all of them took."""

    __tablename__ = "evaluations"

    vendor: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(BigInteger)
    succeeded: Mapped[int] = mapped_column(BigInteger)
    refused: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Double)


class TaskText(Base):
    """The text that a task's run has said so far. A run with a later fence begins anew."""

    __tablename__ = "task_texts"

    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str]
