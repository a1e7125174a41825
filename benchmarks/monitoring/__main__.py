"""Times of the monitoring routes: `python -m benchmarks.monitoring`.

A database of a million tasks of 10,000 tenants from 100,000 installations is read over HTTP while a hundred tasks a
second are accepted, claimed, started and completed. For each route: milliseconds from the request to the whole answer
(median, 95th percentile, longest), the rows and pages that its statements read as Postgres tells them, and how it
reads them. Beside them, in turns: the bare `count(*)`. Then what the routes answer, and when, while there is no task,
and while the database is away.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from benchmarks.api.bare_api import SERVING, api_server, settings
from benchmarks.harness import Server, arguments, median, postgres, print_table, say
from benchmarks.monitoring.rows import fill, fill_workers
from benchmarks.monitoring.writing import writing
from benchmarks.plans import Statements, explain
from benchmarks.stack import KEY
from compute.api.app import create_app
from compute.db.session import Database
from compute.monitoring.fold import fold

_HEADERS = {"Authorization": f"Bearer {KEY}"}
_BARE = ("SELECT count(*) FROM tasks", "SELECT status, count(*) FROM tasks WHERE deleted_at IS NULL GROUP BY status")


def main() -> None:
    parser = arguments(__doc__, rounds=40)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="in the database (1000000)")
    parser.add_argument("--per-second", type=int, default=100, help="tasks that are written meanwhile (100)")
    parser.add_argument("--instances", type=int, default=100_000, help="from which tasks come (100000)")
    parser.add_argument("--tenants", type=int, default=10_000, help="whose tasks they are (10000)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tasks = 3, 20_000
    with postgres() as server:
        url = server.database("monitoring")
        began = time.perf_counter()
        with psycopg.connect(url, autocommit=True) as connection:
            fill(connection, options.tasks, instances=options.instances, tenants=options.tenants)
        asyncio.run(_prepare(url))
        with psycopg.connect(url, autocommit=True) as connection:
            # As a minute later: so many news at once come from filling alone.
            connection.execute("VACUUM ANALYZE")
        say(f"{options.tasks} tasks in {time.perf_counter() - began:.0f} s")
        paths = _paths(url)
        with writing(url, options.per_second, instances=options.instances), api_server(url, server.home / "api") as api:
            times = _measure(f"{api}/api/v1/monitoring/", url, paths, options.rounds)
        plans = asyncio.run(_explain(url, server, paths))
        print_table(
            f"GET /monitoring/…, {options.per_second} tasks a second written meanwhile, {options.rounds} rounds",
            ["path", "p50 ms", "p95 ms", "max ms", "rows", "pages", "by"],
            [[name, *_figures(seconds), *plans.get(name, ["", "", ""])] for name, seconds in times.items()],
        )
        _without_tasks(server)
        _without_database(server)


async def _prepare(url: str) -> None:
    database = Database(url)
    await fold(database)
    await fill_workers(database, 40)
    await database.close()


def _paths(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT id FROM tasks WHERE status = 'COMPLETED' ORDER BY created_at DESC LIMIT 1")
        workflow = connection.execute("SELECT id FROM workflows ORDER BY created_at DESC LIMIT 1").fetchone()
        task = row.fetchone()
        tenant = connection.execute("SELECT origin_tenant_id FROM tasks WHERE origin_tenant_id IS NOT NULL LIMIT 1")
        found = tenant.fetchone()
        # One of those that came last has no sums of its own, if there are many.
        pod = "SELECT origin_instance FROM tasks WHERE origin_instance <> 'shop' ORDER BY created_at DESC LIMIT 1"
        beyond = connection.execute(pod).fetchone()
    assert task and workflow and found and beyond  # noqa: PT018 - they were just made
    filters = ("status=completed", "status=pending", "task_type=VIDEO_GENERATION", "provider_type=VERTEX")
    more = ("origin_zone=eu&status=FAILED", "page=100", "sort_order=asc", f"search={str(task[0])[:13]}", "search=0")
    sorts = (f"sort_by=completed_at&origin_tenant_id={found[0]}&created_after=2000-01-01", "page_size=200")
    return [
        "stats",
        "stats?origin_instance=shop&origin_zone=eu",
        f"stats?origin_instance={beyond[0]}",
        f"tasks?origin_instance={beyond[0]}",
        "queues",
        "workers",
        "workers/health",
        "tasks",
        *(f"tasks?{query}" for query in (*filters, f"origin_tenant_id={found[0]}", *more, *sorts)),
        f"tasks/{task[0]}",
        f"tasks/{task[0]}/media",
        "workflows",
        "workflows?status=running",
        "workflows?search=catalogue 77",
        "workflows/stats",
        f"workflows/{workflow[0]}",
    ]


def _measure(base: str, url: str, paths: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """The seconds of each path, and of the bare counts, one after the other in each round."""
    times: dict[str, list[float]] = {name: [] for name in (*paths, *_BARE)}
    refused = Counter[str]()
    with httpx.Client(base_url=base, headers=_HEADERS, timeout=60) as api, psycopg.connect(url) as connection:
        connection.autocommit = True
        for number in range(rounds + 1):
            for path in paths:
                began = time.perf_counter()
                answer = api.get(path)
                seconds = time.perf_counter() - began
                if answer.status_code not in (200, 400):
                    raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
                refused[path] += answer.status_code == 400
                # The first round finds empty caches, and is not what is asked for.
                times[path] += [seconds] if number else []
            for statement in _BARE if number % 10 == 1 else ():
                began = time.perf_counter()
                connection.execute(statement.encode()).fetchall()
                times[statement].append(time.perf_counter() - began)
    for path, number in (+refused).items():
        say(f"{path} was refused {number} times: more would have to be looked through than is done at once")
    return times


def _figures(seconds: Sequence[float]) -> list[str]:
    ordered = sorted(1000 * one for one in seconds)
    last = ordered[max(0, round(0.95 * len(ordered)) - 1)]
    return [f"{median(ordered):.1f}", f"{last:.1f}", f"{ordered[-1]:.1f}"]


async def _explain(url: str, server: Server, paths: Sequence[str]) -> dict[str, list[str]]:
    """Of each path, the rows and pages that its statements read, and by which scans."""
    found = {}
    with psycopg.connect(url, autocommit=True) as connection:
        async with _in_process(url, server.home / "explained") as (api, statements):
            for path in paths:
                with statements.keeping() as kept:
                    await api.get(path)
                plans = explain(connection, kept)
                scans = dict.fromkeys(node for plan in plans for node in plan.nodes)
                rows, pages = sum(plan.rows for plan in plans), sum(plan.pages for plan in plans)
                found[path] = [str(rows), str(pages), ", ".join(scans)]
    return found


@asynccontextmanager
async def _in_process(url: str, home: Path) -> Any:
    app = create_app(settings(url, home), SERVING)
    async with app.router.lifespan_context(app):
        base = "http://127.0.0.1/api/v1/monitoring/"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base, headers=_HEADERS) as api:
            yield api, Statements(app.state.resources.database)


def _without_tasks(server: Server) -> None:
    url = server.database("empty")
    with api_server(url, server.home / "empty") as api, httpx.Client(headers=_HEADERS, timeout=60) as client:
        rows = []
        for path in ("stats", "queues", "workers/health", "tasks", "workflows", "workflows/stats"):
            client.get(f"{api}/api/v1/monitoring/{path}").raise_for_status()
            began = time.perf_counter()
            client.get(f"{api}/api/v1/monitoring/{path}").raise_for_status()
            rows.append([path, f"{1000 * (time.perf_counter() - began):.1f}"])
    print_table("No tasks at all", ["path", "ms"], rows)


def _without_database(server: Server) -> None:
    """A port on which nobody listens: what a server that is away looks like."""
    away = "postgresql://compute@127.0.0.1:9/compute"
    with api_server(away, server.home / "away") as api, httpx.Client(headers=_HEADERS, timeout=60) as client:
        rows = []
        for path in ("stats", "queues", "workers", "tasks", "workflows/stats"):
            began = time.perf_counter()
            answer = client.get(f"{api}/api/v1/monitoring/{path}")
            rows.append([path, str(answer.status_code), f"{1000 * (time.perf_counter() - began):.1f}"])
    print_table("The database is away", ["path", "answer", "ms"], rows)


if __name__ == "__main__":
    main()
