"""State of each queue: what waits and runs, how long it waits, what was done. Trainings have a queue of their own."""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.monitoring.scope import Scope, counted, happened

__all__ = ["TRAINING_QUEUE", "QueueState", "queue_states", "queues_with_work"]

TRAINING_QUEUE = "training"
_LANES = 500
_FEW = 10
"""So many tenants and priorities of a queue are looked at for its oldest task."""


@dataclass(slots=True)
class QueueState:
    """One queue. `oldest_seconds` is the age of the oldest task that waits, None if none does. The rest is of the last
    60 minutes: `waited` and `ran` are sums of seconds over `started` and `completed`."""

    depth: int = 0
    active: int = 0
    reserved: int = 0
    oldest_seconds: float | None = None
    started: int = 0
    completed: int = 0
    failed: int = 0
    waited: float = 0.0
    ran: float = 0.0

    @property
    def average_wait(self) -> float | None:
        """In seconds; None if nothing has started."""
        return self.waited / self.started if self.started else None


def _now(scope: Scope) -> str:
    return f"""
    SELECT queue, 'open' AS what, sum(number)::bigint AS number
      FROM ({counted("task", scope)}) AS counted WHERE status = 'OPEN' GROUP BY 1
     UNION ALL
    SELECT queue, status, count(*) FROM tasks WHERE status IN ('QUEUED', 'EXECUTING') AND {scope.of_tasks} GROUP BY 1, 2
     UNION ALL
    SELECT queue, CASE status WHEN 'PENDING' THEN 'PENDING' ELSE 'EXECUTING' END, sum(number)::bigint
      FROM ({counted("training", scope)}) AS counted
     WHERE status IN ('PENDING', 'PREPROCESSING', 'TRAINING') GROUP BY 1, 2
    """


def _lately(scope: Scope) -> str:
    happenings = " UNION ALL ".join(happened(kind, scope) for kind in ("task", "training"))
    return f"""
    SELECT queue, sum(started)::bigint, sum(completed)::bigint, sum(failed)::bigint, sum(waited), sum(ran)
      FROM ({happenings}) AS happened
     WHERE span = 'minute' AND at >= date_trunc('minute', now() - interval '1 hour', 'UTC') GROUP BY 1
    """


# A task waits from when it may run: after a retry from `run_after`, and before that not at all. Of each lane (priority,
# tenant) the first few tell, for those that were put back stand at its head. From lane to lane as the claim does it.
_FIRST_FEW = f"""
    SELECT min(GREATEST(few.created_at, few.run_after)) AS since FROM (
        SELECT created_at, run_after FROM tasks
         WHERE tasks.queue = asked.queue AND tasks.priority = lane.priority AND tasks.tenant = lane.tenant
           AND status = 'PENDING' ORDER BY tasks.queue, priority, tenant, created_at, id LIMIT {_FEW}) AS few
     WHERE few.run_after <= now()
"""
_OLDEST = f"""
SELECT asked.queue, extract(epoch FROM now() - min(first.since))::float8
  FROM unnest(CAST(:queues AS text[])) AS asked(queue) CROSS JOIN LATERAL (
    WITH RECURSIVE lanes AS (
        (SELECT priority, tenant, created_at FROM tasks WHERE tasks.queue = asked.queue AND status = 'PENDING'
          ORDER BY tasks.queue, priority, tenant, created_at, id LIMIT 1)
        UNION ALL
        SELECT hop.* FROM lanes CROSS JOIN LATERAL (
            SELECT priority, tenant, created_at FROM tasks
             WHERE tasks.queue = asked.queue AND status = 'PENDING'
               AND (priority, tenant) > (lanes.priority, lanes.tenant)
             ORDER BY tasks.queue, priority, tenant, created_at, id LIMIT 1) AS hop
    ) SELECT priority, tenant FROM lanes LIMIT {_LANES}
  ) AS lane CROSS JOIN LATERAL ({_FIRST_FEW}) AS first GROUP BY 1
"""
_OLDEST_OF_TENANT = f"""
SELECT asked.queue, extract(epoch FROM now() - min(first.since))::float8
  FROM unnest(CAST(:queues AS text[])) AS asked(queue) CROSS JOIN generate_series(0, 3) AS of(priority)
 CROSS JOIN LATERAL (
    SELECT min(GREATEST(few.created_at, few.run_after)) AS since FROM (
        SELECT created_at, run_after FROM tasks
         WHERE tasks.queue = asked.queue AND tasks.priority = of.priority AND tenant = :tenant AND status = 'PENDING'
           AND origin_tenant_id = :tenant ORDER BY created_at, id LIMIT {_FEW}) AS few
     WHERE few.run_after <= now()) AS first
 GROUP BY 1
"""
_OLDEST_TRAINING = """
SELECT extract(epoch FROM now() - min(created_at))::float8 FROM (
    SELECT created_at FROM trainings WHERE status = 'PENDING' AND NOT job_open AND {where}
       AND status IN ('PENDING', 'PREPROCESSING', 'TRAINING') ORDER BY created_at LIMIT 1) AS oldest
"""


async def queue_states(session: AsyncSession, tenant: str | None) -> dict[str, QueueState]:
    """Every queue that has had work lately or has some now, by name; with `tenant` what is that tenant's alone."""
    scope = Scope(tenant)
    states = await _states_now(session, scope)
    for queue, started, completed, failed, waited, ran in await session.execute(text(_lately(scope)), scope.values):
        state = states.setdefault(queue, QueueState())
        state.started, state.completed, state.failed, state.waited, state.ran = started, completed, failed, waited, ran
    await _find_oldest(session, states, scope)
    return states


async def queues_with_work(session: AsyncSession, tenant: str | None) -> set[str]:
    """The queues in which something waits or runs; with `tenant` something of that tenant's."""
    states = await _states_now(session, Scope(tenant))
    return {name for name, state in states.items() if state.depth or state.active or state.reserved}


async def _states_now(session: AsyncSession, scope: Scope) -> dict[str, QueueState]:
    states: dict[str, QueueState] = {}
    for queue, what, number in await session.execute(text(_now(scope)), scope.values):
        state = states.setdefault(queue, QueueState())
        state.depth += {"open": number, "PENDING": number}.get(what, 0)
        state.active += number if what == "EXECUTING" else 0
        state.reserved += number if what == "QUEUED" else 0
    for queue, state in states.items():
        if queue != TRAINING_QUEUE:
            state.depth -= state.active + state.reserved
    return states


async def _find_oldest(session: AsyncSession, states: dict[str, QueueState], scope: Scope) -> None:
    waiting = [queue for queue, state in states.items() if state.depth > 0 and queue != TRAINING_QUEUE]
    statement = text(_OLDEST if scope.tenant is None else _OLDEST_OF_TENANT)
    values = {"queues": waiting} | ({} if scope.tenant is None else {"tenant": scope.tenant})
    for queue, seconds in await session.execute(statement, values) if waiting else ():
        states[queue].oldest_seconds = None if seconds is None else max(seconds, 0.0)
    if (training := states.get(TRAINING_QUEUE)) is not None and training.depth > 0:
        found = await session.scalar(text(_OLDEST_TRAINING.format(where=scope.of_tasks)), scope.values)
        training.oldest_seconds = None if found is None else max(found, 0.0)
