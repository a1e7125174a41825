"""Quotas: how many tasks of a key or a tenant may be open at a time, and be accepted in a day.

They are settled inside the transaction that stores the work, with the row of each key and tenant locked: however many
requests arrive together at however many processes, none too many is accepted. Work that has ended frees its place by
itself; nobody who ends it needs to know. Whoever finds no room looks which of it has ended, and `forget_ended` does now
and then. Work has a row only for those whose open work is bounded: a limit for the day is a number.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from compute.db.session import Connection
from compute.errors import InvalidInput, LimitReached

__all__ = [
    "Charge",
    "Quota",
    "admit",
    "begin_anew",
    "charge",
    "forget_ended",
    "locked_elsewhere",
    "quotas_of",
    "require_room",
    "wait_briefly",
]

_CONCURRENT_RETRY_SECONDS = 5.0
_ANY = UUID(int=0)

_SECONDS_LEFT = """
       extract(epoch FROM
               (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC' - now())"""
_LOCK = f"""
INSERT INTO quota_uses AS known (subject, day, units)
SELECT subject, (now() AT TIME ZONE 'UTC')::date, 0 FROM unnest(%s::text[]) AS given (subject) ORDER BY subject
    ON CONFLICT (subject) DO UPDATE SET
       day = GREATEST(known.day, excluded.day),
       units = CASE WHEN known.day >= excluded.day THEN known.units ELSE 0 END
RETURNING known.subject, known.units, {_SECONDS_LEFT}
"""  # noqa: S608 - made of our own words
_LOOK = f"""
SELECT subject, CASE WHEN day >= (now() AT TIME ZONE 'UTC')::date THEN units ELSE 0 END, {_SECONDS_LEFT},
       (SELECT coalesce(sum(weight), 0)::bigint FROM charged_work WHERE charged_work.subject = given.subject)
  FROM unnest(%s::text[]) AS given (subject) LEFT JOIN quota_uses USING (subject)
"""  # noqa: S608 - as above
_OPEN = "SELECT subject, sum(weight)::bigint FROM charged_work WHERE subject = ANY(%s) GROUP BY subject"
_COUNTED = "SELECT subject FROM charged_work WHERE subject = ANY(%s) AND work_id = ANY(%s)"
_GOES_ON = """CASE kind
    WHEN 'task' THEN EXISTS (
        SELECT FROM tasks WHERE id = work_id AND status IN ('PENDING', 'QUEUED', 'EXECUTING'))
    WHEN 'workflow' THEN EXISTS (SELECT FROM workflows WHERE id = work_id AND status IN ('RUNNING', 'PAUSED'))
    WHEN 'step' THEN EXISTS (
        SELECT FROM workflow_steps JOIN workflows ON workflows.id = workflow_id
         WHERE workflow_steps.id = work_id AND workflow_steps.status IN ('PENDING', 'RUNNING')
           AND workflows.status IN ('RUNNING', 'PAUSED'))
    ELSE EXISTS (
        SELECT FROM trainings WHERE id = work_id AND status IN ('PENDING', 'PREPROCESSING', 'TRAINING')) END"""
_CLEAR = f"DELETE FROM charged_work WHERE subject = %s AND NOT {_GOES_ON}"  # noqa: S608 - as above
_SUM = "SELECT coalesce(sum(weight), 0)::bigint FROM charged_work WHERE subject = %s"
_COUNT = f"{_SUM} AND {_GOES_ON}"
_PAGE = """
SELECT subject, work_id FROM charged_work WHERE (subject, work_id) > (%s, %s) ORDER BY subject, work_id LIMIT %s
"""
_LOCK_KNOWN = "SELECT FROM quota_uses WHERE subject = ANY(%s) ORDER BY subject FOR UPDATE"
_LOCK_FREE = "SELECT subject FROM quota_uses WHERE subject = ANY(%s) ORDER BY subject FOR UPDATE SKIP LOCKED"
_KNOWN = "SELECT subject FROM quota_uses WHERE subject = ANY(%s)"
_WAIT_BRIEFLY = "SET LOCAL lock_timeout = '300ms'"
_FORGET = f"""
DELETE FROM charged_work WHERE (subject, work_id) > (%s, %s) AND (subject, work_id) <= (%s, %s) AND NOT {_GOES_ON}
"""  # noqa: S608 - made of our own words
_LIMITS = """
SELECT 'key:' || id, 'the key', concurrent_tasks, tasks_per_day FROM api_keys
 WHERE id = %s AND (concurrent_tasks IS NOT NULL OR tasks_per_day IS NOT NULL)
 UNION ALL
SELECT 'tenant:' || name, 'the tenant', concurrent_tasks, tasks_per_day FROM tenants
 WHERE name = %s AND (concurrent_tasks IS NOT NULL OR tasks_per_day IS NOT NULL)
"""
_ANEW = "DELETE FROM charged_work WHERE work_id = ANY(%s) AND kind = 'step'"
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
    """Work that is to be accepted, all of it or nothing: ids of tasks, or one of a workflow, a step or a training.

    Attributes:
        kind: task, workflow, step or training.
        weight: How many tasks each of the ids counts as.
        daily: How many tasks count for the day, if not all of them: what goes on was counted when it began.
        open_for: Subjects for which it is counted as open already.
    """

    quotas: Sequence[Quota]
    ids: Sequence[UUID]
    kind: str = "task"
    weight: int = 1
    daily: int | None = None
    open_for: frozenset[str] = frozenset()

    @property
    def tasks(self) -> int:
        """How many tasks it counts as."""
        return self.weight * len(self.ids)

    @property
    def today(self) -> int:
        """How many of them count for the day."""
        return self.tasks if self.daily is None else self.daily


@dataclass(slots=True)
class _Use:
    """What a subject has used: the tasks of the day, and the open ones, of which `added` were admitted here and are not
    written yet."""

    units: int
    stored: int
    added: int = 0
    counted: bool = False

    @property
    def open(self) -> int:
        return self.stored + self.added


async def charge(connection: Connection, one: Charge, *, once: bool = False) -> None:
    """Count a workflow, a step or a training in the open transaction of `connection`; one that goes on may be open
    already, and is so once. With `once` what is open already was counted for the day, too.

    Raises:
        InvalidInput: there is never room for so much.
        LimitReached: it is too much now. The transaction is to be rolled back.
    """
    subjects = [quota.subject for quota in one.quotas if quota.concurrent is not None]
    found = await (await connection.execute(_COUNTED, (subjects, list(one.ids)))).fetchall()
    open_for = frozenset(subject for (subject,) in found)
    asked = replace(one, open_for=open_for, daily=0 if once and open_for else one.daily)
    _check_ever(asked, field="body")
    (refusal,) = await admit(connection, [asked])
    if refusal is not None:
        raise refusal


async def quotas_of(connection: Connection, key_id: UUID | None, tenant: str | None) -> list[Quota]:
    """The quotas of a key that was given out, and of a tenant, as they are now; none where nothing is limited."""
    rows = await (await connection.execute(_LIMITS, (key_id, tenant))).fetchall()
    return [Quota(*row) for row in rows]


async def begin_anew(connection: Connection, step_ids: Sequence[UUID]) -> None:
    """Forget what steps were counted as that are to be run again."""
    await connection.execute(_ANEW, (list(step_ids),))


async def require_room(connection: Connection, quotas: Sequence[Quota], number: int, *, field: str) -> None:
    """Look whether so many tasks more may be begun, before anything is done for them. Nothing is locked or counted:
    whether they are accepted is settled when they are stored.

    Raises:
        InvalidInput: there is never room for so many; `field` names them.
        LimitReached: there is no room now.
    """
    asked = Charge(quotas, [_ANY], weight=number)
    _check_ever(asked, field=field)
    rows = await (await connection.execute(_LOOK, ([quota.subject for quota in quotas],))).fetchall()
    uses = {subject: _Use(int(units), int(stored)) for subject, units, _, stored in rows}
    if refusal := await _refusal(asked, uses, float(rows[0][2]), partial(_count, connection)):
        raise refusal


def _check_ever(asked: Charge, *, field: str) -> None:
    """Raises:
    InvalidInput: the quotas never have room for so many tasks; waiting would not help.
    """
    for quota in asked.quotas:
        begun = 0 if quota.subject in asked.open_for else asked.tasks
        for number, most in ((begun, quota.concurrent), (asked.today, quota.daily)):
            if most is not None and number > most:
                raise InvalidInput(f"These are {number} tasks, and the limit of {quota.whose} is {most}.", field=field)


async def locked_elsewhere(connection: Connection, subjects: Collection[str]) -> set[str]:
    """Those keys and tenants whose rows somebody else keeps locked. The others are locked in the open transaction of
    `connection` from now on; no lock is waited for."""
    found = await (await connection.execute(_KNOWN, (list(subjects),))).fetchall()
    free = await (await connection.execute(_LOCK_FREE, (list(subjects),))).fetchall()
    return {subject for (subject,) in found} - {subject for (subject,) in free}


async def wait_briefly(connection: Connection) -> None:
    """Wait for no lock longer than a moment in the open transaction of `connection`: as long as another process needs
    that counts as well.

    A wait that ends like this raises `psycopg.errors.LockNotAvailable`.
    """
    await connection.execute(_WAIT_BRIEFLY)


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
        refusal = await _refusal(one, uses, seconds_left, partial(_clear, connection))
        verdicts.append(refusal)
        if refusal is None:
            for quota in one.quotas:
                uses[quota.subject].added += one.tasks
                uses[quota.subject].units += one.today
    admitted = [one for one, refusal in zip(charges, verdicts, strict=True) if refusal is None]
    await _write(connection, admitted, uses)
    return verdicts


async def _refusal(
    asked: Charge, uses: Mapping[str, _Use], seconds_left: float, count: Callable[[str], Awaitable[int]]
) -> LimitReached | None:
    """`count` tells how many have really not ended; it is asked once for each subject that seems to have no room."""
    more, today = asked.tasks, asked.today
    for quota in asked.quotas:
        use = uses[quota.subject]
        if today and quota.daily is not None and use.units + today > quota.daily:
            return LimitReached(
                f"Of {quota.whose}, {use.units} of {quota.daily} tasks were accepted today, and this is {today}.",
                limit=quota.daily,
                retry_after=seconds_left,
            )
        if quota.concurrent is None or quota.subject in asked.open_for:
            continue
        if use.open + more > quota.concurrent and not use.counted:
            use.stored, use.counted = await count(quota.subject), True
        if use.open + more > quota.concurrent:
            return LimitReached(
                f"Of {quota.whose}, {use.open} of {quota.concurrent} tasks have not ended, and this is {more}.",
                limit=quota.concurrent,
                retry_after=_CONCURRENT_RETRY_SECONDS,
            )
    return None


async def _clear(connection: Connection, subject: str) -> int:
    """Forget what has ended; returns how many tasks are left."""
    await connection.execute(_CLEAR, (subject,))
    return await _number(connection, _SUM, subject)


async def _count(connection: Connection, subject: str) -> int:
    return await _number(connection, _COUNT, subject)


async def _number(connection: Connection, statement: str, subject: str) -> int:
    ((number,),) = await (await connection.execute(statement, (subject,))).fetchall()
    return int(number)


async def _write(connection: Connection, admitted: Sequence[Charge], uses: Mapping[str, _Use]) -> None:
    if not admitted:
        return
    rows = [
        (quota.subject, work, one.kind, one.weight)
        for one in admitted
        for quota in one.quotas
        if quota.concurrent is not None
        for work in one.ids
    ]
    counts = [list(uses), [use.units for use in uses.values()]]
    charges = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], [], []]
    await connection.execute(_CHARGE, [*counts, *charges], prepare=True)


async def forget_ended(connection: Connection, after: tuple[str, UUID], limit: int) -> tuple[str, UUID] | None:
    """Forget which work has ended of the next `limit` rows of open work behind `after`, which is a subject and an id;
    returns where they ended, or None at the end of all. `connection` must be in autocommit mode.

    Whoever accepts work, or lets it go on, has its subjects locked meanwhile: what goes on is not forgotten.
    """
    async with connection.transaction():
        page = await (await connection.execute(_PAGE, (*after, limit))).fetchall()
        if not page:
            return None
        await connection.execute(_LOCK_KNOWN, (list({subject for subject, _ in page}),))
        await connection.execute(_FORGET, (*after, *page[-1]))
    subject, work = page[-1]
    return (subject, work) if len(page) == limit else None
