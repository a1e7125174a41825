"""Claims the next tasks: by priority, then in turns between tenants, then by age.

Within a priority, a tenant's n-th candidate gets the turn `n + what the tenant already has running`, and the
lowest turns go first; between equal turns the tenant that was served longest ago. However much one tenant submits,
the others' next task waits for one round, not for a backlog, and that holds for a pool of one as well.

The lanes (priority, tenant) are found by hopping along the partial index from one to the next, which also meets each
one's oldest row. Then turns are dealt like water filling a vessel: `level` is the turn up to which the lanes together
would give as many rows as are wanted if none ran dry. Where some do, the rest is dealt again among the others. So a
claim looks at hardly more rows than it takes, whatever the tenants' backlogs are.

Claims of one queue take turns by an advisory lock. Of two that rank the same rows at once, one would find all of them
taken. The lock is only for order, a row's own lock decides who has it.

Dispatchers of one queue share its workers, so what the other living ones hold is taken from what may be claimed. To
count it takes a statement of its own, which sees all that was claimed in earlier turns; whoever is alone is spared it.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from typing import Any

from compute.db.session import Connection
from compute.events.outbox.tasks import log_moves
from compute.schemas.enums import TaskStatus
from compute.tasks.leases import ClaimedTask, Lease
from compute.tasks.states import LEASED, sources

__all__ = ["claim_batch"]

_SPARE = 16
"""How many more rows than wanted are ranked, to stand in for those that somebody else has locked."""

_ATTEMPTS = 50
"""How often a claim begins anew because others took what it had ranked. More would be a row lock that stays."""

_WAITING = f"queue = %(queue)s AND status = '{sources(TaskStatus.QUEUED)[0]}'"
_READY = f"{_WAITING} AND run_after <= now()"
_RUNNING = ", ".join(sorted(f"'{status}'" for status in LEASED))

_TURNSTILE = "(hashtextextended('claim:' || %(queue)s, 0))"

# One that has not told for so long is dead: its leases must not keep workers idle until they run out.
_OTHERS = "SELECT id FROM dispatchers WHERE id <> %(owner)s AND seen_at > now() - interval '3 s'"

_LANES = f"""
gate AS (
    SELECT (%(counted)s OR NOT EXISTS ({_OTHERS})) AND pg_try_advisory_xact_lock{_TURNSTILE} AS passed
), lanes AS (
    (SELECT priority, tenant, created_at, id, run_after FROM tasks
      WHERE {_WAITING} ORDER BY priority, tenant, created_at, id LIMIT 1)
    UNION ALL
    SELECT hop.* FROM lanes CROSS JOIN LATERAL (
        SELECT priority, tenant, created_at, id, run_after FROM tasks
         WHERE {_WAITING} AND (priority, tenant) > (lanes.priority, lanes.tenant)
         ORDER BY priority, tenant, created_at, id LIMIT 1) AS hop
), heads AS (
    SELECT lanes.priority, lanes.tenant,
           (SELECT count(*) FROM tasks
             WHERE queue = %(queue)s AND tenant = lanes.tenant AND status IN ({_RUNNING})) AS busy,
           (SELECT served_at FROM tenant_turns WHERE queue = %(queue)s AND tenant = lanes.tenant) AS served_at
      FROM gate JOIN lanes ON gate.passed
     CROSS JOIN LATERAL (
        SELECT lanes.created_at WHERE lanes.run_after <= now()
         UNION ALL
        (SELECT created_at FROM tasks
          WHERE {_READY} AND priority = lanes.priority AND tenant = lanes.tenant
            AND lanes.run_after > now()
          ORDER BY created_at, id LIMIT 1)) AS head
     ORDER BY lanes.priority DESC, busy, served_at NULLS FIRST, head.created_at
     LIMIT %(wanted)s
)"""

# One row is a candidate, or (tid NULL) a lane that has had no turn yet. Those with `open` are where their lane goes on.
# `level` is the least over k of what the k least busy lanes would need to give `lack` rows: with more lanes than
# share the water, the busiest of them stand above it.
_DEALT = f"""
dealt AS (
    SELECT priority, tenant, served_at, NULL::tid AS tid, '-infinity'::timestamptz AS created_at,
           '00000000-0000-0000-0000-000000000000'::uuid AS id, busy AS turn, true AS open, %(wanted)s::bigint AS lack
      FROM heads
    UNION ALL
    SELECT lane.priority, lane.tenant, lane.served_at, oldest.tid, coalesce(oldest.created_at, lane.created_at),
           coalesce(oldest.id, lane.id), lane.turn + coalesce(oldest.n, 0), coalesce(oldest.n, 0) = lane.share,
           lane.lack - count(oldest.tid) OVER (PARTITION BY lane.priority)
      FROM (
        SELECT *, greatest(min(need) OVER (PARTITION BY priority) - turn, 0) AS share
          FROM (
            SELECT *, ceil((lack + sum(turn) OVER idlest) / row_number() OVER idlest)::bigint AS need
              FROM dealt WHERE open AND lack > 0
            WINDOW idlest AS (PARTITION BY priority ORDER BY turn ROWS UNBOUNDED PRECEDING)) AS levels
      ) AS lane
      LEFT JOIN LATERAL (
        SELECT tasks.ctid AS tid, created_at, id, row_number() OVER (ORDER BY created_at, id) AS n FROM tasks
         WHERE {_READY} AND priority = lane.priority AND tenant = lane.tenant
           AND (created_at, id) > (lane.created_at, lane.id)
         ORDER BY created_at, id LIMIT lane.share) AS oldest ON true
)"""

# Turns are noted in one order everywhere, so that two dispatchers never wait for each other in a circle.
_CLAIM_SPACED = f"""
WITH RECURSIVE {_LANES}, {_DEALT}, ranked AS (
    SELECT tid FROM dealt WHERE tid IS NOT NULL
     ORDER BY priority DESC, turn, served_at NULLS FIRST, created_at, id LIMIT %(wanted)s
), won AS (
    SELECT tasks.ctid AS tid FROM unnest(ARRAY(SELECT tid FROM ranked)) WITH ORDINALITY AS pick(tid, nth)
      JOIN tasks ON tasks.ctid = pick.tid
     WHERE {_WAITING} ORDER BY nth LIMIT %(limit)s
       FOR UPDATE OF tasks SKIP LOCKED
), moved AS (
    UPDATE tasks SET status = '{TaskStatus.QUEUED}', fence = fence + 1, lease_owner = %(owner)s,
           lease_expires_at = clock_timestamp() + %(lease_seconds)s::float8 * interval '1 s',
           updated_at = clock_timestamp()
     WHERE ctid = ANY(ARRAY(SELECT tid FROM won))
    RETURNING id, fence, task_type, retry_count, max_retries, spec::text AS spec, tenant, priority, created_at,
              traceparent, clock_timestamp() - run_after AS waited
), logged AS ({log_moves(TaskStatus.QUEUED)}
), served AS (
    INSERT INTO tenant_turns (queue, tenant, served_at)
    SELECT %(queue)s, tenant, clock_timestamp() FROM (SELECT DISTINCT tenant FROM moved) AS tenants ORDER BY tenant
    ON CONFLICT (queue, tenant) DO UPDATE SET served_at = excluded.served_at
)
(SELECT id, fence, task_type, retry_count, max_retries, spec, traceparent, waited FROM moved
  ORDER BY priority DESC, created_at, moved.id)
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM gate
 WHERE NOT passed OR EXISTS (SELECT FROM ranked) AND NOT EXISTS (SELECT FROM moved)
"""

# The driver keeps what it made of a statement only if that is shorter than 4096 characters.
_CLAIM = " ".join(_CLAIM_SPACED.split()).replace("( ", "(").replace(" )", ")")
_CLAIM = _CLAIM.replace("%(queue)s", "%(q)s").replace("%(lease_seconds)s", "%(lease)s")
_WAIT_FOR_TURN = f"SELECT pg_advisory_xact_lock{_TURNSTILE}"
_HELD = f"""
SELECT count(*) FROM tasks
 WHERE queue = %(queue)s AND status IN ({_RUNNING}) AND lease_owner = ANY(ARRAY({_OTHERS}))
"""

_Row = tuple[Any, ...]


async def claim_batch(
    connection: Connection, queue: str, limit: int, *, owner: str, lease_seconds: float
) -> list[ClaimedTask]:
    """Claim up to `limit` waiting tasks of `queue` in fair order, in one transaction; note whose turn it was.

    What other living Dispatchers hold is taken from `limit`. `connection` is one of `Database.connect`. Fewer than
    allowed may come back although more wait, when others hold row locks. When nothing comes back, nothing is ready,
    others hold as much as is allowed, or they keep all of it locked.
    """
    given = {"queue": queue, "q": queue, "owner": owner, "lease": lease_seconds}
    rows = await _claim(connection, given, limit, counted=False)
    for _ in range(_ATTEMPTS):
        if rows is not None:
            break
        rows = await _claim_in_turn(connection, given, limit)
    return [
        ClaimedTask(Lease(task_id, fence), task_type, retries, spec, max_retries, traceparent, waited.total_seconds())
        for task_id, fence, task_type, retries, max_retries, spec, traceparent, waited in rows or []
    ]


async def _claim_in_turn(connection: Connection, given: dict[str, Any], limit: int) -> list[_Row] | None:
    """Wait for the claims that were first, and leave out what others hold."""
    async with connection.transaction():
        # Statements of their own, each of which sees what was committed before it began.
        await connection.execute(_WAIT_FOR_TURN, given)
        ((held,),) = await (await connection.execute(_HELD, given, binary=True)).fetchall()
        return await _claim(connection, given, limit - held, counted=True) if held < limit else []


async def _claim(connection: Connection, given: dict[str, Any], limit: int, *, counted: bool) -> list[_Row] | None:
    """None when it is somebody else's turn, others were to be counted, or all that was ranked is locked."""
    wanted = {"limit": limit, "wanted": limit + _SPARE, "counted": counted}
    rows = await (await connection.execute(_CLAIM, given | wanted, binary=True)).fetchall()
    return None if rows and rows[0][0] is None else rows
