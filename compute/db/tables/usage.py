"""What was used, in sums that outlive the tasks."""

from datetime import date
from decimal import Decimal

from sqlalchemy import BigInteger, Double, Identity, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import Base

__all__ = ["UsageDay", "UsageNews"]

_NONE = "0"


class _Sums:
    """Sums of tasks and calls. `amount` is in the currency of the settings at that time."""

    tasks: Mapped[int] = mapped_column(BigInteger, server_default=_NONE)
    calls: Mapped[int] = mapped_column(BigInteger, server_default=_NONE)
    images: Mapped[float] = mapped_column(Double, server_default=_NONE)
    megapixels: Mapped[float] = mapped_column(Double, server_default=_NONE)
    input_tokens: Mapped[float] = mapped_column(Double, server_default=_NONE)
    output_tokens: Mapped[float] = mapped_column(Double, server_default=_NONE)
    seconds: Mapped[float] = mapped_column(Double, server_default=_NONE)
    credits: Mapped[float] = mapped_column(Double, server_default=_NONE)
    gpu_seconds: Mapped[float] = mapped_column(Double, server_default=_NONE)
    amount: Mapped[Decimal] = mapped_column(Numeric(18, 6), server_default=_NONE)


class UsageDay(_Sums, Base):
    """The sums of one day (UTC), tenant, type of tasks and provider. Of calls without a task, tenant and type are
    empty."""

    __tablename__ = "usage_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    task_type: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)


class UsageNews(_Sums, Base):
    """What one write has added, until it is added to `usage_days`. Nobody waits for a row that all of them change."""

    __tablename__ = "usage_news"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    day: Mapped[date]
    tenant: Mapped[str]
    task_type: Mapped[str]
    provider: Mapped[str]
