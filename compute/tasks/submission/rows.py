"""What is submitted, and the statements that store a batch of it.

Every attempt at a batch inserts the same ids, so a batch whose outcome is not known can be written again: what is
there already is found instead of doubled, and a statement that still runs elsewhere is waited for.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.dialects import postgresql

from compute.db.session import Connection
from compute.db.tables import Task
from compute.errors import ComputeError, InvalidInput, Unavailable

__all__ = [
    "KEY_HEADER",
    "Answer",
    "Outcome",
    "RequestKey",
    "Submission",
    "insert_tasks",
    "key_reused",
    "size_of",
    "write",
]

KEY_HEADER = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class RequestKey:
    """An `Idempotency-Key`, and what tells its request from another one."""

    text: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was, or will be, sent. `replayed`: it was an earlier request's."""

    status_code: int
    body: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """Tasks that are stored together or not at all.

    `answer` is called when their times are known, with a key inside the transaction that stores both.
    """

    tasks: Sequence[Task]
    answer: Callable[[], Awaitable[Answer]]
    key: RequestKey | None = None


Outcome = Answer | ComputeError | None
"""Stored (None, or the answer that was stored with it), answered before, or why it can be neither."""


def key_reused() -> InvalidInput:
    """Why a key that came with another request is refused."""
    return InvalidInput("This key was used for another request.", field=KEY_HEADER)


_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_GIVEN = {
    column.key: column.type.compile(_DIALECT)
    for column in Task.__table__.columns
    if column.server_default is None and column.key != "status"
}
_to_json = json.JSONEncoder(separators=(",", ":")).encode
# Other requests have their turn after this many tasks.
_AT_A_TIME = 20
_COLUMNS = ", ".join(_GIVEN)
_RECORD = ", ".join(f"{name} {kind}" for name, kind in _GIVEN.items())
_AT = "now() + place * interval '1 microsecond'"
_STAMP = """to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

# One statement, and so one transaction and one round trip. The tasks of a batch are a microsecond apart, which keeps
# their order.
_INSERT_TASKS = f"""
WITH accepted AS (
    INSERT INTO tasks ({_COLUMNS}, status, created_at, updated_at)
    SELECT {_COLUMNS}, 'PENDING', {_AT}, {_AT}
      FROM json_to_recordset(%s::json) AS given (place int, {_RECORD})
     ORDER BY place
        ON CONFLICT (id) DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO task_events (task_id, type, status, data)
    SELECT id, 'TASK_CREATED', status, jsonb_build_object(
               'event_type', 'TASK_CREATED', 'task_id', id, 'task_type', task_type, 'status', status,
               'entity_id', NULL, 'origin_instance', origin_instance, 'origin_zone', origin_zone,
               'origin_version', NULL, 'timestamp', {_STAMP}, 'created_at', {_STAMP}, 'metadata', NULL,
               'total_steps', COALESCE((spec ->> 'num_outputs')::int, 1))
      FROM accepted ORDER BY created_at
)
SELECT id, created_at FROM accepted
"""  # noqa: S608 - made of the names of our own columns
_TIMES = "SELECT id, created_at FROM tasks WHERE id = ANY(%s)"
# Sorted, so that processes which share several keys wait for each other in one direction only.
_INSERT_KEYS = """
INSERT INTO idempotency_keys (key, fingerprint, status_code, answer)
SELECT * FROM unnest(%s::text[], %s::text[], %s::int[], %s::text[]) AS given (key, fingerprint, status_code, answer)
 ORDER BY key ON CONFLICT DO NOTHING RETURNING key
"""
_FIRST_ANSWERS = "SELECT key, fingerprint, status_code, answer FROM idempotency_keys WHERE key = ANY(%s)"


async def write(connection: Connection, batch: Sequence[Submission]) -> list[Outcome]:
    """Store `batch` in one transaction. Of the submissions with one key, the first is stored, unless an earlier
    request had that key; the others get its answer.

    What is stored gets its times, which are the database's. `connection` must be in autocommit mode.

    Raises:
        psycopg.Error: nothing was stored. If the connection was lost, whether it was is not known.
    """
    placed = list(enumerate(task for submission in batch for task in submission.tasks))
    if not any(submission.key for submission in batch):
        await insert_tasks(connection, placed)
        return [None] * len(batch)
    async with connection.transaction():
        await _foresee_times(connection, placed)
        outcomes = await _settle_keys(connection, batch)
        beaten = {task.id for of, to in zip(batch, outcomes, strict=True) if _not_stored(to) for task in of.tasks}
        await insert_tasks(connection, [(place, task) for place, task in placed if task.id not in beaten])
    return outcomes


def _not_stored(outcome: Outcome) -> bool:
    return isinstance(outcome, ComputeError) or (outcome is not None and outcome.replayed)


async def _foresee_times(connection: Connection, placed: Sequence[tuple[int, Task]]) -> None:
    """An answer that is stored beside its tasks must know their times before they are inserted."""
    ((now,),) = await (await connection.execute("SELECT now()")).fetchall()
    for place, task in placed:
        _set_time(task, now + timedelta(microseconds=place))


async def _settle_keys(connection: Connection, batch: Sequence[Submission]) -> list[Outcome]:
    first: dict[str, tuple[RequestKey, Submission]] = {}
    for submission in batch:
        if submission.key is not None:
            first.setdefault(submission.key.text, (submission.key, submission))
    stored = await _insert_keys(connection, first)
    known = {text: (first[text][0].fingerprint, replace(answer, replayed=True)) for text, answer in stored.items()}
    known |= await _first_answers(connection, [text for text in first if text not in stored])

    def outcome(submission: Submission) -> Outcome:
        if (key := submission.key) is None:
            return None
        if key.text in stored and first[key.text][1] is submission:
            return stored[key.text]
        return _answer_to(key, known.get(key.text))

    return [outcome(submission) for submission in batch]


async def _insert_keys(connection: Connection, first: Mapping[str, tuple[RequestKey, Submission]]) -> dict[str, Answer]:
    """Store the keys with their answers. Returns those that nobody used before."""
    answers = {text: await submission.answer() for text, (_, submission) in first.items()}
    columns = (
        list(first),
        [key.fingerprint for key, _ in first.values()],
        [answer.status_code for answer in answers.values()],
        [answer.body for answer in answers.values()],
    )
    inserted = await (await connection.execute(_INSERT_KEYS, columns, prepare=True)).fetchall()
    return {text: answers[text] for (text,) in inserted}


async def _first_answers(connection: Connection, keys: list[str]) -> dict[str, tuple[str, Answer]]:
    """The fingerprint and the answer of the first request with each of `keys`."""
    if not keys:
        return {}
    rows = await (await connection.execute(_FIRST_ANSWERS, (keys,))).fetchall()
    return {key: (fingerprint, Answer(status, body, replayed=True)) for key, fingerprint, status, body in rows}


def _answer_to(key: RequestKey, first: tuple[str, Answer] | None) -> Answer | ComputeError:
    if first is None:
        # It was there a moment ago, and has been dropped since for its age.
        return Unavailable("The first answer to this Idempotency-Key has just expired; try again.")
    fingerprint, answer = first
    return answer if fingerprint == key.fingerprint else key_reused()


async def insert_tasks(connection: Connection, placed: Sequence[tuple[int, Task]]) -> None:
    """Insert tasks with their places in the order of the batch; those that are there already stay as they are."""
    if not placed:
        return
    rows = await _rows(placed)
    times: dict[UUID, datetime] = dict(
        await (await connection.execute(_INSERT_TASKS, (rows,), prepare=True)).fetchall()
    )
    if len(times) < len(placed):
        # An earlier attempt stored them, and its answer was lost on the way.
        missing = [task.id for _, task in placed if task.id not in times]
        times |= dict(await (await connection.execute(_TIMES, (missing,))).fetchall())
    for _, task in placed:
        _set_time(task, times[task.id])


async def _rows(placed: Sequence[tuple[int, Task]]) -> str:
    """The tasks as a JSON list."""
    made: list[str] = []
    for place, task in placed:
        made.append(_to_json(_row(place, task)))
        if len(made) % _AT_A_TIME == 0:
            await asyncio.sleep(0)
    return f"[{','.join(made)}]"


def _row(place: int, task: Task) -> dict[str, Any]:
    given = {name: value for name, value in vars(task).items() if name in _GIVEN and value is not None}
    return given | {"place": place, "id": str(task.id)}


def size_of(task: Task) -> int:
    """About how many bytes a task is: those of its texts, and a few for everything else."""
    size = 0
    left: list[Any] = [task.spec, task.config, task.sent]
    while left:
        match left.pop():
            case str(text):
                size += len(text)
            case dict(members):
                size += 16 * len(members)
                left += members.values()
            case list(elements):
                size += 8 * len(elements)
                left += elements
    return size


def _set_time(task: Task, time: datetime) -> None:
    task.created_at = task.updated_at = time
