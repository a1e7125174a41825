"""While processes of the last release still run, nothing that they do spoils the sums."""

# ruff: noqa: S608 - the parts of these statements are constants

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psycopg
from alembic import command

from compute.db.migrations.upgrade import alembic_config, upgrade
from compute.db.session import Database
from compute.monitoring.fold import fold
from compute.monitoring.scope import Scope
from compute.monitoring.totals import task_totals
from tests.integration.monitoring.test_counts import assert_exact
from tests.integration.monitoring.test_labels import LABELS, assert_labels_exact

_LABELLED = "tenant, origin_instance, origin_zone"
# As the release before `work_sums` did it.
_OLD_FOLD = f"""
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('work_news', 0)) AS mine
), gone AS (
    DELETE FROM work_news
     WHERE id IN (SELECT id FROM work_news WHERE (SELECT mine FROM turn) ORDER BY id LIMIT 10000)
    RETURNING *
), counted AS (
    INSERT INTO work_counts (kind, whole, {_LABELLED}, queue, type, provider, status, number, steps)
    SELECT kind, whole, CASE WHEN whole THEN '' ELSE tenant END, origin_instance, origin_zone, queue, type, provider,
           said.status, sum(said.number), sum(said.steps)
      FROM gone
     CROSS JOIN LATERAL (VALUES (status, number, steps), ('OPEN', -closed, 0)) AS said(status, number, steps)
     CROSS JOIN (VALUES (true), (false)) AS of(whole)
     WHERE said.number <> 0 OR said.steps <> 0
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        ON CONFLICT (kind, whole, {_LABELLED}, queue, type, provider, status) DO UPDATE
       SET number = work_counts.number + excluded.number, steps = work_counts.steps + excluded.steps
), remembered AS (
    INSERT INTO work_history (kind, span, whole, tenant, at, origin_instance, origin_zone, queue, created)
    SELECT kind, span, whole, CASE WHEN whole THEN '' ELSE tenant END, date_trunc(span, at, 'UTC'), origin_instance,
           origin_zone, queue, sum(created)
      FROM (SELECT * FROM gone WHERE created <> 0) AS events
     CROSS JOIN (VALUES ('minute'), ('hour')) AS spans(span)
     CROSS JOIN (VALUES (true), (false)) AS of(whole)
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
        ON CONFLICT (kind, span, whole, tenant, at, origin_instance, origin_zone, queue) DO UPDATE
       SET created = work_history.created + excluded.created
)
SELECT count(*) FROM gone
"""
_WRITE = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance, origin_zone, origin_tenant_id)
SELECT gen_random_uuid(), 'GENERATION', 'inference', 'default', 1, 'PENDING', '{}', 'pod-' || n,
       CASE WHEN n %% 2 = 0 THEN 'eu' END, CASE WHEN n %% 2 = 0 THEN 'acme' END
  FROM generate_series(%s::int, %s::int) AS n
"""
_END = """
UPDATE tasks SET status = 'CANCELLED', completed_at = clock_timestamp()
 WHERE id IN (SELECT id FROM tasks WHERE status = 'PENDING' LIMIT 2 FOR UPDATE SKIP LOCKED)
"""


def _repeat(url: str, stop: Event, *statements: str) -> int:
    number = 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '10s'")
        while not stop.is_set():
            for statement in statements:
                connection.execute(statement.encode())
            number += 1
    return number


def test_an_older_fold_runs_through_the_upgrade_and_after_it(database_url: str) -> None:
    """It is kept from the news, and goes on; what it has counted before is counted once."""
    url = database_url.replace("+psycopg", "")
    command.downgrade(alembic_config(database_url), "0028")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_WRITE, [1, 300])
        connection.execute(_OLD_FOLD)
        connection.execute(_WRITE, [200, 350])
    stop = Event()
    one = _WRITE.replace("%s::int, %s::int", "1, 3").replace("%%", "%")
    with ThreadPoolExecutor() as threads:
        running = [threads.submit(_repeat, url, stop, _OLD_FOLD), threads.submit(_repeat, url, stop, one, _END)]
        try:
            upgrade(database_url)
            asyncio.run(_fold_beside(database_url))
        finally:
            stop.set()
        assert all(work.result() for work in running)

    async def compare() -> None:
        database = Database(database_url)
        await fold(database)
        await assert_exact(database)
        assert await assert_labels_exact(database, (None,)) == LABELS
        async with database.transaction() as session:
            totals = await task_totals(session, Scope())
        assert totals.created_last_hour == totals.total
        await database.close()

    asyncio.run(compare())


async def _fold_beside(database_url: str) -> None:
    database = Database(database_url)
    for _ in range(5):
        await fold(database)
    await database.close()


def test_totals_stay_when_the_sums_are_taken_back_and_made_again(database_url: str) -> None:
    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_WRITE, [1, 20])
    asyncio.run(_fold_beside(database_url))
    command.downgrade(alembic_config(database_url), "0028")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_WRITE, [21, 40])
        connection.execute(_OLD_FOLD)
        row = connection.execute("SELECT sum(number) FROM work_counts WHERE whole").fetchone()
    assert row == (40,)
    upgrade(database_url)

    async def compare() -> None:
        database = Database(database_url)
        async with database.transaction() as session:
            for scope, number in ((Scope(), 40), (Scope("acme"), 20)):
                totals = await task_totals(session, scope)
                assert (totals.total, totals.created_last_hour) == (number, number)
        await database.close()

    asyncio.run(compare())
