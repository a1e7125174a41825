"""Totals of what comes from an installation without sums of its own: of its latest rows, and they say so."""

import httpx
from sqlalchemy import text

from compute.db.session import Database
from compute.monitoring.fold import fold
from tests.integration.api.monitoring.test_monitoring import ask
from tests.integration.rows import add, claim, settle, start

_TASKS = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance, created_at, completed_at)
SELECT gen_random_uuid(), 'EDITING', 'image', 'default', 1, 'COMPLETED', '{}', :instance,
       now() - n * interval '1 minute', now() FROM generate_series(1, CAST(:number AS int)) AS n
"""
_PODS = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance)
SELECT gen_random_uuid(), 'EDITING', 'image', 'default', 1, 'PENDING', '{}', 'pod-' || n FROM generate_series(1, 210) n
"""
_WORKFLOWS = """
INSERT INTO workflows (id, name, status, origin_instance, origin_zone)
SELECT gen_random_uuid(), 'a', 'RUNNING', CASE WHEN n > 210 THEN 'late' ELSE 'pod-' || n END, 'eu'
  FROM generate_series(1, CAST(:number AS int)) AS n
"""


async def labelled(database: Database) -> None:
    """More installations than have sums of their own; and one that comes last."""
    async with database.transaction() as session:
        await session.execute(text(_PODS))
        await session.execute(text(_WORKFLOWS), {"number": 210})
    await fold(database)
    for _ in range(3):
        await add(database, origin_instance="late", origin_zone="eu")
    (task,) = await claim(database, 1)
    await start(database, task)
    await settle(database, task)
    async with database.transaction() as session:
        await session.execute(text(_WORKFLOWS), {"number": 213})
    await fold(database)


async def test_what_all_of_its_rows_say_is_exact(api: httpx.AsyncClient, database: Database) -> None:
    await labelled(database)
    for query in ({"origin_instance": "late"}, {"origin_instance": "late", "origin_zone": "eu"}):
        stats = await ask(api, "/monitoring/stats", **query)
        by_status = {name: number for name, number in stats["by_status"].items() if number}
        assert (stats["total_tasks"], sum(by_status.values()), stats["total_is_exact"]) == (3, 3, True)
        assert (stats["by_task_type"], stats["by_provider"]) == ({"GENERATION": 3}, {"LOCAL": 3})
        assert (stats["tasks_last_hour"], stats["tasks_last_24h"]) == (3, 3)
        said = await ask(api, "/monitoring/tasks", **query)
        assert (said["total"], said["total_is_exact"], len(said["items"])) == (3, True, 3)
        workflows = await ask(api, "/monitoring/workflows/stats", **query)
        assert (workflows["total_workflows"], workflows["total_is_exact"]) == (3, True)
        assert (workflows["workflows_last_hour"], workflows["avg_steps_per_workflow"]) == (3, 0.0)
        said = await ask(api, "/monitoring/workflows", **query)
        assert (said["total"], said["total_is_exact"]) == (3, True)
    stats = await ask(api, "/monitoring/stats", origin_instance="never seen")
    assert (stats["total_tasks"], stats["total_is_exact"]) == (0, True)
    stats = await ask(api, "/monitoring/stats", origin_instance="pod-1")
    assert (stats["total_tasks"], stats["total_is_exact"]) == (1, True)


async def test_of_too_many_rows_the_latest_are_counted(api: httpx.AsyncClient, database: Database) -> None:
    await labelled(database)
    async with database.transaction() as session:
        await session.execute(text(_TASKS), {"instance": "late", "number": 10_100})
    await fold(database)
    stats = await ask(api, "/monitoring/stats", origin_instance="late")
    assert (stats["total_tasks"], stats["total_is_exact"]) == (5_000, False)
    # A minute may have ended meanwhile.
    assert 59 + 3 <= stats["tasks_last_hour"] <= 60 + 3
    said = await ask(api, "/monitoring/tasks", origin_instance="late")
    assert (said["total_is_exact"], len(said["items"])) == (False, 50)
    assert 0 < said["total"] <= 10_000
    assert (await ask(api, "/monitoring/stats"))["total_tasks"] == 210 + 3 + 10_100
