"""Which rows are next: by priority, then fair across tenants, then by age.

Within a priority, a tenant's n-th candidate gets the turn `n + what the tenant already has running`, and the
lowest turns go first: however much one tenant submits, the others' next task waits for one round, not for a
backlog. The lanes (priority, tenant) are found by hopping along the partial index from one to the next, so the
cost follows the number of tenants that wait, not the number of rows, finished or waiting.
"""

from sqlalchemy import CTE, text

from compute.db.tables import Task

__all__ = ["next_ready"]

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
), candidates AS (
    SELECT oldest.id, lanes.priority, oldest.created_at,
           coalesce(running.busy, 0) + row_number() OVER (
               PARTITION BY lanes.priority, lanes.tenant ORDER BY oldest.created_at, oldest.id) AS turn
      FROM lanes
      LEFT JOIN running USING (tenant)
     CROSS JOIN LATERAL (
        SELECT id, created_at FROM tasks
         WHERE queue = :queue AND status = 'PENDING'
           AND priority = lanes.priority AND tenant = lanes.tenant AND run_after <= clock_timestamp()
         ORDER BY created_at, id LIMIT :limit) AS oldest
)
SELECT tasks.id FROM tasks JOIN candidates ON candidates.id = tasks.id
 WHERE tasks.status = 'PENDING'
 ORDER BY candidates.priority DESC, candidates.turn, candidates.created_at
 LIMIT :limit
   FOR UPDATE OF tasks SKIP LOCKED
"""


def next_ready(queue: str, limit: int) -> CTE:
    """The ids of up to `limit` waiting tasks of `queue`, locked, in fair order. For `store.claim`."""
    return text(_FAIR_ORDER).bindparams(queue=queue, limit=limit).columns(Task.id).cte("chosen")
