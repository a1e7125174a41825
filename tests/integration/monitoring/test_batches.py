"""Folding and forgetting stay possible however slow the database is, and however long the history."""

import asyncio
from dataclasses import replace

from sqlalchemy import func, select, text

from compute.db.session import Database
from compute.db.tables import WorkNews, WorkTime
from compute.monitoring.fold import fold
from compute.monitoring.scope import Scope
from compute.monitoring.totals import task_totals
from tests.integration.absent import SERVERS_ALONE
from tests.patience import PATIENCE

_NEWS = """
INSERT INTO work_news (kind, at, tenant, origin_instance, origin_zone, queue, type, provider, status, number, created)
SELECT 'task', now(), '', 'x', '', 'image', 'GENERATION', 'LOCAL', 'OPEN', 1, 1 FROM generate_series(1, 300)
"""
_HISTORY = """
INSERT INTO work_times (kind, span, whole, tenant, at, origin_instance, origin_zone, queue)
SELECT 'task', span, true, '', date_trunc(span, now()) - n * interval '1 minute', 'x', '', 'image'
  FROM generate_series(1, 5000) AS n, (VALUES ('minute'), ('hour')) AS spans(span)
"""


async def test_news_are_folded_though_all_of_them_at_once_take_too_long(database: Database, database_url: str) -> None:
    slow = """
        CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END $$"""
    async with database.transaction() as session:
        await session.execute(text(slow))
        trigger = "CREATE TRIGGER slow BEFORE DELETE ON work_news FOR EACH ROW EXECUTE FUNCTION take_long()"
        await session.execute(text(trigger))
        await session.execute(text(_NEWS))
    impatient = Database(database_url, patience=replace(SERVERS_ALONE, statement=0.4))
    await fold(impatient)
    await impatient.close()
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(WorkNews)) == 0
        assert (await task_totals(session, Scope())).total == 300


async def test_what_is_too_old_is_found_by_its_age(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text(_HISTORY))
    await fold(database, forgetting=True)
    async with database.transaction() as session:
        counts = select(WorkTime.span, func.count()).group_by(WorkTime.span)
        kept = dict((await session.execute(counts)).all())
    assert 26 * 60 - 10 < kept.pop("minute") <= 26 * 60
    assert kept == {"hour": 5000}
    # Statistics come a moment after the connection has ended.
    read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'work_times_age'"
    async with asyncio.timeout(PATIENCE):
        number = 0
        while not number:
            async with database.transaction() as session:
                number = await session.scalar(text(read)) or 0
            await asyncio.sleep(0.05)
    # Of 10,000 rows, those that went.
    assert number < 5000
