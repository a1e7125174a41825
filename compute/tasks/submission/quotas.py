"""Quotas: how many tasks of a key or a tenant may be open at a time, and be accepted in a day.

They are settled inside the transaction that stores the work, with the row of each key and tenant locked: however many
requests arrive together at however many processes, none too many is accepted. Work that has ended frees its place by
itself; nobody who ends it needs to know. Whoever finds no room looks which of it has ended.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from compute.db.session import Connection
from compute.errors import LimitReached

__all__ = ["Charge", "Quota", "admit", "charge"]

_CONCURRENT_RETRY_SECONDS = 5.0

_LOCK = """
INSERT INTO quota_uses AS known (subject, day, units)
SELECT subject, (now() AT TIME ZONE 'UTC')::date, 0 FROM unnest(%s::text[]) AS given (subject) ORDER BY subject
    ON CONFLICT (subject) DO UPDATE SET
       day = GREATEST(known.day, excluded.day),
       units = CASE WHEN known.day >= excluded.day THEN known.units ELSE 0 END
RETURNING known.subject, known.units,
       extract(epoch FROM (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC' - now())
"""
_OPEN = "SELECT subject, sum(weight)::bigint FROM charged_work WHERE subject = ANY(%s) GROUP BY subject"
_COUNTED = "SELECT subject FROM charged_work WHERE subject = ANY(%s) AND work_id = ANY(%s)"
_CLEAR = """
DELETE FROM charged_work AS charged WHERE subject = %s AND NOT CASE kind
    WHEN 'task' THEN EXISTS (
        SELECT FROM tasks WHERE id = work_id AND status IN ('PENDING', 'QUEUED', 'EXECUTING'))
    WHEN 'workflow' THEN EXISTS (SELECT FROM workflows WHERE id = work_id AND status IN ('RUNNING', 'PAUSED'))
    ELSE EXISTS (
        SELECT FROM trainings WHERE id = work_id AND status IN ('PENDING', 'PREPROCESSING', 'TRAINING')) END
"""
_CHARGE = """
WITH counted AS (
    UPDATE quota_uses SET units = given.units FROM unnest(%s::text[], %s::bigint[]) AS given (subject, units)
     WHERE quota_uses.subject = given.subject
)
INSERT INTO charged_work (subject, work_id, kind, weight)
SELECT * FROM unnest(%s::text[], %s::uuid[], %s::text[], %s::int[]) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Quota:
    """What the tasks of one key, or of one tenant, may come to. `whose` says it in words."""

    subject: str
    whose: str
    concurrent: int | None
    daily: int | None


@dataclass(frozen=True, slots=True)
class Charge:
    """Work that is to be accepted, all of it or nothing: ids of tasks, or one of a workflow or training.

    Attributes:
        kind: task, workflow or training.
        weight: How many tasks each of the ids counts as.
        daily: Whether it counts for the day; work that goes on was counted when it began.
    """

    quotas: Sequence[Quota]
    ids: Sequence[UUID]
    kind: str = "task"
    weight: int = 1
    daily: bool = True


@dataclass(slots=True)
class _Use:
    """What a subject has used, the charges included that were admitted here."""

    units: int
    open: int
    cleared: bool = False


async def charge(connection: Connection, one: Charge) -> None:
    """Count a workflow or a training in the open transaction of `connection`; one that goes on may be open already, and
    is so once.

    Raises:
        LimitReached: it is too much; the transaction is to be rolled back.
    """
    subjects = [quota.subject for quota in one.quotas]
    found = await (await connection.execute(_COUNTED, (subjects, list(one.ids)))).fetchall()
    open_for = {subject for (subject,) in found}
    quotas = [replace(quota, concurrent=None) if quota.subject in open_for else quota for quota in one.quotas]
    (refusal,) = await admit(connection, [replace(one, quotas=quotas)])
    if refusal is not None:
        raise refusal


async def admit(connection: Connection, charges: Sequence[Charge]) -> list[LimitReached | None]:
    """Count work in the open transaction of `connection`, in order; for each charge why it is refused, or None."""
    subjects = sorted({quota.subject for one in charges for quota in one.quotas})
    if not subjects:
        return [None] * len(charges)
    locked = await (await connection.execute(_LOCK, (subjects,), prepare=True)).fetchall()
    seconds_left = float(locked[0][2])
    bounded = sorted({quota.subject for one in charges for quota in one.quotas if quota.concurrent is not None})
    opened: dict[str, int] = {}
    if bounded:
        opened = dict(await (await connection.execute(_OPEN, (bounded,), prepare=True)).fetchall())
    uses = {subject: _Use(int(units), int(opened.get(subject, 0))) for subject, units, *_ in locked}
    verdicts: list[LimitReached | None] = []
    for one in charges:
        refusal = await _refusal(connection, one, uses, seconds_left)
        verdicts.append(refusal)
        if refusal is None:
            for quota in one.quotas:
                uses[quota.subject].open += one.weight * len(one.ids)
                uses[quota.subject].units += one.weight * len(one.ids) if one.daily else 0
    admitted = [one for one, refusal in zip(charges, verdicts, strict=True) if refusal is None]
    await _write(connection, admitted, uses)
    return verdicts


async def _refusal(
    connection: Connection, asked: Charge, uses: Mapping[str, _Use], seconds_left: float
) -> LimitReached | None:
    more = asked.weight * len(asked.ids)
    for quota in asked.quotas:
        use = uses[quota.subject]
        if asked.daily and quota.daily is not None and use.units + more > quota.daily:
            return LimitReached(
                f"Of {quota.whose}, {use.units} of {quota.daily} tasks were accepted today, and this is {more}.",
                limit=quota.daily,
                retry_after=seconds_left,
            )
        if quota.concurrent is None or use.open + more <= quota.concurrent:
            continue
        if not use.cleared:
            await _clear(connection, quota.subject, use)
        if use.open + more > quota.concurrent:
            return LimitReached(
                f"Of {quota.whose}, {use.open} of {quota.concurrent} tasks have not ended, and this is {more}.",
                limit=quota.concurrent,
                retry_after=_CONCURRENT_RETRY_SECONDS,
            )
    return None


async def _clear(connection: Connection, subject: str, use: _Use) -> None:
    """Forget what has ended. What was admitted here is not written yet, and stays counted."""
    rows: list[tuple[Any, ...]] = await (await connection.execute(_OPEN, ([subject],))).fetchall()
    before = int(rows[0][1]) if rows else 0
    await connection.execute(_CLEAR, (subject,))
    rows = await (await connection.execute(_OPEN, ([subject],))).fetchall()
    use.open -= before - (int(rows[0][1]) if rows else 0)
    use.cleared = True


async def _write(connection: Connection, admitted: Iterable[Charge], uses: Mapping[str, _Use]) -> None:
    rows = [(quota.subject, work, one.kind, one.weight) for one in admitted for quota in one.quotas for work in one.ids]
    if rows:
        counts = [list(uses), [use.units for use in uses.values()]]
        charges = [list(column) for column in zip(*rows, strict=True)]
        await connection.execute(_CHARGE, [*counts, *charges], prepare=True)
