"""Tidying of what the system keeps for a while, in small batches."""

from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, text, update

from compute.db.away import DatabaseAway
from compute.db.direct import DirectConnection
from compute.db.keys import one_of
from compute.db.session import Database
from compute.db.tables import ChargedWork, DispatcherBeat, IdempotencyKey, QuotaUse, Task, TenantTurn
from compute.retention.tidy import tidy
from compute.schemas.enums import TaskStatus
from compute.tasks.submission.quotas import Quota
from compute.tasks.submission.rows import Submission, write
from tests.integration.rows import new_task

LONG_AGO = func.now() - timedelta(days=8)


async def test_one_locked_row_delays_itself_alone(database: Database) -> None:
    old = [{"key": f"old-{place}", "fingerprint": "f", "status_code": 201, "answer": "{}"} for place in range(2500)]
    turns = [{"queue": "image", "tenant": f"old-{place}"} for place in range(1200)]
    async with database.transaction() as session:
        await session.execute(insert(IdempotencyKey).values(created_at=LONG_AGO), old)
        await session.execute(insert(TenantTurn).values(served_at=LONG_AGO), turns)
        await session.execute(insert(DispatcherBeat).values(id="old", pools={}, seen_at=LONG_AGO))
        await session.execute(insert(IdempotencyKey).values(created_at=func.now()), [old[0] | {"key": "new"}])
        await session.execute(insert(TenantTurn).values(served_at=func.now()), [{"queue": "image", "tenant": "new"}])
        await session.execute(insert(DispatcherBeat).values(id="new", pools={}, seen_at=func.now()))

    async with database.engine.begin() as somebody:
        await somebody.execute(text("SELECT 1 FROM idempotency_keys WHERE key = 'old-1' FOR UPDATE"))
        await somebody.execute(text("SELECT 1 FROM tenant_turns WHERE tenant = 'old-2' FOR UPDATE"))
        await tidy(database)

    async with database.transaction() as session:
        assert set(await session.scalars(select(IdempotencyKey.key))) == {"new", "old-1"}
        assert set(await session.scalars(select(TenantTurn.tenant))) == {"new", "old-2"}
        assert set(await session.scalars(select(DispatcherBeat.id))) == {"new"}
    await tidy(database)
    async with database.transaction() as session:
        assert set(await session.scalars(select(IdempotencyKey.key))) == {"new"}
        assert set(await session.scalars(select(TenantTurn.tenant))) == {"new"}


async def test_limits_remember_open_work_alone_however_long_their_owner_works(database: Database) -> None:
    quotas = [Quota("key:busy", "this key", 5000, None), Quota("tenant:busy", "this key's tenant", None, 1_000_000)]
    connection = DirectConnection(database, by_key=False)
    open_tasks: set[UUID] = set()
    # First more than is looked at in one go. The limit is never reached, so that nobody makes room.
    for number in (1500, 50, 50, 50):
        tasks = [new_task() for _ in range(number)]
        await connection.run(partial(write, batch=[Submission(tasks, quotas=quotas)]))
        ended = [task.id for task in tasks[1:]]
        open_tasks.add(tasks[0].id)
        async with database.transaction() as session:
            await session.execute(update(Task).where(one_of(Task.id, ended)).values(status=TaskStatus.COMPLETED))
        await tidy(database)
        async with database.transaction() as session:
            charged = [tuple(row) for row in await session.execute(select(ChargedWork.subject, ChargedWork.work_id))]
        assert sorted(charged) == sorted(("key:busy", work) for work in open_tasks)
    await connection.close()
    async with database.transaction() as session:
        used = dict((await session.execute(select(QuotaUse.subject, QuotaUse.units))).all())
    assert used == {"key:busy": 1650, "tenant:busy": 1650}


PARTS = {
    "idempotency_keys": "INSERT INTO idempotency_keys (key, fingerprint, status_code, answer, created_at) "
    "VALUES ('old', 'f', 201, '{}', now() - interval '400 days')",
    "tenant_turns": "INSERT INTO tenant_turns (queue, tenant, served_at) "
    "VALUES ('image', 'old', now() - interval '400 days')",
    "dispatchers": "INSERT INTO dispatchers (id, pools, seen_at) VALUES ('old', '{}', now() - interval '400 days')",
    "audit_log": "INSERT INTO audit_log (id, created_at, request_id, key_name, address, operation, objects, status) "
    "VALUES (gen_random_uuid(), now() - interval '400 days', 'r', 'k', 'a', 'o', '{}', 200)",
    "request_rates": "INSERT INTO request_rates (subject, minute, used, granted) "
    "VALUES ('old', now() - interval '400 days', 1, 1)",
    "charged_work": "INSERT INTO charged_work (subject, work_id, kind, weight) "
    "VALUES ('old', gen_random_uuid(), 'task', 1)",
}
"""What each part forgets."""


@pytest.mark.parametrize("locked", PARTS)
async def test_a_part_that_cannot_be_done_keeps_no_other_from_being_done(database: Database, locked: str) -> None:
    async with database.transaction() as session:
        for old in PARTS.values():
            await session.execute(text(old))
    async with database.engine.begin() as somebody:
        await somebody.execute(text(f"LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseAway):
            await tidy(database)
    assert {table for table in PARTS if await _has_rows(database, table)} == {locked}


async def _has_rows(database: Database, table: str) -> bool:
    async with database.transaction() as session:
        return bool(await session.scalar(text(f"SELECT count(*) FROM {table}")))  # noqa: S608 - of this module
