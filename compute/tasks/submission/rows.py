"""Submissions, and the statements that store a batch of them.

Every attempt at a batch inserts the same ids, so a batch whose outcome is not known can be written again: what is
there already is found instead of doubled, and a statement that still runs elsewhere is waited for.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy.dialects import postgresql

from compute.db.session import Connection
from compute.db.tables import IdempotencyKey, Task
from compute.db.tables.base import Base
from compute.errors import ComputeError, InvalidInput, LimitReached, Unavailable
from compute.events.outbox.tasks import created_payload
from compute.schemas.enums import EventType
from compute.tasks.submission.quotas import Charge, Quota, admit, locked_elsewhere, wait_briefly

__all__ = ["Key", "KeyExpired", "KeyReused", "Outcome", "Stored", "Submission", "insert_tasks", "size_of", "write"]


@dataclass(frozen=True, slots=True)
class Key:
    """A client's own name for what it submits, under which that is stored once.

    Attributes:
        text: The name.
        fingerprint: What tells the submission from another one.
        row: Makes the key's row, whose other columns are the caller's business. Called when the times of the tasks are
            known, inside the transaction that stores both; again when that is repeated.
    """

    text: str
    fingerprint: str
    row: Callable[[], Awaitable[IdempotencyKey]]


@dataclass(frozen=True, slots=True)
class Submission:
    """Tasks that are stored together or not at all, and count against `quotas`."""

    tasks: Sequence[Task]
    key: Key | None = None
    quotas: Sequence[Quota] = ()


class KeyReused(InvalidInput):
    """The key came with another submission before."""

    def __init__(self, detail: str = "This key was used for another request.", *, field: str = "key") -> None:
        super().__init__(detail, field=field)


class KeyExpired(Unavailable):
    """The key was there a moment ago, and has been dropped since for its age."""

    def __init__(self, detail: str = "The first answer to this key has just expired; try again.") -> None:
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Stored:
    """In the database: the submission itself or, with its key, the one that `earlier` is the row of."""

    earlier: IdempotencyKey | None = None


Outcome = Stored | ComputeError
"""Stored, or why it is not."""

_STORED = Stored()


_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def _given(table: type[Base]) -> dict[str, str]:
    """The columns that the database does not fill in by itself, and their types."""
    columns = table.__table__.columns
    return {column.key: column.type.compile(_DIALECT) for column in columns if column.server_default is None}


_GIVEN = {name: kind for name, kind in _given(Task).items() if name != "status"}
_KEY_GIVEN = _given(IdempotencyKey)
_KEY_COLUMNS = ", ".join(_KEY_GIVEN)
_to_json = json.JSONEncoder(separators=(",", ":")).encode
# Other requests have their turn after this many tasks.
_AT_A_TIME = 20
_COLUMNS = ", ".join(_GIVEN)
_RECORD = ", ".join(f"{name} {kind}" for name, kind in _GIVEN.items())
_AT = "now() + ordinal * interval '1 microsecond'"

# One statement, and so one transaction and one round trip. The tasks of a batch are a microsecond apart, which keeps
# their order.
_INSERT_TASKS = f"""
WITH accepted AS (
    INSERT INTO tasks ({_COLUMNS}, status, created_at, updated_at)
    SELECT {_COLUMNS}, 'PENDING', {_AT}, {_AT}
      FROM json_to_recordset(%s::json) AS given (ordinal int, {_RECORD})
     ORDER BY ordinal
        ON CONFLICT (id) DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO task_events (task_id, type, status, data)
    SELECT id, '{EventType.TASK_CREATED}', status, {created_payload("accepted")} FROM accepted ORDER BY created_at
)
SELECT id, created_at FROM accepted
"""  # noqa: S608 - made of the names of our own columns
_TIMES = "SELECT id, created_at FROM tasks WHERE id = ANY(%s)"
# Sorted, so that processes which share several keys wait for each other in one direction only.
_INSERT_KEYS = f"""
INSERT INTO idempotency_keys ({_KEY_COLUMNS})
SELECT * FROM unnest({", ".join(f"%s::{kind}[]" for kind in _KEY_GIVEN.values())}) AS given ({_KEY_COLUMNS})
 ORDER BY key ON CONFLICT DO NOTHING RETURNING key
"""  # noqa: S608 - made of the names of our own columns
_FIRST_ROWS = f"SELECT {_KEY_COLUMNS} FROM idempotency_keys WHERE key = ANY(%s)"  # noqa: S608 - as above
_FORGET_KEYS = "DELETE FROM idempotency_keys WHERE key = ANY(%s)"
_THERE = "SELECT id FROM tasks WHERE id = ANY(%s)"


async def write(
    connection: Connection, batch: Sequence[Submission], *, again: bool = False, held: set[str] | None = None
) -> list[Outcome | None]:
    """Store `batch` in one transaction. Of the submissions with one key, the first is stored, unless an earlier one
    had that key; the others get the row of the one that was.

    With `again` the batch may be stored already, because the outcome of an earlier attempt is not known.

    What is stored gets its times, which are the database's. `connection` must be in autocommit mode.

    Of a key or tenant whose use somebody keeps locked nothing is stored: its submissions have None, and may be written
    again. `held` remembers such keys and tenants from one batch to the next, so that the others wait for them once.

    Raises:
        psycopg.Error: nothing was stored. If the connection was lost, whether it was is not known.
    """
    held = set() if held is None else held
    if not any(submission.key or submission.quotas for submission in batch):
        await insert_tasks(connection, _placed(batch))
        return [_STORED] * len(batch)
    try:
        return await _settle(connection, batch, again, held)
    except LockNotAvailable:
        subjects = {subject for submission in batch for subject in _subjects(submission)}
        if again or subjects <= held:
            raise
        held |= subjects
        return await _settle(connection, batch, again, held)


def _placed(batch: Sequence[Submission]) -> list[tuple[int, Task]]:
    return list(enumerate(task for submission in batch for task in submission.tasks))


async def _settle(
    connection: Connection, batch: Sequence[Submission], again: bool, held: set[str]
) -> list[Outcome | None]:
    placed = _placed(batch)
    async with connection.transaction():
        await _foresee_times(connection, placed)
        outcomes = await _settle_quotas(
            connection, batch, await _settle_keys(connection, batch), again=again, held=held
        )
        beaten = {task.id for of, to in zip(batch, outcomes, strict=True) if to is not _STORED for task in of.tasks}
        await insert_tasks(connection, [(ordinal, task) for ordinal, task in placed if task.id not in beaten])
    return outcomes


async def _foresee_times(connection: Connection, placed: Sequence[tuple[int, Task]]) -> None:
    """A row that is stored beside its tasks must know their times before they are inserted."""
    ((now,),) = await (await connection.execute("SELECT now()")).fetchall()
    for ordinal, task in placed:
        _set_time(task, now + timedelta(microseconds=ordinal))


async def _settle_keys(connection: Connection, batch: Sequence[Submission]) -> list[Outcome]:
    first: dict[str, Key] = {}
    for submission in batch:
        if submission.key is not None:
            first.setdefault(submission.key.text, submission.key)
    stored = await _insert_keys(connection, first.values()) if first else {}
    known = stored | await _first_rows(connection, [text for text in first if text not in stored])

    def outcome(key: Key | None) -> Outcome:
        if key is None or (key.text in stored and first[key.text] is key):
            return _STORED
        return _answer_to(key, known.get(key.text))

    return [outcome(submission.key) for submission in batch]


async def _settle_quotas(
    connection: Connection, batch: Sequence[Submission], outcomes: list[Outcome], *, again: bool, held: set[str]
) -> list[Outcome | None]:
    """Refuse what is too much for the quotas of its caller, and put off what cannot be counted now, as if its key had
    never been there."""
    counted = [index for index, one in enumerate(batch) if one.quotas and one.tasks and outcomes[index] is _STORED]
    settled: list[Outcome | None] = list(outcomes)
    if not counted:
        return settled
    if again:
        ids = [task.id for index in counted for task in batch[index].tasks]
        there = {row[0] for row in await (await connection.execute(_THERE, (ids,))).fetchall()}
        # What the earlier attempt has stored, that one has counted.
        counted = [index for index in counted if batch[index].tasks[0].id not in there]
    refused: dict[str, LimitReached | None] = {}

    def refuse(index: int, refusal: LimitReached | None) -> None:
        settled[index] = refusal
        if (key := batch[index].key) is not None:
            refused[key.text] = refusal

    # An earlier attempt that still runs has them locked: that is waited for.
    waiting = set() if again else await _held_now(connection, [batch[index] for index in counted], held)
    for index in [index for index in counted if not _subjects(batch[index]).isdisjoint(waiting)]:
        counted.remove(index)
        refuse(index, None)
    charges = [Charge(batch[index].quotas, [task.id for task in batch[index].tasks]) for index in counted]
    for index, refusal in zip(counted, await admit(connection, charges), strict=True):
        if refusal is not None:
            refuse(index, refusal)
    if refused:
        await connection.execute(_FORGET_KEYS, (list(refused),))
        settled = [
            refused.get(one.key.text, outcome) if one.key else outcome
            for one, outcome in zip(batch, settled, strict=True)
        ]
    return settled


async def _held_now(connection: Connection, batch: Sequence[Submission], held: set[str]) -> set[str]:
    """Those of `held` that are still locked by somebody else."""
    subjects = {subject for submission in batch for subject in _subjects(submission)}
    if held.isdisjoint(subjects):
        await wait_briefly(connection)
        return set()
    waiting = await locked_elsewhere(connection, subjects)
    held -= subjects - waiting
    held |= waiting
    return waiting


def _subjects(submission: Submission) -> frozenset[str]:
    return frozenset(quota.subject for quota in submission.quotas)


async def _insert_keys(connection: Connection, keys: Iterable[Key]) -> dict[str, IdempotencyKey]:
    """Store the rows of those that nobody used before, and return them."""
    rows = {key.text: await key.row() for key in keys}
    columns = [[getattr(row, name) for row in rows.values()] for name in _KEY_GIVEN]
    inserted = await (await connection.execute(_INSERT_KEYS, columns, prepare=True)).fetchall()
    return {text: rows[text] for (text,) in inserted}


async def _first_rows(connection: Connection, keys: list[str]) -> dict[str, IdempotencyKey]:
    """The rows of the first submissions with `keys`."""
    if not keys:
        return {}
    rows = await (await connection.execute(_FIRST_ROWS, (keys,))).fetchall()
    found = [IdempotencyKey(**dict(zip(_KEY_GIVEN, row, strict=True))) for row in rows]
    return {row.key: row for row in found}


def _answer_to(key: Key, first: IdempotencyKey | None) -> Outcome:
    if first is None:
        return KeyExpired()
    return Stored(first) if first.fingerprint == key.fingerprint else KeyReused()


async def insert_tasks(connection: Connection, placed: Sequence[tuple[int, Task]]) -> None:
    """Insert tasks with their numbers in the order of the batch; those that are there already stay as they are."""
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
    for ordinal, task in placed:
        made.append(_to_json(_row(ordinal, task)))
        if len(made) % _AT_A_TIME == 0:
            await asyncio.sleep(0)
    return f"[{','.join(made)}]"


def _row(ordinal: int, task: Task) -> dict[str, Any]:
    given = {name: value for name, value in vars(task).items() if name in _GIVEN and value is not None}
    return given | {"ordinal": ordinal, "id": str(task.id)}


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
