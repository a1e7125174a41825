"""Which rows are next: by priority, then in turns between tenants, then by age.

Within a priority, a tenant's n-th candidate gets the turn `n + what the tenant already has running`, and the
lowest turns go first; between equal turns the tenant that was served longest ago. However much one tenant submits,
the others' next task waits for one round, not for a backlog, and that holds for a pool of one as well.

The lanes (priority, tenant) are found by hopping along the partial index from one to the next, and only as many of
them as there are rows to take are looked into, so the cost follows the tenants that wait, not the rows.
"""

from collections.abc import Iterable

from sqlalchemy import CTE, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Task, TenantTurn
from compute.tasks import store

__all__ = ["claim_fairly"]

_FAIR_ORDER = """
WITH RECURSIVE lanes AS (
    (SELECT priority, tenant FROM tasks
      WHERE queue = :queue AND status = 'PENDING'
      ORDER BY priority DESC, tenant DESC LIMIT 1)
    UNION ALL
    SELECT hop.priority, hop.tenant FROM lanes CROSS JOIN LATERAL (
        SELECT priority, tenant FROM tasks
         WHERE queue = :queue AND status = 'PENDING'
           AND (priority, tenant) < (lanes.priority, lanes.tenant)
         ORDER BY priority DESC, tenant DESC LIMIT 1) AS hop
), running AS (
    SELECT tenant, count(*) AS busy FROM tasks
     WHERE queue = :queue AND status IN ('QUEUED', 'EXECUTING')
     GROUP BY tenant
), next_lanes AS (
    SELECT lanes.priority, lanes.tenant, coalesce(running.busy, 0) AS busy, turns.served_at
      FROM lanes
      LEFT JOIN running USING (tenant)
      LEFT JOIN tenant_turns AS turns ON turns.queue = :queue AND turns.tenant = lanes.tenant
     CROSS JOIN LATERAL (
        SELECT created_at FROM tasks
         WHERE queue = :queue AND status = 'PENDING'
           AND priority = lanes.priority AND tenant = lanes.tenant AND run_after <= clock_timestamp()
         ORDER BY created_at, id LIMIT 1) AS head
     ORDER BY lanes.priority DESC, busy, turns.served_at NULLS FIRST, head.created_at
     LIMIT :limit
), candidates AS (
    SELECT oldest.id, next_lanes.priority, next_lanes.served_at, oldest.created_at,
           next_lanes.busy + row_number() OVER (
               PARTITION BY next_lanes.priority, next_lanes.tenant ORDER BY oldest.created_at, oldest.id) AS turn
      FROM next_lanes CROSS JOIN LATERAL (
        SELECT id, created_at FROM tasks
         WHERE queue = :queue AND status = 'PENDING'
           AND priority = next_lanes.priority AND tenant = next_lanes.tenant AND run_after <= clock_timestamp()
         ORDER BY created_at, id LIMIT :limit) AS oldest
)
SELECT tasks.id FROM tasks JOIN candidates ON candidates.id = tasks.id
 WHERE tasks.status = 'PENDING'
 ORDER BY candidates.priority DESC, candidates.turn, candidates.served_at NULLS FIRST, candidates.created_at
 LIMIT :limit
   FOR UPDATE OF tasks SKIP LOCKED
"""


async def claim_fairly(
    session: AsyncSession, queue: str, limit: int, *, owner: str, lease_seconds: float
) -> list[Task]:
    """Claim up to `limit` waiting tasks of `queue` in fair order, and note whose turn it was."""
    tasks = await store.claim(session, _next_ready(queue, limit), owner=owner, lease_seconds=lease_seconds)
    await _note_turns(session, queue, {task.tenant for task in tasks})
    return tasks


def _next_ready(queue: str, limit: int) -> CTE:
    return text(_FAIR_ORDER).bindparams(queue=queue, limit=limit).columns(Task.id).cte("chosen")


async def _note_turns(session: AsyncSession, queue: str, tenants: Iterable[str]) -> None:
    # In one order everywhere, so that two dispatchers never wait for each other in a circle.
    turns = [{"queue": queue, "tenant": tenant, "served_at": func.clock_timestamp()} for tenant in sorted(tenants)]
    if turns:
        statement = insert(TenantTurn).values(turns)
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["queue", "tenant"], set_={"served_at": statement.excluded.served_at}
            )
        )
