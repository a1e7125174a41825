"""Keys that were given out, and what they and their tenants may use."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import NOW, Base

__all__ = ["ApiKey", "AuditEntry", "ChargedWork", "QuotaUse", "RequestRate", "Tenant"]


class _Limits:
    """What may be used; NULL is without a limit."""

    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    concurrent_tasks: Mapped[int | None] = mapped_column(Integer)
    tasks_per_day: Mapped[int | None] = mapped_column(Integer)


class ApiKey(_Limits, Base):
    """A key that was given out. Its text is nowhere: `hash` is the SHA-256 of its secret part, `previous_hash` that of
    the one before it, which is valid until `previous_until`. `last_used_at` is true to half a minute."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    previous_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None]
    scope: Mapped[str]
    tenant: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        Index("api_keys_created", text("created_at DESC"), text("id DESC")),
        Index("api_keys_of_tenant", "tenant", "created_at", "id", postgresql_where=text("tenant IS NOT NULL")),
    )


class Tenant(_Limits, Base):
    """What all keys of a tenant may use together."""

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(primary_key=True)
    updated_by: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class RequestRate(Base):
    """How many requests of a key or a tenant were let in, or promised to a process, in the minute `minute`.
    `granted` is how many the last process was promised that asked."""

    __tablename__ = "request_rates"

    subject: Mapped[str] = mapped_column(primary_key=True)
    minute: Mapped[datetime]
    used: Mapped[int] = mapped_column(Integer)
    granted: Mapped[int] = mapped_column(Integer)


class QuotaUse(Base):
    """How many tasks of a key or a tenant were accepted on `day`, in UTC. Whoever accepts some has this row locked, so
    that what is open and what was accepted is counted by one at a time."""

    __tablename__ = "quota_uses"

    subject: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date]
    units: Mapped[int] = mapped_column(BigInteger)


class ChargedWork(Base):
    """Work that counts against a limit of open work for as long as it has not ended; `weight` is how many tasks it
    counts as. What has ended is removed when room is needed, and every hour."""

    __tablename__ = "charged_work"

    subject: Mapped[str] = mapped_column(primary_key=True)
    work_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    weight: Mapped[int] = mapped_column(Integer)


class AuditEntry(Base):
    """Who did what: a request that changes something, or that only an administrator may send. Without its body and its
    query. `forwarded_for` is what the request says of itself; `objects` are ids and paths, the first hundred."""

    __tablename__ = "audit_log"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    request_id: Mapped[str]
    key_id: Mapped[UUID | None]
    key_name: Mapped[str]
    tenant: Mapped[str | None]
    address: Mapped[str]
    forwarded_for: Mapped[str | None]
    operation: Mapped[str]
    objects: Mapped[list[Any]]
    status: Mapped[int] = mapped_column(SmallInteger)

    __table_args__ = (
        Index("audit_log_created", text("created_at DESC"), text("id DESC")),
        Index("audit_log_of_key", "key_id", "created_at", "id", postgresql_where=text("key_id IS NOT NULL")),
        Index("audit_log_of_tenant", "tenant", "created_at", "id", postgresql_where=text("tenant IS NOT NULL")),
    )
