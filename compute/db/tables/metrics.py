"""Sums of what processes have counted, for metrics that must be right whichever process is asked."""

from sqlalchemy import ARRAY, BigInteger, Double, Text
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import Base

__all__ = ["MetricSum"]


class MetricSum(Base):
    """One series of a counter or a histogram: how many values there were in each bucket, and their sum.

    `labels` are the values of the labels in the order of the instrument. `bounds` are those of the buckets, of which
    the last one has none; a version with other bounds begins the series anew.
    """

    __tablename__ = "metric_sums"

    name: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text), primary_key=True)
    bounds: Mapped[list[float]] = mapped_column(ARRAY(Double))
    counts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    total: Mapped[float] = mapped_column(Double)

    # The same few rows are written again and again: room on the page keeps the index out of it.
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)
