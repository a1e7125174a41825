"""Workers as they were last heard of."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, Integer
from sqlalchemy.orm import Mapped, mapped_column

from compute.db.tables.base import NOW, Base

__all__ = ["Worker"]


class Worker(Base):
    """A replica that takes tasks. It tells a Dispatcher of itself, which writes this row.

    `seen_at` is when it was last heard of, by the database's clock; `gone_at` is when Ray had it no more. Memory is in
    bytes, `gpu_utilization` from 0 to 1. `capacity` is how many tasks it holds at a time, `concurrency` how many of
    them it executes. `cluster` is the Ray cluster whose Dispatcher wrote it, `application` that of Serve.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    deployment: Mapped[str]
    cluster: Mapped[str | None]
    application: Mapped[str | None]
    host: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    queues: Mapped[list[Any]]
    concurrency: Mapped[int] = mapped_column(Integer)
    capacity: Mapped[int] = mapped_column(Integer)
    active: Mapped[int] = mapped_column(Integer)
    reserved: Mapped[int] = mapped_column(Integer)
    completed: Mapped[int] = mapped_column(BigInteger)
    per_minute: Mapped[float] = mapped_column(Double)
    memory: Mapped[int] = mapped_column(BigInteger)
    hangs: Mapped[bool]
    gpu_name: Mapped[str | None]
    gpu_utilization: Mapped[float | None] = mapped_column(Double)
    gpu_memory: Mapped[int | None] = mapped_column(BigInteger)
    gpu_memory_total: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    gone_at: Mapped[datetime | None]
