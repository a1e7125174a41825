"""Workers: written by those who hear of them, and read with what their silence means.

A worker of which nothing was heard for `STALE`, by the database's clock, is unhealthy: it hangs, its node is out of
reach, or there is no Dispatcher to hear of it. One that is silent and that Ray has no more is gone. Several clusters
may work on one database: each has its own Ray, and says nothing about the workers of another.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import and_, delete, func, not_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.session import Database
from compute.db.tables import Worker
from compute.worker.vitals import Vitals

__all__ = ["STALE", "WorkerSeen", "note", "seen_workers", "workers_by_queue"]

STALE = timedelta(seconds=15)
_MISSED = timedelta(seconds=6)
"""Three heartbeats. What Ray last said of replicas may be old, empty for a moment after a restart, or of another
cluster: one that was heard of since is there."""
_LOST = timedelta(seconds=60)
"""One of which nothing is known but that it was silent for so long is gone."""
_KEPT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker's row, and how it is. `fresh`: it was heard of lately."""

    row: Worker
    fresh: bool
    gone: bool

    @property
    def status(self) -> Literal["busy", "idle", "unhealthy", "gone"]:
        if self.gone:
            return "gone"
        if not self.fresh or self.row.hangs:
            return "unhealthy"
        return "busy" if self.row.active else "idle"

    @property
    def well(self) -> bool:
        return self.status in ("busy", "idle")

    @property
    def has_capacity(self) -> bool:
        """Whether it would take another task now."""
        return self.well and self.row.active + self.row.reserved < self.row.capacity


async def note(
    database: Database,
    heard: Iterable[Vitals],
    *,
    cluster: str,
    application: str | None = None,
    deployments: Collection[str] = (),
    alive: Collection[str] = (),
) -> None:
    """Write what was heard of workers of a `cluster`, and of Serve's `application` there. Of its `deployments` those
    have gone that are silent and not `alive`; of others, and of other clusters, nothing is known but how long they have
    been silent.

    Raises:
        DatabaseAway: the database is away.
    """
    whose = {"cluster": cluster, "application": application}
    rows = [_row(vitals) | whose for vitals in sorted(heard, key=lambda vitals: vitals.station.id)]
    async with database.transaction() as session:
        if rows:
            given = insert(Worker).values(rows)
            latest = {name: given.excluded[name] for name in rows[0] if name != "id"}
            await session.execute(
                given.on_conflict_do_update(
                    index_elements=["id"], set_=latest | {"seen_at": func.now(), "gone_at": None}
                )
            )
        known = and_(Worker.cluster.is_not_distinct_from(cluster), Worker.deployment.in_(list(deployments)))
        missing = and_(known, Worker.id.not_in(list(alive)), Worker.seen_at < func.now() - _MISSED)
        left = or_(missing, and_(not_(known), Worker.seen_at < func.now() - _LOST))
        gone = select(Worker.id).where(Worker.gone_at.is_(None), left).order_by(Worker.id)
        ids = list(await session.scalars(gone.with_for_update(skip_locked=True)))
        if ids:
            await session.execute(update(Worker).where(Worker.id.in_(ids)).values(gone_at=func.now()))
        await session.execute(delete(Worker).where(Worker.gone_at < func.now() - _KEPT))


def _row(vitals: Vitals) -> dict[str, Any]:
    gpu = vitals.gpu
    return {
        "id": vitals.station.id,
        "name": vitals.name,
        "deployment": vitals.station.deployment,
        "host": vitals.host,
        "pid": vitals.pid,
        "queues": list(vitals.station.queues),
        "concurrency": vitals.station.concurrency,
        "capacity": vitals.station.capacity,
        "active": vitals.active,
        "reserved": vitals.reserved,
        "completed": vitals.completed,
        "per_minute": vitals.per_minute,
        "memory": vitals.memory,
        "hangs": vitals.hangs,
        "gpu_name": gpu and gpu.name,
        "gpu_utilization": gpu and gpu.utilization,
        "gpu_memory": gpu and gpu.memory_used,
        "gpu_memory_total": gpu and gpu.memory_total,
    }


async def seen_workers(session: AsyncSession, *, with_gone: bool = False) -> tuple[Sequence[WorkerSeen], datetime]:
    """The workers by name, without those that have gone unless they are asked for; and the database's time."""
    now = (await session.execute(select(func.now()))).scalar_one()
    wanted = select(Worker).order_by(Worker.name, Worker.id)
    if not with_gone:
        # With no Dispatcher nobody says who is gone.
        wanted = wanted.where(Worker.gone_at.is_(None), Worker.seen_at >= now - _KEPT)
    rows = await session.scalars(wanted)
    return [WorkerSeen(row, now - row.seen_at <= STALE, row.gone_at is not None) for row in rows], now


def workers_by_queue(workers: Iterable[WorkerSeen]) -> Mapping[str, int]:
    """How many workers take the tasks of each queue and are well."""
    counts: dict[str, int] = {}
    for worker in workers:
        if worker.well:
            for queue in worker.row.queues:
                counts[queue] = counts.get(queue, 0) + 1
    return counts
