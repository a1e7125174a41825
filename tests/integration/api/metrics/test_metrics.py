"""Figures at /metrics, as Prometheus reads them."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import psycopg
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from sqlalchemy import select, text
from sqlalchemy.engine import make_url

from compute.db.session import Database, libpq_url
from compute.db.tables import MetricSum
from compute.metrics.collection import MetricCollection
from compute.metrics.sums import MetricWriter
from compute.monitoring.fold import fold
from compute.settings import Settings
from compute.tasks.usage import add_up
from tests.integration.api.conftest import KEY, Painter, serving_api, wait_for
from tests.integration.locks import waiting_for_locks
from tests.integration.lossy import LossyWire
from tests.patience import NEVER, PATIENCE
from tests.servers import PLAIN_HTTP

SMALL = {"prompt": "a hat", "width": 64, "height": 64, "steps": 2}
Labels = tuple[tuple[str, str], ...]


@pytest.fixture
async def prometheus(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Scrapes with the API key."""
    async with httpx.AsyncClient(
        base_url=base_url, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE, verify=PLAIN_HTTP
    ) as client:
        yield client


async def scraped(prometheus: httpx.AsyncClient) -> str:
    answer = await prometheus.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return answer.text


async def write(database: Database) -> None:
    """Have this process write what it has counted."""
    writer = MetricWriter(database)
    await writer.write()
    await writer.close()


def values(exposition: str) -> dict[tuple[str, Labels], float]:
    """By name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def total(exposition: str, name: str, **labels: str) -> float:
    """The sum of all series of a name that have these labels."""
    return sum(
        value
        for (one, found), value in values(exposition).items()
        if one == name and labels.items() <= dict(found).items()
    )


async def until(prometheus: httpx.AsyncClient, name: str, least: float, **labels: str) -> str:
    async with asyncio.timeout(PATIENCE):
        while total(exposition := await scraped(prometheus), name, **labels) < least:
            await asyncio.sleep(0.2)
        return exposition


@pytest.mark.skipif(
    "CI" not in os.environ and shutil.which("promtool") is None,
    reason="needs promtool (on Debian: apt install prometheus)",
)
async def test_promtool_finds_nothing_to_say(
    api: httpx.AsyncClient, worker: Painter, prometheus: httpx.AsyncClient, database: Database
) -> None:
    created = (await api.post("/tasks/", json=SMALL)).json()
    await wait_for(api, created["id"], "COMPLETED")
    await write(database)
    exposition = await until(prometheus, "compute_task_run_duration_seconds_count", 1)
    checked = subprocess.run(  # noqa: ASYNC221
        ["promtool", "check", "metrics"],  # noqa: S607
        input=exposition,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_who_asks_for_openmetrics_gets_it(prometheus: httpx.AsyncClient) -> None:
    answer = await prometheus.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family.type for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert families["compute_database_up"] == "gauge"
    assert families["compute_task_errors"] == "counter"


async def test_a_key_is_needed(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/metrics")).status_code == 401
    wrong = {"Authorization": f"Bearer {KEY}x"}
    assert (await anonymous.get("/metrics", headers=wrong)).status_code == 401


async def test_requests_are_counted_by_route_and_never_by_what_callers_send(
    api: httpx.AsyncClient, prometheus: httpx.AsyncClient, database: Database
) -> None:
    secrets = [uuid4().hex for _ in range(4)]
    await api.get(f"/tasks/{uuid4()}")
    await api.get(f"/tasks/{secrets[0]}")
    await api.get(f"/{secrets[1]}")
    await api.request("PROPFIND", f"/tasks/{secrets[2]}")
    await api.get("/tasks/", params={secrets[3]: secrets[3]})
    await write(database)
    name = "compute_http_request_duration_seconds_count"
    exposition = await until(prometheus, name, 1, route="unmatched")
    assert total(exposition, name, route="/api/v1/tasks/{task_id}", method="GET", status="404") >= 1
    assert total(exposition, name, method="OTHER") == 1
    assert not any(secret in exposition for secret in secrets)


async def test_figures_of_all_processes_are_added_up_and_outlive_them(
    settings: Settings, database: Database, prometheus: httpx.AsyncClient
) -> None:
    labels = ["GET", "/api/v1/tasks/", "200"]
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM metric_sums"))
    for _ in range(2):
        async with serving_api(settings) as url, httpx.AsyncClient(timeout=PATIENCE, verify=PLAIN_HTTP) as client:
            for _ in range(3):
                await client.get(f"{url}/api/v1/tasks/", headers={"Authorization": f"Bearer {KEY}"})
            await write(database)
    name = "compute_http_request_duration_seconds_count"
    await until(prometheus, name, 6, route="/api/v1/tasks/", status="200")
    async with database.transaction() as session:
        counts = await session.scalar(
            select(MetricSum.counts).where(
                MetricSum.name == "compute_http_request_duration_seconds", MetricSum.labels == labels
            )
        )
    assert counts is not None
    assert sum(counts) >= 6


async def test_a_process_that_ends_writes_what_it_has_counted(database: Database) -> None:
    from compute.telemetry.instruments import TASK_WAITS

    TASK_WAITS.observe(0.2, "leaving")
    writing = asyncio.create_task(MetricWriter(database, seconds=NEVER, leave_seconds=PATIENCE).run())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    async with database.transaction() as session:
        counts = await session.scalar(select(MetricSum.counts).where(MetricSum.labels == ["leaving"]))
    assert sum(counts or ()) == 1


async def test_a_write_that_is_cancelled_half_way_counts_once(database: Database) -> None:
    from compute.telemetry.instruments import TASK_WAITS

    TASK_WAITS.observe(0.2, "cut")
    await write(database)
    for _ in range(2):
        TASK_WAITS.observe(0.2, "cut")
    writer = MetricWriter(database, seconds=0.01, leave_seconds=PATIENCE)
    async with database.transaction() as session:
        await session.execute(select(MetricSum.total).where(MetricSum.labels == ["cut"]).with_for_update())
        writing = asyncio.create_task(writer.run())
        await waiting_for_locks(database, 1)
        TASK_WAITS.observe(0.2, "cut")
        writing.cancel()
        # It has heard of that before the row is free.
        await asyncio.sleep(0)
    await asyncio.gather(writing, return_exceptions=True)
    async with database.transaction() as session:
        counts = await session.scalar(select(MetricSum.counts).where(MetricSum.labels == ["cut"]))
    assert sum(counts or ()) == 4


async def test_a_version_with_other_buckets_begins_its_histogram_anew(database: Database) -> None:
    from compute.telemetry.instruments import TASK_WAITS

    TASK_WAITS.observe(0.2, "bounds")
    await write(database)
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE metric_sums SET bounds = '{1,2}', counts = '{5,5,5}' WHERE labels = '{bounds}'")
        )
    TASK_WAITS.observe(0.2, "bounds")
    await write(database)
    async with database.transaction() as session:
        columns = select(MetricSum.bounds, MetricSum.counts).where(MetricSum.labels == ["bounds"])
        bounds, counts = (await session.execute(columns)).one()
    assert (tuple(bounds), sum(counts)) == (TASK_WAITS.bounds, 1)


_UNCERTAIN = """
INSERT INTO provider_calls (id, part, attempt, provider, vendor, account, endpoint, state, created_at, uncertain_at)
VALUES (gen_random_uuid(), 'image', 1, 'FAL_STANDARD', 'fal', 'a', 'e', 'UNCERTAIN', now(), now() - interval '90 s')
"""
_DELIVERY = """
INSERT INTO webhook_deliveries (id, task_id, url, payload, created_at, next_attempt_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'https://hooks.example.com/' || n, '{}', now() - interval '50 s',
       now() + n * interval '1 hour' FROM generate_series(-1, 1) AS n
"""
_USED = """
INSERT INTO usage_news (day, tenant, task_type, provider, tasks, calls, amount)
VALUES (current_date, 'one', 'REFINE', 'FAL_STANDARD', 1, 2, 0.25),
       (current_date, 'two', 'REFINE', 'FAL_STANDARD', 0, 3, 0.5)
"""
_WORKERS = """
INSERT INTO workers (id, name, deployment, host, pid, queues, concurrency, capacity, active, reserved, completed,
                     per_minute, memory, hangs, gpu_name, gpu_utilization, gpu_memory, gpu_memory_total, seen_at)
SELECT 'w' || n, 'Flux ' || n, 'Flux', 'node', n, '["inference"]', 1, 2, n % 2, 0, 0, 0, 1000, false, 'H100',
       CASE n WHEN 1 THEN 0.9 ELSE 0.1 END, 10, 80, now() - CASE n WHEN 3 THEN interval '40 s' ELSE interval '0' END
  FROM generate_series(1, 3) AS n
"""


async def test_figures_are_those_of_the_rows(
    api: httpx.AsyncClient, prometheus: httpx.AsyncClient, database: Database
) -> None:
    for _ in range(3):
        await api.post("/tasks/", json=SMALL)
    async with database.transaction() as session:
        for statement in (_UNCERTAIN, _DELIVERY, _USED, _WORKERS):
            await session.execute(text(statement))
    await fold(database)
    for _ in range(2):
        await add_up(database)
    exposition = await until(prometheus, "compute_queue_waiting_tasks", 3, queue="inference")
    expected = {
        ("compute_tasks", "PENDING"): 3,
        ("compute_tasks_by_type", "GENERATION"): 3,
        ("compute_tasks_created_total", "inference", "GENERATION"): 3,
        ("compute_queue_running_tasks", "inference"): 0,
        ("compute_queue_workers", "inference"): 0,
        ("compute_dispatchers",): 0,
        ("compute_provider_calls", "fal", "UNCERTAIN"): 1,
        ("compute_webhook_waiting_deliveries",): 3,
        ("compute_webhook_overdue_deliveries",): 2,
        ("compute_usage_units_total", "FAL_STANDARD", "calls"): 5,
        ("compute_cost_total", "FAL_STANDARD", "USD"): 0.75,
        ("compute_workers", "Flux", "busy"): 1,
        ("compute_workers", "Flux", "idle"): 1,
        ("compute_workers", "Flux", "unhealthy"): 1,
        ("compute_worker_memory_bytes", "Flux"): 2000,
    }
    found = {(name, *sorted(dict(labels).values())): value for (name, labels), value in values(exposition).items()}
    wanted = {(name, *sorted(labels)): value for (name, *labels), value in expected.items()}
    assert {key: found.get(key) for key in wanted} == wanted
    assert total(exposition, "compute_queue_gpu_utilization_ratio", queue="inference") == pytest.approx(0.5)
    assert total(exposition, "compute_provider_oldest_uncertain_age_seconds", vendor="fal") >= 90
    assert total(exposition, "compute_webhook_oldest_waiting_age_seconds") >= 50


async def test_scrapes_of_one_second_share_a_collection(database: Database) -> None:
    now = 1000.0
    collection = MetricCollection(database, served=(), currency="USD", own=lambda: (), clock=lambda: now)
    first, *others = await asyncio.gather(*(collection.collect() for _ in range(20)))
    assert all(other is first for other in others)
    now += 0.5
    assert await collection.collect() is first
    now += 0.5
    assert await collection.collect() is not first
    await collection.close()


@asynccontextmanager
async def away(database_url: str) -> AsyncIterator[None]:
    """Nobody is connected to the database, nor can anybody be."""
    url = make_url(database_url)
    beside = libpq_url(url.set(database="postgres").render_as_string(hide_password=False))
    name = sql.Identifier(url.database or "")
    async with await psycopg.AsyncConnection.connect(beside, autocommit=True) as connection:
        await connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database]
        )
        try:
            yield
        finally:
            await connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


async def test_a_database_that_says_nothing_is_not_waited_for(database_url: str) -> None:
    async with LossyWire(database_url).open() as wire:
        silent = Database(wire.url)
        collection = MetricCollection(silent, served=(), currency="USD", own=lambda: (), patience_seconds=0.2)
        wire.hush(deaf=True)
        exposition, _ = (await collection.collect()).text("")
        assert total(exposition.decode(), "compute_database_up") == 0
        await silent.close()


async def test_without_the_database_a_scrape_says_so(prometheus: httpx.AsyncClient, database_url: str) -> None:
    assert total(await scraped(prometheus), "compute_database_up") == 1
    async with away(database_url), asyncio.timeout(PATIENCE):
        while total(exposition := await scraped(prometheus), "compute_database_up") == 1:
            await asyncio.sleep(0.2)
    found = values(exposition)
    assert any(one == "compute_build_info" for one, _ in found)
    assert not any(one == "compute_dispatchers" for one, _ in found), "nothing is better than something false"
