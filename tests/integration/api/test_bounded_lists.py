"""Every filter of every list, alone and together, beside 14,000 rows: the answer is right or refused, and its
costs are bounded. They are rows that were looked at, as Postgres tells them, and not seconds."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy.engine import URL

from benchmarks.api.lists_rows import fill
from benchmarks.plans import Statements, explain
from compute.api.app import create_app
from compute.api.paging import cursor_of
from compute.db.lists.pages import COUNTED, EXAMINED
from compute.db.tables import Base
from compute.requests.serving import Serving
from compute.settings import Settings
from tests.patience import PATIENCE

ROWS = 14_000
LIMIT = 20
MOST_SKIPPED = 10_000
KEY = "a-key-of-sixteen-characters"
ADMIN_KEY = "a-key-of-an-administrator"
PAGES = {"limit", "skip", "cursor"}
TABLES = {
    "/tasks/": "tasks",
    "/tasks/generation": "tasks",
    "/workflows/": "workflows",
    "/training/": "trainings",
    "/providers/calls": "provider_calls",
}
NAMES = {
    "/tasks/": "tasks",
    "/tasks/generation": "generation",
    "/workflows/": "workflows",
    "/training/": "trainings",
    "/providers/calls": "calls",
}
OTHERS = {
    "/training/{task_id}/events",
    "/storage/images",
    "/lora",
    "/usage",
    "/admin/keys",
    "/admin/tenants",
    "/admin/audit",
}
"""Lists of what belongs to one thing, which its key finds, of files, and of sums."""


@pytest.fixture(scope="module")
def url(postgres: URL, template: str) -> Iterator[str]:
    """The address of a database with rows, for all tests here."""
    name = f"lists_{uuid4().hex}"
    server = postgres.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        connection.execute(made)
        url = postgres.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as filled:
            fill(filled, ROWS)
        yield url
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class Asked:
    """An API beside those rows, and what its statements cost."""

    api: httpx.AsyncClient
    statements: Statements
    connection: psycopg.Connection[Any]

    async def get(self, path: str, query: dict[str, str]) -> tuple[httpx.Response, int]:
        """The answer, and how many rows were looked at for it."""
        return await self.ask("GET", path, query)

    async def ask(self, method: str, path: str, query: dict[str, str]) -> tuple[httpx.Response, int]:
        with self.statements.keeping() as kept:
            answer = await self.api.request(method, path, params=query)
        return answer, sum(plan.rows for plan in explain(self.connection, kept))

    def rows(self, path: str) -> list[dict[str, Any]]:
        """All rows of a list, newest first."""
        table = Base.metadata.tables[TABLES[path]]
        names = [name for name in ("task_type", "deleted_at", *filters_of(path)) if name in table.columns]
        columns = [sql.SQL("{0}::text AS {0}").format(sql.Identifier(name)) for name in dict.fromkeys(names)]
        asked = sql.SQL("SELECT id::text, created_at, {} FROM {} AS t ORDER BY t.created_at DESC, t.id DESC").format(
            sql.SQL(", ").join(columns), sql.Identifier(table.name)
        )
        with self.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(asked).fetchall()
        return [row for row in rows if path != "/tasks/generation" or row["task_type"] == "GENERATION"]


@asynccontextmanager
async def asking(url: str, home: Path) -> AsyncIterator[Asked]:
    app = create_app(Settings(api_key=KEY, admin_api_key=ADMIN_KEY, database_url=url, home=home), Serving({}))
    async with app.router.lifespan_context(app):
        with psycopg.connect(url, autocommit=True) as connection:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://127.0.0.1/api/v1",
                headers={"Authorization": f"Bearer {ADMIN_KEY}"},
                timeout=PATIENCE,
            ) as api:
                yield Asked(api, Statements(app.state.resources.database), connection)


@pytest.fixture
async def asked(url: str, tmp_path: Path) -> AsyncIterator[Asked]:
    async with asking(url, tmp_path) as asked:
        yield asked


@cache
def paths() -> dict[str, Any]:
    """What the document says of every path."""
    app = create_app(Settings(api_key=KEY, database_url="postgresql://nobody@localhost/none"), Serving({}))
    return {path.removeprefix("/api/v1"): said for path, said in app.openapi()["paths"].items()}


def filters_of(path: str) -> dict[str, dict[str, Any]]:
    """The filters of a list and what they take."""
    parameters = paths()[path]["get"]["parameters"]
    return {one["name"]: one["schema"] for one in parameters if one["in"] == "query" and one["name"] not in PAGES}


def fits(row: dict[str, Any], query: dict[str, str]) -> bool:
    if row.get("deleted_at") is not None and query.get("include_deleted") != "true":
        return False
    # What no column is called like must be told here.
    return all(row[name] == value for name, value in query.items() if name != "include_deleted")


def values_of(name: str, schema: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """For a filter what most rows have, what fewest have, and what none has."""
    if name == "include_deleted":
        return ["true"]
    counts = Counter(row[name] for row in rows if row[name] is not None and row.get("deleted_at") is None)
    known = [value for value, _ in counts.most_common()]
    free = not any(word in str(schema) for word in ("enum", "$ref", "uuid"))
    return list(dict.fromkeys([known[0], known[-1], *(["nobody"] if free else [])]))


def queries(path: str, rows: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    values = {name: values_of(name, schema, rows) for name, schema in filters_of(path).items()}
    yield {}
    for name in values:
        yield from ({name: value} for value in values[name])
    for one, other in combinations(values, 2):
        yield {one: values[one][0], other: values[other][-1]}
        yield {one: values[one][-1], other: values[other][0]}
    yield {name: known[0] for name, known in values.items()}


def listed(answer: httpx.Response) -> list[str]:
    said = answer.json()
    names = ("workflows", "tasks", "calls")
    rows = said if isinstance(said, list) else next(said[name] for name in names if name in said)
    return [row["id"] for row in rows]


def bound(path: str, skip: int = 0) -> int:
    """So many rows may be looked at for a page, its rows and its count."""
    counted = EXAMINED if path in ("/workflows/", "/training/", "/providers/calls") else 0
    return EXAMINED + counted + 3 * (skip + LIMIT + 1)


def test_every_list_is_known() -> None:
    limited = {
        path
        for path, operations in paths().items()
        for parameter in operations.get("get", {}).get("parameters", ())
        if parameter["name"] == "limit"
    }
    assert limited == TABLES.keys() | OTHERS


@pytest.mark.parametrize("path", TABLES)
async def test_every_filter_is_answered_or_refused_at_a_bounded_cost(asked: Asked, path: str) -> None:
    rows = asked.rows(path)
    refused = []
    for query in queries(path, rows):
        expected = [row["id"] for row in rows if fits(row, query)]
        answer, looked_at = await asked.get(path, query | {"limit": str(LIMIT)})
        assert looked_at <= bound(path), query
        if answer.status_code == 400:
            assert "cursor" in answer.json()["detail"], query
            refused.append(query)
            continue
        assert answer.status_code == 200, (query, answer.text)
        assert listed(answer) == expected[:LIMIT], query
        assert ("next" in answer.links) == (len(expected) > LIMIT), query
    # A filter alone is never refused.
    assert all(len(query) > 1 for query in refused if "include_deleted" not in query)
    for query in refused[:2]:
        expected = [row["id"] for row in rows if fits(row, query)]
        assert await through_all(asked, path, query) == expected, query


async def through_all(asked: Asked, path: str, query: dict[str, str]) -> list[str]:
    """All that a refusal's cursor leads to."""
    detail = (await asked.api.get(path, params=query)).json()["detail"]
    cursor = detail.rpartition("`")[0].rpartition("`")[2]
    seen: list[str] = []
    while cursor:
        answer, looked_at = await asked.get(path, query | {"limit": "200", "cursor": cursor})
        assert answer.status_code == 200, answer.text
        assert looked_at <= bound(path) + 600
        seen += listed(answer)
        cursor = answer.headers.get("x-next-cursor", "")
    return seen


@pytest.mark.parametrize("path", TABLES)
async def test_far_pages_are_read_from_where_they_begin(asked: Asked, path: str) -> None:
    rows = [row for row in asked.rows(path) if fits(row, {})]
    far = rows[len(rows) - 2 * LIMIT]
    cursor = cursor_of(NAMES[path], far["created_at"].isoformat(), far["id"])
    answer, looked_at = await asked.get(path, {"limit": str(LIMIT), "cursor": cursor})
    assert listed(answer) == [row["id"] for row in rows[len(rows) - 2 * LIMIT + 1 :][:LIMIT]]
    assert looked_at <= bound(path)
    answer, looked_at = await asked.get(path, {"limit": str(LIMIT), "skip": str(MOST_SKIPPED)})
    assert listed(answer) == [row["id"] for row in rows[MOST_SKIPPED:][:LIMIT]]
    assert looked_at <= bound(path, MOST_SKIPPED)
    answer, looked_at = await asked.get(path, {"skip": str(MOST_SKIPPED + 1)})
    assert (answer.status_code, looked_at) == (400, 0)
    assert "`cursor`" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/workflows/", "/training/"])
async def test_a_total_is_counted_up_to_a_bound(asked: Asked, path: str) -> None:
    rows = [row for row in asked.rows(path) if fits(row, {})]
    said = (await asked.api.get(path, params={"limit": "1"})).json()
    assert (said["total"], said["total_is_exact"]) == (COUNTED, False)
    said = (await asked.api.get(path, params={"limit": "1", "origin_tenant_id": "rare"})).json()
    assert (said["total"], said["total_is_exact"]) == (sum(row["origin_tenant_id"] == "rare" for row in rows), True)
    said = (await asked.api.get(path, params={"limit": "1", "status": "FAILED"})).json()
    assert (said["total"], said["total_is_exact"]) == (sum(row["status"] == "FAILED" for row in rows), True)


async def test_a_statement_that_takes_too_long_is_ended_and_says_what_to_filter_by(asked: Asked, url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        answer = await asked.api.get("/tasks/")
    assert answer.status_code == 503
    assert "`origin_tenant_id`" in answer.json()["detail"]
    assert "Retry-After" in answer.headers


async def test_a_workflow_may_have_more_running_tasks_than_a_statement_has_parameters(asked: Asked) -> None:
    running = """
    UPDATE workflow_steps SET status = 'RUNNING',
           task_ids = (SELECT jsonb_agg(uuidv7()) FROM generate_series(1, 66000))
     WHERE workflow_id = (SELECT id FROM workflows ORDER BY created_at LIMIT 1) RETURNING workflow_id
    """
    ((workflow,),) = asked.connection.execute(running).fetchall()
    answer = await asked.api.get(f"/workflows/{workflow}")
    assert answer.status_code == 200, answer.text[:1000]
    done = "UPDATE workflow_steps SET status = 'COMPLETED', task_ids = '[]' WHERE workflow_id = %s"
    asked.connection.execute(done, (workflow,))


async def test_who_needs_a_file_is_looked_for_among_what_has_not_ended(asked: Asked) -> None:
    answer, looked_at = await asked.ask("DELETE", "/storage/images/uploads/none.png", {})
    assert answer.status_code == 404, answer.text
    assert looked_at < 500
    waiting = """
    INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance, created_at)
    SELECT uuidv7(), 'GENERATION', 'inference', 'a', 1, 'PENDING', '{}', 'x', '2020-01-01'
      FROM generate_series(1, 6000)
    """
    asked.connection.execute(waiting)
    answer, looked_at = await asked.ask("DELETE", "/storage/images/uploads/none.png", {})
    assert (answer.status_code, answer.json()["code"]) == (503, "OVERLOADED"), answer.text
    assert "Retry-After" in answer.headers
    assert looked_at <= 5001
    asked.connection.execute("DELETE FROM tasks WHERE created_at = '2020-01-01'")


@pytest.mark.parametrize("path", ["/tasks/", "/workflows/"])
async def test_rows_that_were_cleaned_up_stand_in_nobodys_way(asked: Asked, path: str) -> None:
    """The last test here: it leaves few rows."""
    clean_up = sql.SQL("UPDATE {} SET deleted_at = now() WHERE created_at > now() - interval '99 days'")
    asked.connection.execute(clean_up.format(sql.Identifier(TABLES[path])))
    left = [row["id"] for row in asked.rows(path) if fits(row, {})]
    answer, looked_at = await asked.get(path, {"limit": "100"})
    assert answer.status_code == 200, answer.text
    assert listed(answer) == left[:100]
    assert looked_at <= bound(path) + 300
