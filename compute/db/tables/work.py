"""Counts of tasks, workflows and trainings, and what happened to them by the minute and hour.

Triggers (the migration `work_counts` and those after it) write a row of news for each statement that changes what is
counted; now and then news are added to the counts and the history (`compute.monitoring.fold`). Whoever reads adds the
news to what it reads.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Double, Identity, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import Base

__all__ = ["BEYOND", "LABELS", "WorkLabel", "WorkNews", "WorkSum", "WorkTime"]

_ZERO = "0"

LABELS = 200
"""So many installations, zones, and pairs of them have sums of their own, for each tenant and over all tenants."""
BEYOND = "*" * 201
"""The label of the sums of all others. It is longer than any that a caller can send."""


class WorkSum(Base):
    """How many units of one kind (`task`, `workflow`, `training`) there are in one status, without cleaned-up ones.

    Tasks that have not ended have the status `OPEN`. `whole` rows are the sums over all tenants, whose own is empty.
    Without labels (both empty) a row is the sum over all installations and zones; with one of them, the sum over the
    other; with both, that of the pair. What a kind does not have is empty. The numbers of workflows' steps are in rows
    without a status.
    """

    __tablename__ = "work_sums"

    kind: Mapped[str] = mapped_column(primary_key=True)
    whole: Mapped[bool] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    origin_instance: Mapped[str] = mapped_column(primary_key=True)
    origin_zone: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    steps: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)


class WorkTime(Base):
    """What happened within one minute or hour (`span`). It outlives the units. Labels are as in `WorkSum`.

    `waited` is the sum of the seconds from creation to the first start of those that started, `ran` that from there to
    the end of those that were completed.
    """

    __tablename__ = "work_times"

    kind: Mapped[str] = mapped_column(primary_key=True)
    span: Mapped[str] = mapped_column(primary_key=True)
    whole: Mapped[bool] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    origin_instance: Mapped[str] = mapped_column(primary_key=True)
    origin_zone: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    started: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    completed: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    failed: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    cancelled: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    waited: Mapped[float] = mapped_column(Double, server_default=_ZERO)
    ran: Mapped[float] = mapped_column(Double, server_default=_ZERO)

    # What is too old, for which the primary key would be read from end to end.
    __table_args__ = (Index("work_times_age", "span", "at"),)


class WorkLabel(Base):
    """Labels, or a pair of them, that have sums of their own: a bounded number for each tenant, and over all tenants.

    Once there are more, a row with the label `BEYOND` says so for good: the sums of all others are under it.
    """

    __tablename__ = "work_labels"

    whole: Mapped[bool] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    origin_instance: Mapped[str] = mapped_column(primary_key=True)
    origin_zone: Mapped[str] = mapped_column(primary_key=True)


class WorkNews(Base):
    """What one statement has changed, until it is folded in. Nobody waits for a row that all of them change.

    `number` and `steps` are differences, `closed` is how many were OPEN before. `ended` is the number of those that
    came to `status` just then.
    """

    __tablename__ = "work_news"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str]
    at: Mapped[datetime]
    tenant: Mapped[str]
    origin_instance: Mapped[str]
    origin_zone: Mapped[str]
    queue: Mapped[str]
    type: Mapped[str]
    provider: Mapped[str]
    status: Mapped[str]
    number: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    closed: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    steps: Mapped[int] = mapped_column(BigInteger, server_default=_ZERO)
    created: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    started: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    ended: Mapped[int] = mapped_column(Integer, server_default=_ZERO)
    waited: Mapped[float] = mapped_column(Double, server_default=_ZERO)
    ran: Mapped[float] = mapped_column(Double, server_default=_ZERO)
