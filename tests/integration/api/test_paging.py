"""Cursors of every list: nothing is shown twice and nothing left out, though rows come and go meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import delete, insert, update

from compute.api.app import create_app
from compute.api.paging import cursor_of
from compute.api.workflows.presenter import _DEFINED
from compute.db.session import Database
from compute.db.tables import Task, Training, TrainingEvent, Workflow, WorkflowStep
from compute.requests.serving import Serving
from compute.schemas.training import TrainingTaskCreate
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store
from compute.tasks.ids import new_task_id
from compute.training.request import request_of, spec_of

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {"prompt": "a hat", "seed": 1, "width": 64, "height": 64, "steps": 1, "num_outputs": 1}
TASK = {"task_type": "GENERATION", "queue": "inference", "tenant": "a", "priority": 1, "status": "COMPLETED"}
TASK |= {"spec": SPEC, "origin_instance": "x"}
STEP = {
    "step_id": "a",
    "task_type": "GENERATION",
    "definition": {"config": {}},
    "dependencies": [],
    "status": "PENDING",
}


@dataclass
class Listed:
    """One list: how it is asked, where its rows are in the answer, how rows come into it and go out of it."""

    path: str
    rows: Callable[[Any], list[Any]]
    name: Callable[[Any], str]
    kept: "Rows | Files"
    skips: bool = True

    async def add(self, place: int) -> str:
        return await self.kept.add(place)

    async def remove(self, name: str) -> None:
        await self.kept.remove(name)


def at(place: int) -> datetime:
    # Many rows of one moment: the id decides among them.
    return START + timedelta(seconds=place // 3)


@dataclass
class Rows:
    """Puts rows into a table, and takes them out."""

    database: Database
    table: Any
    row: dict[str, Any]
    dated: bool = True

    async def add(self, place: int) -> str:
        row = self.row | ({"id": new_task_id(), "created_at": at(place)} if self.dated else {})
        async with self.database.transaction() as session:
            added = await session.scalar(insert(self.table).returning(self.table.id), [row])
            if self.table is Workflow:
                definition = dict.fromkeys(_DEFINED) | {"config": {}, "input_mappings": [], "max_retries": 1}
                definition |= {"continue_on_error": False, "requires_approval": False}
                step = STEP | {"id": uuid4(), "workflow_id": added, "position": 0, "definition": definition}
                await session.execute(insert(WorkflowStep), [step])
        return str(added)

    async def remove(self, name: str) -> None:
        async with self.database.transaction() as session:
            await session.execute(delete(self.table).where(self.table.id == (UUID(name) if self.dated else int(name))))


@dataclass
class Files:
    """Puts files into the store, and takes them out. Names are paths below `root`."""

    objects: ObjectStore
    root: str
    ending: str

    async def add(self, place: int) -> str:
        name = f"{['a', 'a/b', 'b'][place % 3]}/{place:03d}.{self.ending}"
        await self.objects.put(self.root + name, b"x", "application/octet-stream")
        return name

    async def remove(self, name: str) -> None:
        await self.objects.delete(self.root + name)


def under(name: str) -> Callable[[Any], list[Any]]:
    return lambda said: list(said[name])


def field(name: str, start: str = "") -> Callable[[Any], str]:
    return lambda row: str(row[name]).removeprefix(start)


@pytest.fixture
async def lists(api: httpx.AsyncClient, database: Database, settings: Settings) -> AsyncIterator[dict[str, Listed]]:
    objects = open_store(settings)
    tasks = Rows(database, Task, TASK)
    workflows = Rows(database, Workflow, {"name": "w", "status": "PENDING", "origin_instance": "x"})
    order = TrainingTaskCreate(trigger_word="zx", source_images=["uploads/a.png"])
    request = request_of(spec_of(order, new_task_id(), settings.training_models))
    row = {"tenant": "a", "status": "COMPLETED", "priority": 1, "spec": {}, "origin_instance": "x"}
    trainings = Rows(database, Training, row | {"request": request})
    training = await trainings.add(0)
    event = {"training_id": UUID(training), "type": "TRAINING_STATUS", "status": "TRAINING"}
    events = Rows(database, TrainingEvent, event, dated=False)
    images, loras = Files(objects, "uploads/", "png"), Files(objects, "loras/styles/", "safetensors")
    yield {
        "tasks": Listed("/tasks/", list, field("id"), tasks),
        "generation": Listed("/tasks/generation", list, field("id"), tasks),
        "workflows": Listed("/workflows/", under("workflows"), field("id"), workflows),
        "trainings": Listed("/training/", under("tasks"), field("id"), trainings),
        "events": Listed(f"/training/{training}/events", under("events"), field("id"), events, skips=False),
        "images": Listed(
            "/storage/images?prefix=uploads", under("images"), field("path", "uploads/"), images, skips=False
        ),
        "loras": Listed("/lora", under("loras"), field("partial_path", "styles/"), loras, skips=False),
    }
    await objects.close()


NAMES = ["tasks", "generation", "workflows", "trainings", "events", "images", "loras"]


async def follow(api: httpx.AsyncClient, listed: Listed, limit: int) -> AsyncIterator[list[str]]:
    """The names on one page after another, by the addresses that the answers give."""
    url: str | None = str(api.base_url).rstrip("/") + listed.path
    url += f"{'&' if '?' in url else '?'}limit={limit}"
    while url is not None:
        answer = await api.get(url)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        yield [listed.name(row) for row in listed.rows(said)]
        url = answer.links.get("next", {}).get("url")
        assert (url is None) == ("x-next-cursor" not in answer.headers)
        if isinstance(said, dict):
            assert said["next_cursor"] == answer.headers.get("x-next-cursor")
        if url is not None:
            assert answer.headers["x-next-cursor"] in url


ELSEWHERE = {
    "/api/v1/providers/calls",
    "/api/v1/usage",
    "/api/v1/admin/keys",
    "/api/v1/admin/tenants",
    "/api/v1/admin/audit",
}
"""Lists that are tried in tests of their own: they need the admin key, or have sums for rows."""


def test_every_list_is_tried(settings: Settings) -> None:
    paths = create_app(settings, Serving({})).openapi()["paths"]
    limited = [
        path
        for path, operations in paths.items()
        for parameter in operations.get("get", {}).get("parameters", ())
        if parameter["name"] == "limit"
    ]
    assert len(set(limited) - ELSEWHERE) == len(NAMES)
    for path in limited:
        assert "cursor" in {parameter["name"] for parameter in paths[path]["get"]["parameters"]}, path


@pytest.mark.parametrize("name", NAMES)
async def test_pages_are_the_whole_list(api: httpx.AsyncClient, lists: dict[str, Listed], name: str) -> None:
    listed = lists[name]
    added = [await listed.add(place) for place in range(11)]
    (whole,) = [page async for page in follow(api, listed, 200)]
    assert set(added) <= set(whole)
    for limit in (1, 3, len(whole)):
        pages = [page async for page in follow(api, listed, limit)]
        assert [one for page in pages for one in page] == whole
        assert len(pages) == -(-len(whole) // limit)


@pytest.mark.parametrize("name", NAMES)
async def test_rows_that_come_and_go_move_nothing(api: httpx.AsyncClient, lists: dict[str, Listed], name: str) -> None:
    listed = lists[name]
    added = [await listed.add(place) for place in range(12)]
    (before,) = [page async for page in follow(api, listed, 200)]
    seen: list[str] = []
    async for page in follow(api, listed, 4):
        seen += page
        # What was shown last goes, and something new comes.
        await listed.remove(page[-1])
        await listed.add(100 + len(seen))
    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)
    assert set(added) <= set(seen)


@pytest.mark.parametrize("name", NAMES)
async def test_a_cursor_that_is_none_is_refused(api: httpx.AsyncClient, lists: dict[str, Listed], name: str) -> None:
    listed = lists[name]
    for place in range(3):
        await listed.add(place)
    path = listed.path + ("&" if "?" in listed.path else "?")
    good = (await api.get(f"{path}limit=1")).headers["x-next-cursor"]
    foreign = [cursor_of(other, *["x"] * parts) for other in (*NAMES, "x") for parts in range(4)]
    foreign += [cursor_of(other, START.isoformat(), str(uuid4())) for other in NAMES if other != name]
    foreign += [cursor_of(name, *["\ud800"] * parts) for parts in (1, 2)] + [cursor_of(name, "a\0b")]
    foreign += [cursor_of(name, "2026-01-01T00:00:00", "nothing"), cursor_of(name, "2026-01-01", str(uuid4()))]
    broken = ["", "x", "!", good + "A", good[:-2], good + "=", "null", "a" * 5000, "W10", "e30"]
    for cursor in foreign + broken:
        if name in ("images", "loras") and cursor == cursor_of(name, "x"):
            # A path behind which nothing, or something, may come.
            continue
        answer = await api.get(f"{path}cursor={cursor}")
        assert answer.status_code == 400, (cursor, answer.text)
        assert "cursor" in answer.text
    other = {"skip": 1} if listed.skips else {"after": 1}
    if name not in ("images", "loras"):
        assert (await api.get(path, params={"cursor": good} | other)).status_code == 400


async def test_a_link_is_made_for_who_asks(api: httpx.AsyncClient, lists: dict[str, Listed]) -> None:
    for place in range(3):
        await lists["tasks"].add(place)
    answer = await api.get("/tasks/", params={"limit": 1, "origin_instance": "x", "status": "completed", "skip": 1})
    url = httpx.URL(answer.links["next"]["url"])
    assert dict(url.params) == {
        "limit": "1",
        "origin_instance": "x",
        "status": "completed",
        "cursor": answer.headers["x-next-cursor"],
    }
    assert str(url).startswith(str(api.base_url))


async def test_a_thousand_rows_let_others_have_their_turn(
    api: httpx.AsyncClient, lists: dict[str, Listed], database: Database
) -> None:
    """Between the rows of a list the loop runs other work: measured in turns, not in seconds."""
    async with database.transaction() as session:
        await session.execute(insert(Task), [TASK | {"id": new_task_id()} for _ in range(1000)])
        await session.execute(update(Task).values(result={"artifacts": [{"path": "a/b.png"}], "metadata": {}}))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    # The API runs in this loop.
    counting = asyncio.create_task(count())
    answer = await api.get("/tasks/", params={"limit": 1000})
    counting.cancel()
    assert len(answer.json()) == 1000
    assert turns > 40
