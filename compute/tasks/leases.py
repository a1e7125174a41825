"""Writes under a lease, many tasks in one statement: start, heartbeat, complete, fail, release.

Every statement takes arrays, one element a task, and changes the rows whose fence and status still allow it; the
event rows and webhook deliveries come from what it changed, in the same statement. Rows are locked in the order of
their ids, and none is waited for that somebody else keeps locked. It returns the leases for which it wrote: one that is
missing was lost, or its row is locked, which `standing` tells apart. The connection is that of a `DirectConnection`;
each call is a transaction of its own unless the caller opened one.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from compute.db.session import Connection
from compute.events.outbox.tasks import CALL_BACK, STATUS_PAYLOAD, log_moves
from compute.schemas.enums import ErrorCategory, TaskStatus
from compute.tasks.prices import PriceTable
from compute.tasks.states import LEASED, sources
from compute.tasks.usage import COUNT_TASKS, COUNTED_TASK, USED, used
from compute.worker.protocol import Job

__all__ = [
    "Beat",
    "ClaimedTask",
    "Complete",
    "Expired",
    "Fail",
    "FallBack",
    "Lease",
    "Release",
    "Say",
    "Start",
    "Write",
    "beat_batch",
    "expired",
    "fail_batch",
    "fall_back_batch",
    "release_batch",
    "say_batch",
    "settle_batch",
    "standing",
    "start_batch",
]


class Lease(NamedTuple):
    """The right to report on one task until the fence moves."""

    task_id: UUID
    fence: int


class ClaimedTask(NamedTuple):
    """A task that was just claimed: what running it needs, and no more."""

    lease: Lease
    task_type: str
    retry_count: int
    spec_json: str
    max_retries: int | None = None
    """Of this task; None for the policy's own."""
    traceparent: str | None = None
    waited_seconds: float = 0.0
    """From when it might run until it was claimed."""

    @property
    def has_fallback(self) -> bool:
        """Whether another provider may still be asked."""
        return f'"{FALLBACK}"' in self.spec_json and FALLBACK in json.loads(self.spec_json)

    def job(self) -> Job:
        return Job(self.lease.task_id, self.task_type, self.lease.fence, json.loads(self.spec_json), self.traceparent)


@dataclass(frozen=True, slots=True)
class Start:
    """QUEUED → EXECUTING: a replica has begun."""

    lease: Lease
    executor: str
    executor_type: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The worker is alive: renew its lease and write its progress (percent, never backwards)."""

    lease: Lease
    percent: float


@dataclass(frozen=True, slots=True)
class Complete:
    """EXECUTING → COMPLETED. With `started` the row is still QUEUED, and passes both in one write."""

    lease: Lease
    result: Mapping[str, Any]
    started: Start | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """→ FAILED, for good."""

    lease: Lease
    category: ErrorCategory
    message: str


@dataclass(frozen=True, slots=True)
class Release:
    """Back to PENDING. With `error` it counts as a retry; without, the attempt never happened."""

    lease: Lease
    delay_seconds: float = 0.0
    error: tuple[ErrorCategory, str] | None = None


@dataclass(frozen=True, slots=True)
class FallBack:
    """Back to PENDING, charged as a retry, for the fallback provider that `spec` names; there is no other after it."""

    lease: Lease
    category: ErrorCategory
    message: str


@dataclass(frozen=True, slots=True)
class Say:
    """The text that a run has said so far."""

    lease: Lease
    text: str


Write = Start | Beat | Say | Complete | Fail | FallBack | Release
"""What runs report."""
FALLBACK = "fallback"
"""The entry of `spec` with the queue, the provider_type and the spec of the fallback provider."""


async def start_batch(connection: Connection, starts: Sequence[Start]) -> set[Lease]:
    """QUEUED → EXECUTING. Returns the leases for which it wrote."""
    return await _apply(
        connection,
        _START,
        starts,
        executors=json.dumps([start.executor for start in starts]),
        executor_types=json.dumps([start.executor_type for start in starts]),
    )


async def beat_batch(connection: Connection, beats: Sequence[Beat], *, lease_seconds: float) -> set[Lease]:
    """Renew leases. Returns those that it renewed."""
    return await _apply(
        connection, _BEAT, beats, percents=[beat.percent for beat in beats], lease_seconds=lease_seconds
    )


async def settle_batch(
    connection: Connection, ends: Sequence[Complete], prices: PriceTable | None = None
) -> set[Lease]:
    """→ COMPLETED with their results; what they have used is counted. Returns the leases for which it wrote.

    Raises:
        psycopg.DataError: a result cannot be stored; nothing was written.
    """
    begun = [end for end in ends if end.started is None]
    both = [(end, end.started) for end in ends if end.started is not None]
    async with connection.transaction() if begun and both else nullcontext():
        held = await _apply(connection, _COMPLETE, begun, **used([end.result for end in begun], prices))
        return held | await _apply(
            connection,
            _START_AND_COMPLETE,
            [end for end, _ in both],
            **used([end.result for end, _ in both], prices),
            executors=json.dumps([start.executor for _, start in both]),
            executor_types=json.dumps([start.executor_type for _, start in both]),
        )


async def fail_batch(connection: Connection, ends: Sequence[Fail]) -> set[Lease]:
    """→ FAILED. Returns the leases for which it wrote."""
    return await _apply(
        connection,
        _FAIL,
        ends,
        categories=json.dumps([end.category for end in ends]),
        messages=json.dumps([end.message for end in ends]),
    )


async def release_batch(connection: Connection, releases: Sequence[Release]) -> set[Lease]:
    """Back to PENDING, to be claimed again after their delays. Returns the leases for which it wrote."""
    return await _apply(
        connection,
        _RELEASE,
        releases,
        delays=[release.delay_seconds for release in releases],
        categories=json.dumps([release.error and release.error[0] for release in releases]),
        messages=json.dumps([release.error and release.error[1] for release in releases]),
    )


async def fall_back_batch(connection: Connection, ends: Sequence[FallBack]) -> set[Lease]:
    """Back to PENDING for their fallback providers. Returns the leases for which it wrote."""
    return await _apply(
        connection,
        _FALL_BACK,
        ends,
        categories=json.dumps([end.category for end in ends]),
        messages=json.dumps([end.message for end in ends]),
    )


async def say_batch(connection: Connection, said: Sequence[Say]) -> set[Lease]:
    """Write texts, unless a later run of the task has said something. No task's row is touched."""
    latest = list({one.lease: one for one in said}.values())
    given = {
        "ids": [one.lease.task_id for one in latest],
        "fences": [one.lease.fence for one in latest],
        "texts": [_storable(one.text) for one in latest],
    }
    await connection.execute(_SAY, given, binary=True)
    return {one.lease for one in said}


async def standing(connection: Connection, leases: Sequence[Lease]) -> dict[Lease, TaskStatus]:
    """The present status of tasks whose fences are still those of these leases, locked or not."""
    cursor = await connection.execute(_STANDING, _keys(leases), binary=True)
    return {Lease(task_id, fence): TaskStatus(status) for task_id, fence, status in await cursor.fetchall()}


class Expired(NamedTuple):
    """A lease that ran out, with what its task's row says of retries."""

    lease: Lease
    retry_count: int
    max_retries: int | None
    owner: str | None
    begun: bool
    """Whether a replica had begun it, whose work is lost. At a provider elsewhere nothing is."""
    has_fallback: bool = False


async def expired(connection: Connection, limit: int) -> list[Expired]:
    """Leases that ran out; their tasks' rows stay locked until the transaction ends."""
    cursor = await connection.execute(_EXPIRED, {"limit": limit}, binary=True)
    return [Expired(Lease(task_id, fence), *rest) for task_id, fence, *rest in await cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement that moves tasks, and the statuses from which it moves them.

    Those are a parameter: as constants they would let the planner walk all leased rows by their partial index, where
    the primary key finds each row at once.
    """

    sql: str
    sources: list[str]


def _given(columns: dict[str, str]) -> str:
    """The arrays as rows, of those tasks whose leases hold and which nobody else has locked; they are locked now."""
    return f"""given AS MATERIALIZED (
        SELECT given.* FROM ROWS FROM ({", ".join(columns.values())}) AS given({", ".join(columns)})
          JOIN tasks ON tasks.id = given.id AND tasks.fence = given.fence
                    AND tasks.status = ANY(%(sources)s::text[])
         ORDER BY given.id FOR UPDATE OF tasks SKIP LOCKED
    )"""


def _move(
    through: Sequence[TaskStatus], values: str, columns: dict[str, str], *, returning: str = "", then: str = ""
) -> _Statement:
    """Move every given task along `through`; `columns` are the arrays that are given beside ids and fences."""
    arrays = _KEYS | columns
    sql = f"""
    WITH {_given(arrays)}, moved AS (
        UPDATE tasks SET status = '{through[-1]}', updated_at = clock_timestamp(), {values}
          FROM given WHERE tasks.id = given.id
        RETURNING tasks.id, tasks.fence{returning}
    ), logged AS ({log_moves(*through)}){then}
    SELECT id, fence FROM moved
    """
    # Under a lease: what was put back since has none, though nobody else has claimed it yet.
    return _Statement(sql, [str(status) for status in sources(through[0]) if status in LEASED])


_KEYS = {"id": "unnest(%(ids)s::uuid[])", "fence": "unnest(%(fences)s::bigint[])"}
_ENDED = "completed_at = clock_timestamp(), lease_owner = NULL, lease_expires_at = NULL"
# What earlier attempts have failed of stays in `errors`.
_COMPLETED = f"result = given.result, progress = 100, error_category = NULL, {_ENDED}"
_STARTED = """started_at = coalesce(tasks.started_at, clock_timestamp()), executor_type = given.executor_type,
              executor_instance = given.executor"""
_BLAMED = "error_category = coalesce(given.category, tasks.error_category)"
# In an array again: the planner expects ten elements of an array, and a hundred of a set.
_WORDS = "unnest(ARRAY(SELECT jsonb_array_elements_text(%({})s::jsonb)))"
_EXECUTORS = {"executor": _WORDS.format("executors"), "executor_type": _WORDS.format("executor_types")}
_ERRORS = {"category": _WORDS.format("categories"), "message": _WORDS.format("messages")}
_CALLED = {
    "returning": f", tasks.webhook_url AS payload_url, tasks.traceparent, {STATUS_PAYLOAD}",
    "then": f", called AS ({CALL_BACK})",
}

_COUNTED = {
    "returning": f"{_CALLED['returning']}{COUNTED_TASK}",
    "then": f"{_CALLED['then']}, counted AS ({COUNT_TASKS})",
}

_START = _move([TaskStatus.EXECUTING], _STARTED, _EXECUTORS)
_COMPLETE = _move([TaskStatus.COMPLETED], _COMPLETED, USED, **_COUNTED)
# Two moves that the table allows in one write, with an event for each.
_START_AND_COMPLETE = _move(
    [TaskStatus.EXECUTING, TaskStatus.COMPLETED], f"{_STARTED}, {_COMPLETED}", USED | _EXECUTORS, **_COUNTED
)
_FAIL = _move(
    [TaskStatus.FAILED],
    f"{_BLAMED}, errors = tasks.errors || to_jsonb(given.message), {_ENDED}",
    _ERRORS,
    **_CALLED,
)
_RELEASE = _move(
    [TaskStatus.PENDING],
    f"""{_BLAMED}, run_after = clock_timestamp() + given.delay * interval '1 s', progress = 0, lease_owner = NULL,
        lease_expires_at = NULL, retry_count = tasks.retry_count + (given.message IS NOT NULL)::int,
        errors = CASE WHEN given.message IS NULL THEN tasks.errors ELSE tasks.errors || to_jsonb(given.message) END""",
    _ERRORS | {"delay": "unnest(%(delays)s::float8[])"},
)
_FALL_BACK = _move(
    [TaskStatus.PENDING],
    f"""{_BLAMED}, run_after = clock_timestamp(), progress = 0, lease_owner = NULL, lease_expires_at = NULL,
        retry_count = tasks.retry_count + 1, errors = tasks.errors || to_jsonb(given.message),
        queue = tasks.spec#>>'{{{FALLBACK},queue}}', provider_type = tasks.spec#>>'{{{FALLBACK},provider_type}}',
        spec = (tasks.spec#>'{{{FALLBACK},spec}}') || jsonb_build_object('fell_back_from', tasks.provider_type)""",
    _ERRORS,
)
_SAY = """
INSERT INTO task_texts (task_id, fence, text)
SELECT * FROM ROWS FROM (unnest(%(ids)s::uuid[]), unnest(%(fences)s::bigint[]), unnest(%(texts)s::text[]))
           AS given(task_id, fence, text) ORDER BY task_id
    ON CONFLICT (task_id) DO UPDATE SET fence = excluded.fence, text = excluded.text
 WHERE task_texts.fence <= excluded.fence
"""
_EXPIRED = f"""
SELECT id, fence, retry_count, max_retries, lease_owner,
       status = '{TaskStatus.EXECUTING}' AND coalesce(provider_type, 'LOCAL') = 'LOCAL', spec ? '{FALLBACK}'
  FROM tasks
 WHERE status IN ({", ".join(sorted(f"'{status}'" for status in LEASED))})
   AND (lease_expires_at IS NULL OR lease_expires_at < now())
 LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_STANDING = """
SELECT tasks.id, tasks.fence, tasks.status
  FROM ROWS FROM (unnest(%(ids)s::uuid[]), unnest(%(fences)s::bigint[])) AS given(id, fence)
  JOIN tasks ON tasks.id = given.id AND tasks.fence = given.fence
"""
_BEAT = _Statement(
    f"""
WITH {_given(_KEYS | {"percent": "unnest(%(percents)s::float8[])"})}
UPDATE tasks SET lease_expires_at = clock_timestamp() + %(lease_seconds)s::float8 * interval '1 s',
       progress = greatest(tasks.progress, given.percent), updated_at = clock_timestamp()
  FROM given WHERE tasks.id = given.id
RETURNING tasks.id, tasks.fence
""",
    sorted(LEASED),
)


async def _apply(
    connection: Connection, statement: _Statement, writes: Sequence[Write], **columns: object
) -> set[Lease]:
    if not writes:
        return set()
    given = _keys([write.lease for write in writes]) | columns | {"sources": statement.sources}
    cursor = await connection.execute(statement.sql, given, binary=True)
    return {Lease(*row) for row in await cursor.fetchall()}


def _keys(leases: Sequence[Lease]) -> dict[str, Any]:
    # Arrays as text and JSON: the driver's own adaptation of a list takes two to three times as long.
    return {
        "ids": _array([lease.task_id.hex for lease in leases]),
        "fences": _array([str(lease.fence) for lease in leases]),
    }


def _array(plain: Sequence[str]) -> str:
    return "{" + ",".join(plain) + "}"


def _storable(text: str) -> str:
    """A text without what the database refuses: NULs and halves of characters."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
