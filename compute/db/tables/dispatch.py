"""State that Dispatchers share with each other and the API."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import NOW, Base

__all__ = ["DispatcherBeat", "Leader", "TenantTurn"]


class TenantTurn(Base):
    """The time at which a tenant was last served from a queue, so that tenants take turns."""

    __tablename__ = "tenant_turns"

    queue: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    served_at: Mapped[datetime]


class DispatcherBeat(Base):
    """A living dispatcher and the pools it sees; readiness is read from here, not asked of Ray."""

    __tablename__ = "dispatchers"

    id: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    pools: Mapped[dict[str, Any]]


class Leader(Base):
    """The process that does a work which is of no use twice; any other may take it over when the time is up."""

    __tablename__ = "leaders"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    expires_at: Mapped[datetime]
