"""Callers choose labels, and as many as they like: what reads cost, and sums take, is bounded all the same."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from sqlalchemy import func, select, text

from benchmarks.plans import Statements, explain
from compute.db.lists.pages import begin_walking
from compute.db.session import Database
from compute.db.tables import Task, WorkLabel, WorkSum, WorkTime
from compute.db.tables.work import BEYOND, LABELS
from compute.metrics.cluster import read_cluster
from compute.monitoring.fold import fold
from compute.monitoring.queues import queue_states, queues_with_work
from compute.monitoring.scope import Scope, has_sums
from compute.monitoring.totals import count_tasks, count_workflows, task_totals, workflow_totals
from compute.schemas.tasks import MAX_SHORT_TEXT
from tests.integration.monitoring.test_counts import assert_exact

_ADD = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance, origin_zone, origin_tenant_id)
SELECT gen_random_uuid(), 'GENERATION', 'image', 'default', 1, 'PENDING', '{}', 'pod-' || n, 'zone-' || n % 3,
       CAST(:tenant AS text)
  FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
"""


_MANY_NEWS = """
INSERT INTO work_news (kind, at, tenant, origin_instance, origin_zone, queue, type, provider, status)
SELECT 'task', now(), '', '', '', '', '', '', '' FROM generate_series(1, 100000)
"""


async def add_of_pods(database: Database, first: int, last: int, tenant: str | None = "acme") -> None:
    async with database.transaction() as session:
        await session.execute(text(_ADD), {"first": first, "last": last, "tenant": tenant})


async def counts_by_instance(database: Database) -> Counter[str]:
    async with database.transaction() as session:
        wanted = select(Task.origin_instance, func.count()).group_by(Task.origin_instance)
        return Counter({name: number for name, number in await session.execute(wanted)})  # noqa: C416


async def assert_labels_exact(database: Database, tenants: tuple[str | None, ...] = (None, "acme")) -> int:
    """Whatever has sums of its own has all of its work in them. Return how many instances have."""
    counts = await counts_by_instance(database)
    known = 0
    async with database.transaction() as session:
        await begin_walking(session)
        for scope in (Scope(tenant, name) for tenant in tenants for name in counts):
            if await has_sums(session, scope):
                known += 1
                assert await count_tasks(session, scope) == counts[scope.origin_instance or ""], scope
    return known


@asynccontextmanager
async def rows_read(database: Database, url: str) -> AsyncIterator[Callable[[Callable[[Any], Awaitable[Any]]], Any]]:
    statements = Statements(database)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:

        async def count(read: Callable[[Any], Awaitable[Any]]) -> int:
            with statements.keeping() as kept:
                async with database.transaction() as session:
                    await read(session)
            return sum(plan.rows for plan in explain(connection, kept))

        yield count


READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "tasks": lambda session: task_totals(session, Scope()),
    "workflows": lambda session: workflow_totals(session, Scope()),
    "queues": lambda session: queue_states(session, None),
    "health": lambda session: queues_with_work(session, None),
    "a list": lambda session: count_tasks(session, Scope()),
    "a list of workflows": lambda session: count_workflows(session, Scope()),
    "tasks of a tenant": lambda session: task_totals(session, Scope("acme")),
    "queues of a tenant": lambda session: queue_states(session, "acme"),
    "metrics": lambda session: read_cluster(session, {"image"}),
    "of a zone": lambda session: task_totals(session, Scope(None, None, "zone-1")),
}


async def test_reads_cost_the_same_whatever_labels_callers_send(database: Database, database_url: str) -> None:
    async with rows_read(database, database_url) as rows_of:
        await add_of_pods(database, 1, 6)
        await fold(database)
        few = {name: await rows_of(read) for name, read in READS.items()}
        for tenant in ("acme", None, *(f"tenant-{n}" for n in range(40))):
            await add_of_pods(database, 1, 1500 if tenant == "acme" else 50, tenant)
        await fold(database)
        async with database.transaction() as session:
            # What is looked at besides the sums is the tasks that wait; their number has nothing to do with labels.
            await session.execute(text("UPDATE tasks SET status = 'COMPLETED', completed_at = clock_timestamp()"))
        await fold(database)
        async with database.transaction() as session:
            await session.execute(text("ANALYZE"))
        many = {name: await rows_of(read) for name, read in READS.items()}
    # Beside the open tasks there are completed ones now, and a few minutes more may have a row.
    for name, number in few.items():
        assert many[name] <= 3 * number + 20, name
    await assert_exact(database)


async def test_reads_find_the_news_by_their_key_in_a_table_that_was_large_once(
    database: Database, database_url: str
) -> None:
    statements = Statements(database)
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(_MANY_NEWS)
        connection.execute("DELETE FROM work_news WHERE id < (SELECT max(id) FROM work_news)")
        connection.execute("VACUUM ANALYZE work_news")
        for name, read in READS.items():
            with statements.keeping() as kept:
                async with database.transaction() as session:
                    await read(session)
            scans = {scan for plan in explain(connection, kept) for scan in plan.nodes}
            assert "Seq Scan work_news" not in scans, name


async def test_a_bounded_number_of_labels_has_sums_of_its_own(database: Database) -> None:
    for first in (1, 151, 301, 2001):
        await add_of_pods(database, first, first + 149)
        await fold(database)
    await add_of_pods(database, 1, 450)
    await fold(database)
    async with database.transaction() as session:
        for table in (WorkSum, WorkTime, WorkLabel):
            labels = select(table.whole, table.tenant, table.origin_instance, table.origin_zone).distinct()
            grains = Counter(
                (whole, tenant, instance != "", zone != "")
                for whole, tenant, instance, zone in await session.execute(labels)
            )
            # One more: that of all others.
            assert grains.pop((True, "", True, True)) == LABELS + 1
            assert max(grains.values()) == LABELS + 1
        total = select(func.sum(WorkSum.number)).where(WorkSum.whole, WorkSum.origin_zone == "")
        assert await session.scalar(total.where(WorkSum.origin_instance == BEYOND)) == 250 + 150 + 250
    assert await assert_labels_exact(database) == 2 * LABELS
    async with database.transaction() as session:
        for name in ("pod-2001", "never-seen"):
            assert not await has_sums(session, Scope(None, name))
            assert not await has_sums(session, Scope("acme", name, "zone-1"))
            assert await has_sums(session, Scope("another", name))
        for n in range(3):
            of_zone = select(func.count()).select_from(Task).where(Task.origin_zone == f"zone-{n}")
            assert await count_tasks(session, Scope(None, None, f"zone-{n}")) == await session.scalar(of_zone)
    await assert_exact(database)


async def test_two_that_fold_at_once_agree_on_who_has_sums(database: Database) -> None:
    async def add_in_parts(begin: int) -> None:
        for first in range(begin, begin + 200, 20):
            await add_of_pods(database, first, first + 40)
            await fold(database)

    await asyncio.gather(*(add_in_parts(begin) for begin in (1, 101, 201)))
    await fold(database)
    assert await assert_labels_exact(database) == 2 * LABELS


def test_no_caller_can_send_the_label_of_all_others() -> None:
    assert len(BEYOND) > MAX_SHORT_TEXT
