"""The statements of engine and runners: many steps or workflows in each, over a connection of `Database.connect`.

Whoever changes anything of a workflow locks its row first and compares the fence; nothing here waits for a row that
somebody else keeps locked. What happened is logged by the same statement, and a webhook is put into the outbox by it.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from compute.db.session import Connection
from compute.events.outbox.workflows import CALL_BACK_WORKFLOWS
from compute.schemas.enums import ErrorCategory, EventType, StepStatus, WorkflowStatus
from compute.workflows.states import OPEN_WORKFLOWS, STEP_TRANSITIONS, WORKFLOW_TRANSITIONS

__all__ = [
    "Begin",
    "End",
    "Finish",
    "Hold",
    "JournalWrite",
    "Renewal",
    "WorkflowLease",
    "begin_steps",
    "claim",
    "end_steps",
    "finish",
    "hold_steps",
    "lock",
    "lock_steps",
    "name_graphs",
    "release",
    "renew",
    "standing",
]


class WorkflowLease(NamedTuple):
    """The right to advance one workflow until its fence moves."""

    workflow_id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Begin:
    """PENDING → RUNNING with these tasks; `timeout_seconds` from now."""

    lease: WorkflowLease
    step: UUID
    task_ids: Sequence[str]
    content_hash: str | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class End:
    """→ `status`, one of those that end a step."""

    lease: WorkflowLease
    step: UUID
    status: StepStatus
    result: Mapping[str, Any] | None = None
    message: str | None = None
    category: ErrorCategory | None = None
    blocked: bool = False
    retry_count: int = 0
    task_ids: Sequence[str] | None = None
    content_hash: str | None = None
    reused_from: UUID | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """The step has everything but an approval."""

    lease: WorkflowLease
    step: UUID


@dataclass(frozen=True, slots=True)
class Finish:
    """The workflow's steps have ended, or (`parked`) none can go on before somebody says so."""

    lease: WorkflowLease
    parked: bool


JournalWrite = Begin | End | Hold | Finish
W = TypeVar("W", Begin, End)


def _values(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


_OPEN = _values(OPEN_WORKFLOWS)
_STEP_MOVES = ", ".join(
    f"('{source}', '{target}')" for source, targets in STEP_TRANSITIONS.items() for target in targets
)

_LOCK = "SELECT id FROM workflows WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED"
_THERE = "SELECT id FROM workflows WHERE id = ANY(%(ids)s::uuid[])"
# As strongly as an update of them does.
_LOCK_STEPS = "SELECT id FROM workflow_steps WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
_FLOWS_OF = "SELECT workflow_id FROM workflow_steps WHERE id = ANY(%(ids)s::uuid[])"
_FLOWS = "flows AS MATERIALIZED (SELECT id, status, fence FROM workflows WHERE id IN (SELECT workflow FROM given))"
_STEPS_LOGGED = f"""
logged AS (
    INSERT INTO workflow_events (workflow_id, type, step_id, status, data)
    SELECT workflow_id, '{EventType.STEP_STATUS}', step_id, status, said FROM moved ORDER BY position
)"""
_TOUCHED = """
touched AS (
    UPDATE workflows SET updated_at = clock_timestamp() WHERE id IN (SELECT workflow_id FROM moved)
)"""

_BEGIN = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json)
        AS given (ordinal int, workflow uuid, fence bigint, step uuid, task_ids jsonb, content_hash text,
                  timeout float8)
), {_FLOWS}, moved AS (
    UPDATE workflow_steps AS step
       SET status = '{StepStatus.RUNNING}', task_ids = given.task_ids, content_hash = given.content_hash,
           awaits_approval = false, started_at = coalesce(step.started_at, clock_timestamp()),
           deadline_at = clock_timestamp() + given.timeout * interval '1 s', updated_at = clock_timestamp()
      FROM given JOIN flows ON flows.id = given.workflow AND flows.fence = given.fence
                          AND flows.status = '{WorkflowStatus.RUNNING}'
     WHERE step.id = given.step AND step.status = '{StepStatus.PENDING}'
    RETURNING given.ordinal, step.workflow_id, step.step_id, step.position, step.status,
              jsonb_build_object('task_ids', step.task_ids) AS said
), {_STEPS_LOGGED}, {_TOUCHED}
SELECT ordinal FROM moved
"""

_END = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json)
        AS given (ordinal int, workflow uuid, fence bigint, step uuid, status text, result jsonb, message text,
                  category text, blocked boolean, retry_count int, task_ids jsonb, content_hash text, reused_from uuid)
), {_FLOWS}, moved AS (
    UPDATE workflow_steps AS step
       SET status = given.status, result = given.result, error_message = given.message,
           error_category = given.category, blocked = given.blocked, retry_count = given.retry_count,
           task_ids = coalesce(given.task_ids, step.task_ids), awaits_approval = false,
           content_hash = coalesce(given.content_hash, step.content_hash), reused_from = given.reused_from,
           completed_at = clock_timestamp(), updated_at = clock_timestamp()
      FROM given JOIN flows ON flows.id = given.workflow AND flows.fence = given.fence AND flows.status IN ({_OPEN})
     WHERE step.id = given.step AND (step.status, given.status) IN ({_STEP_MOVES})
    RETURNING given.ordinal, step.workflow_id, step.step_id, step.position, step.status,
              CASE WHEN step.error_message IS NOT NULL THEN jsonb_build_object('error', step.error_message) END AS said
), {_STEPS_LOGGED}, {_TOUCHED}
SELECT ordinal FROM moved
"""

_HOLD = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS given (workflow uuid, fence bigint, step uuid)
), {_FLOWS}, moved AS (
    UPDATE workflow_steps AS step SET awaits_approval = true, updated_at = clock_timestamp()
      FROM given JOIN flows ON flows.id = given.workflow AND flows.fence = given.fence AND flows.status IN ({_OPEN})
     WHERE step.id = given.step AND step.status = '{StepStatus.PENDING}' AND NOT step.awaits_approval
    RETURNING step.id, step.workflow_id, step.step_id, step.position, step.status,
              '{{"awaits_approval": true}}'::jsonb AS said
), {_STEPS_LOGGED}, {_TOUCHED}
SELECT id FROM moved
"""

_FINISHABLE = _values(
    source for source, to in WORKFLOW_TRANSITIONS.items() if {WorkflowStatus.COMPLETED, WorkflowStatus.FAILED} <= to
)
# A workflow that fails says which of its steps did. A paused one that has nothing left to do is still paused.
_FINISH = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS given (workflow uuid, fence bigint, parked boolean)
), {_FLOWS}, faults AS MATERIALIZED (
    SELECT workflow_id, jsonb_agg(step_id || ': ' || coalesce(error_message, status) ORDER BY position) AS errors
      FROM workflow_steps
     WHERE workflow_id IN (SELECT workflow FROM given)
       AND status IN ('{StepStatus.FAILED}', '{StepStatus.CANCELLED}')
       AND NOT coalesce((definition->>'continue_on_error')::boolean, false)
     GROUP BY workflow_id
), parked AS (
    UPDATE workflows SET parked = true, lease_owner = NULL, lease_expires_at = NULL, updated_at = clock_timestamp()
      FROM given JOIN flows ON flows.id = given.workflow AND flows.fence = given.fence
     WHERE workflows.id = flows.id AND flows.status IN ({_OPEN})
       AND (given.parked OR flows.status = '{WorkflowStatus.PAUSED}')
    RETURNING workflows.id
), moved AS (
    UPDATE workflows
       SET status = CASE WHEN faults.errors IS NULL THEN '{WorkflowStatus.COMPLETED}'
                         ELSE '{WorkflowStatus.FAILED}' END,
           errors = coalesce(faults.errors, '[]'), lease_owner = NULL, lease_expires_at = NULL,
           completed_at = clock_timestamp(), updated_at = clock_timestamp()
      FROM given JOIN flows ON flows.id = given.workflow AND flows.fence = given.fence
      LEFT JOIN faults ON faults.workflow_id = given.workflow
     WHERE workflows.id = flows.id AND flows.status IN ({_FINISHABLE}) AND NOT given.parked
    RETURNING workflows.*
), logged AS (
    INSERT INTO workflow_events (workflow_id, type, status) SELECT id, '{EventType.WORKFLOW_STATUS}', status FROM moved
), called AS ({CALL_BACK_WORKFLOWS})
SELECT id FROM moved UNION ALL SELECT id FROM parked
"""

_STANDING = """
SELECT step.id, step.status, step.task_ids, flow.status, flow.fence
  FROM workflow_steps AS step JOIN workflows AS flow ON flow.id = step.workflow_id
 WHERE step.id = ANY(%(steps)s::uuid[])
"""

_CLAIM = f"""
WITH chosen AS (
    SELECT id FROM workflows
     WHERE status IN ({_OPEN}) AND NOT parked AND (lease_expires_at IS NULL OR lease_expires_at < now())
     ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE workflows
   SET fence = fence + 1, lease_owner = %(owner)s, started_at = coalesce(started_at, clock_timestamp()),
       lease_expires_at = clock_timestamp() + %(lease_seconds)s::float8 * interval '1 s'
  FROM chosen WHERE workflows.id = chosen.id
RETURNING workflows.id
"""

_OURS = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS given (workflow uuid, fence bigint, graph text)
), flows AS MATERIALIZED (
    SELECT id, status, fence, lease_owner FROM workflows
     WHERE id IN (SELECT workflow FROM given) ORDER BY id FOR UPDATE SKIP LOCKED
), ours AS (
    SELECT flows.id, given.graph FROM flows JOIN given ON flows.id = given.workflow AND flows.fence = given.fence
     WHERE flows.status IN ({_OPEN}) AND flows.lease_owner IS NOT NULL
)
"""
_RENEW = f"""{_OURS}
UPDATE workflows SET lease_expires_at = clock_timestamp() + %(lease_seconds)s::float8 * interval '1 s'
  FROM ours WHERE workflows.id = ours.id
RETURNING workflows.id, workflows.fence
"""
_RELEASE = f"""{_OURS}
UPDATE workflows SET lease_owner = NULL, lease_expires_at = NULL FROM ours WHERE workflows.id = ours.id
"""
_NAME_GRAPHS = f"""{_OURS}
UPDATE workflows SET canvas_task_id = ours.graph FROM ours WHERE workflows.id = ours.id
RETURNING workflows.id, workflows.fence
"""
_STILL_OURS = f"""
SELECT workflows.id, workflows.fence
  FROM json_to_recordset(%(rows)s::json) AS given (workflow uuid, fence bigint)
  JOIN workflows ON workflows.id = given.workflow AND workflows.fence = given.fence
 WHERE workflows.status IN ({_OPEN}) AND workflows.lease_owner IS NOT NULL
"""


class Renewal(NamedTuple):
    """The leases that a renewal found lost, and those that it could not renew because their workflows are locked."""

    lost: set[WorkflowLease]
    locked: set[WorkflowLease]


class Standing(NamedTuple):
    """The present status of a step and of its workflow."""

    status: StepStatus
    task_ids: list[str]
    workflow_status: WorkflowStatus
    fence: int


async def lock(connection: Connection, workflow_ids: Iterable[UUID]) -> set[UUID]:
    """Lock workflows for the transaction that writes of them. Returns those that somebody else has locked."""
    given = {"ids": list(workflow_ids)}
    skipped = set(given["ids"]) - await _of_column(connection, _LOCK, given)
    # One that was deleted is nobody's: what is written of it finds nothing.
    return skipped and await _of_column(connection, _THERE, {"ids": list(skipped)})


async def lock_steps(connection: Connection, steps: Iterable[UUID]) -> set[UUID]:
    """Lock steps of workflows that are locked already. Returns the workflows of those that somebody else has locked."""
    given = {"ids": list(steps)}
    if not given["ids"]:
        return set()
    skipped = set(given["ids"]) - await _of_column(connection, _LOCK_STEPS, given)
    return skipped and await _of_column(connection, _FLOWS_OF, {"ids": list(skipped)})


async def begin_steps(connection: Connection, begins: Sequence[Begin]) -> list[Begin]:
    """PENDING → RUNNING. Returns those that moved their steps; the tasks of these must be stored in the same
    transaction. This one and the next three change what the caller has locked."""
    rows = [
        _of(begin.lease)
        | {
            "step": str(begin.step),
            "task_ids": list(begin.task_ids),
            "content_hash": begin.content_hash,
            "timeout": begin.timeout_seconds,
        }
        for begin in begins
    ]
    return await _that_moved(connection, _BEGIN, begins, rows)


async def end_steps(connection: Connection, ends: Sequence[End]) -> list[End]:
    """→ their ends. Returns those that moved their steps."""
    rows = [
        _of(end.lease) | {name: _plain(value) for name, value in asdict(end).items() if name != "lease"} for end in ends
    ]
    return await _that_moved(connection, _END, ends, rows)


async def hold_steps(connection: Connection, holds: Sequence[Hold]) -> set[UUID]:
    """Note that they wait for approval. Returns those that did not before."""
    return await _ids(connection, _HOLD, [_of(hold.lease) | {"step": str(hold.step)} for hold in holds])


async def finish(connection: Connection, finishes: Sequence[Finish]) -> set[UUID]:
    """→ COMPLETED or FAILED, or parked. Returns the workflows that were still under their leases."""
    return await _ids(connection, _FINISH, [_of(one.lease) | {"parked": one.parked} for one in finishes])


async def standing(connection: Connection, steps: Sequence[UUID]) -> dict[UUID, Standing]:
    """The present status of steps."""
    if not steps:
        return {}
    cursor = await connection.execute(_STANDING, {"steps": list(steps)})
    return {
        step: Standing(StepStatus(status), task_ids, WorkflowStatus(workflow_status), fence)
        for step, status, task_ids, workflow_status, fence in await cursor.fetchall()
    }


async def claim(connection: Connection, limit: int, *, owner: str, lease_seconds: float) -> list[UUID]:
    """Take up to `limit` workflows that nobody holds, the oldest first, under a lease and a new fence."""
    given = {"limit": limit, "owner": owner, "lease_seconds": lease_seconds}
    return [workflow for (workflow,) in await (await connection.execute(_CLAIM, given)).fetchall()]


async def renew(connection: Connection, leases: Sequence[WorkflowLease], *, lease_seconds: float) -> Renewal:
    """Renew leases."""
    given = {"rows": json.dumps([_of(lease) for lease in leases]), "lease_seconds": lease_seconds}
    return await _missed(connection, set(leases) - await _leases(connection, _RENEW, given))


async def release(connection: Connection, leases: Sequence[WorkflowLease]) -> None:
    """Give workflows back for whoever claims next, but for those that somebody else has locked."""
    await connection.execute(_RELEASE, {"rows": json.dumps([_of(lease) for lease in leases])})


async def name_graphs(connection: Connection, graphs: Mapping[WorkflowLease, str]) -> set[WorkflowLease]:
    """Note what the task graphs are called where they run. Returns those whose workflows somebody else has locked."""
    rows = [_of(lease) | {"graph": graph} for lease, graph in graphs.items()]
    named = await _leases(connection, _NAME_GRAPHS, {"rows": json.dumps(rows)})
    return (await _missed(connection, graphs.keys() - named)).locked


async def _missed(connection: Connection, leases: set[WorkflowLease]) -> Renewal:
    if not leases:
        return Renewal(set(), set())
    kept = await _leases(connection, _STILL_OURS, {"rows": json.dumps([_of(lease) for lease in leases])})
    return Renewal(lost=leases - kept, locked=kept)


async def _leases(connection: Connection, statement: str, given: Mapping[str, Any]) -> set[WorkflowLease]:
    return {WorkflowLease(*row) for row in await (await connection.execute(statement, given)).fetchall()}


async def _that_moved(
    connection: Connection, statement: str, writes: Sequence[W], rows: Sequence[dict[str, Any]]
) -> list[W]:
    """Of several writes about one step, those of an older fence move nothing, and one of the others does."""
    placed = [row | {"ordinal": ordinal} for ordinal, row in enumerate(rows)]
    if not placed:
        return []
    cursor = await connection.execute(statement, {"rows": json.dumps(placed)})
    return [writes[ordinal] for (ordinal,) in await cursor.fetchall()]


async def _ids(connection: Connection, statement: str, rows: list[dict[str, Any]]) -> set[UUID]:
    if not rows:
        return set()
    return await _of_column(connection, statement, {"rows": json.dumps(rows)})


async def _of_column(connection: Connection, statement: str, given: Mapping[str, Any]) -> set[UUID]:
    return {found for (found,) in await (await connection.execute(statement, given)).fetchall()}


def _of(lease: WorkflowLease) -> dict[str, Any]:
    return {"workflow": str(lease.workflow_id), "fence": lease.fence}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
