"""Cost of the lists with a million rows: `python -m benchmarks.api.lists`.

Every filter of every list, alone with a frequent value, one that three old rows have and one that no row has,
and together; far pages by `skip` and by `cursor`. For each: milliseconds from the request to the whole answer, the rows
that its statements examined, the pages of the table and its indices that they read, and the kinds of scans.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg

from benchmarks.api.bare_api import SERVING, settings
from benchmarks.api.lists_rows import fill
from benchmarks.harness import Server, arguments, postgres, print_table, say
from benchmarks.plans import Statements, explain
from benchmarks.stack import KEY
from compute.api.app import create_app
from compute.api.paging import cursor_of

_LABELS = {"origin_tenant_id": ("big", "rare", "none"), "origin_instance": ("default", "rare", "none")}
_TASKS = _LABELS | {
    "status": ("COMPLETED", "FAILED", "EXECUTING", "pending"),
    "task_type": ("GENERATION", "VIDEO_GENERATION", "REFINE"),
    "origin_zone": ("eu", "rare", "none"),
}
_OTHERS = _LABELS | {"status": ("COMPLETED", "FAILED", "RUNNING")}
LISTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "tasks/": _TASKS,
    "tasks/generation": {name: values for name, values in _TASKS.items() if name != "task_type"}
    | {"workflow_id": ("w-500", "rare", "none")},
    "workflows/": _OTHERS | {"include_deleted": ("true",)},
    "training/": _OTHERS,
}


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each table (1000000)")
    parser.add_argument("--most", type=float, default=120, help="timeout of a request in seconds (120)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.rows = 1, 20_000
    with postgres() as server:
        url = server.database("lists")
        with psycopg.connect(url, autocommit=True) as connection:
            say(f"{options.rows} rows of each table")
            fill(connection, options.rows)
        asyncio.run(measure(url, server, options.rounds, options.most))


def queries(path: str, filters: Mapping[str, tuple[str, ...]], middle: str) -> list[dict[str, str]]:
    """Return the queries of a list."""
    listed = {"tasks/": "tasks", "tasks/generation": "generation", "workflows/": "workflows"}.get(path, "trainings")
    alone = [{name: value} for name, values in filters.items() for value in values]
    names = list(filters)
    pairs = [{one: filters[one][0], other: filters[other][-1]} for one, other in pairwise(names)]
    every = {name: values[0] for name, values in filters.items()}
    far = cursor_of(listed, middle, "00000000-0000-0000-0000-000000000000")
    pages = [{"skip": "1000"}, {"skip": "10000"}, {"skip": "900000"}, {"cursor": far}]
    return [{}, *alone, *pairs, every, *pages, {"cursor": far, "origin_tenant_id": "big"}, {"limit": "200"}]


async def measure(url: str, server: Server, rounds: int, most: float) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT min(created_at) + (max(created_at) - min(created_at)) / 2 FROM tasks"
        ).fetchone()
        middle = "" if row is None else row[0].isoformat()
        async with _client(url, server.home / "api", most) as (api, statements):
            for path, filters in LISTS.items():
                rows = [
                    await _measured(api, statements, connection, path, query, rounds)
                    for query in queries(path, filters, middle)
                ]
                print_table(f"GET /{path}", ["query", "answer", "rows", "ms", "examined", "pages", "by"], rows)


async def _measured(
    api: httpx.AsyncClient,
    statements: Statements,
    connection: psycopg.Connection[Any],
    path: str,
    query: dict[str, str],
    rounds: int,
) -> list[str]:
    asked = " ".join(f"{name}={value[:12]}" for name, value in query.items()) or "everything"
    times = []
    with statements.keeping() as kept:
        for _ in range(rounds):
            del kept[:]
            begin = time.perf_counter()
            try:
                answer = await api.get(path, params=query)
            except TimeoutError:
                return [asked, "given up", "", "", "", "", ""]
            times.append(1000 * (time.perf_counter() - begin))
            if times[-1] > 2000:
                break
    said = answer.json() if answer.status_code == 200 else []
    listed = said if isinstance(said, list) else said.get("workflows", said.get("tasks"))
    plans = explain(connection, kept)
    scans = dict.fromkeys(node for plan in plans for node in plan.nodes)
    return [
        asked,
        str(answer.status_code),
        str(len(listed)),
        f"{statistics.median(times):.1f}",
        str(sum(plan.rows for plan in plans)),
        str(sum(plan.pages for plan in plans)),
        ", ".join(scans),
    ]


@asynccontextmanager
async def _client(url: str, home: Path, most: float) -> Any:
    app = create_app(settings(url, home), SERVING)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1/api/v1/", headers=headers, timeout=most
        ) as api:
            yield api, Statements(app.state.resources.database)


if __name__ == "__main__":
    main()
