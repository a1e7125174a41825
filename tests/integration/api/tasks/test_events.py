"""Event streams that go on where they were cut: every move once and in order, progress that never goes back, text from
the character at which it was."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from compute.db.session import Database
from tests.integration.api.conftest import KEY, Painter, serving_api, wait_for
from tests.patience import PATIENCE
from tests.servers import PLAIN_HTTP

SMALL = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1}


class Sent(NamedTuple):
    name: str
    id: str
    data: dict[str, Any]


async def sent_by(stream: httpx.Response) -> AsyncIterator[Sent]:
    """The events of one connection."""
    fields: dict[str, str] = {}
    async for line in stream.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif "data" in fields:
            yield Sent(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


@asynccontextmanager
async def opened(api: httpx.AsyncClient, task: str, last: str | None = None) -> AsyncIterator[AsyncIterator[Sent]]:
    """The events of a connection that was accepted."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with asyncio.timeout(PATIENCE), api.stream("GET", f"/tasks/{task}/events", headers=headers) as stream:
        assert stream.status_code == 200
        yield sent_by(stream)


async def read(api: httpx.AsyncClient, task: str, last: str | None = None, *, most: int | None = None) -> list[Sent]:
    """What a connection sends, until its end or that many events."""
    found: list[Sent] = []
    async with opened(api, task, last) as events:
        async for event in events:
            found.append(event)
            if len(found) == most:
                return found
    return found


async def move(database: Database, task: str, *statuses: str, progress: float = 0.0, fence: int = 1) -> None:
    """Move a task through some statuses at once, as a Dispatcher's batch does."""
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE tasks SET status = :status, progress = :progress, fence = :fence WHERE id = :id"),
            {"status": statuses[-1], "progress": progress, "fence": fence, "id": UUID(task)},
        )
        for status in statuses:
            await session.execute(
                text("INSERT INTO task_events (task_id, type, status) VALUES (:id, 'TASK_STATUS', :status)"),
                {"id": UUID(task), "status": status},
            )


async def say(database: Database, task: str, said: str, fence: int = 1) -> None:
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO task_texts (task_id, fence, text) VALUES (:id, :fence, :said) "
                "ON CONFLICT (task_id) DO UPDATE SET fence = :fence, text = :said"
            ),
            {"id": UUID(task), "fence": fence, "said": said},
        )


async def make(api: httpx.AsyncClient, **fields: Any) -> str:
    made = await api.post("/tasks/", json=SMALL | fields)
    assert made.status_code == 201
    found: str = made.json()["id"]
    return found


async def test_a_fresh_stream_begins_with_the_present(api: httpx.AsyncClient, database: Database) -> None:
    task = await make(api)
    await move(database, task, "QUEUED", "EXECUTING", progress=40)
    [first] = await read(api, task, most=1)
    assert (first.name, first.data) == ("status", {"id": task, "status": "EXECUTING", "progress": 40.0})


async def test_every_move_comes_once_and_in_order_across_connections(
    api: httpx.AsyncClient, database: Database
) -> None:
    task = await make(api)
    [first] = await read(api, task, most=1)
    await move(database, task, "QUEUED", "EXECUTING", "PENDING", "QUEUED", "EXECUTING", progress=10, fence=2)
    seen = [first]
    for _ in range(5):
        seen += await read(api, task, seen[-1].id, most=1)
    await move(database, task, "COMPLETED", progress=100)
    seen += await read(api, task, seen[-1].id)
    assert [event.data["status"] for event in seen] == [
        "PENDING", "QUEUED", "EXECUTING", "PENDING", "QUEUED", "EXECUTING", "COMPLETED"
    ]  # fmt: skip
    assert [event.name for event in seen] == ["status"] * 6 + ["completed"]
    assert [event.data["progress"] for event in seen] == [0, 0, 0, 0, 0, 10, 100]
    assert len({event.id for event in seen}) == len(seen)


async def test_a_reader_that_waits_misses_no_move_of_a_single_tick(api: httpx.AsyncClient, database: Database) -> None:
    task = await make(api)
    async with opened(api, task) as events:
        assert (await anext(events)).data["status"] == "PENDING"
        await move(database, task, "QUEUED", "EXECUTING", "COMPLETED", progress=100)
        assert [event.data["status"] async for event in events] == ["QUEUED", "EXECUTING", "COMPLETED"]


async def test_progress_that_was_seen_is_not_sent_again(api: httpx.AsyncClient, database: Database) -> None:
    task = await make(api)
    await move(database, task, "QUEUED", "EXECUTING", progress=40)
    [first] = await read(api, task, most=1)
    async with opened(api, task, first.id) as resumed:
        # The look at the task that tells a second reader of it tells this one as well.
        await read(api, task, most=1)
        async with database.transaction() as session:
            await session.execute(text("UPDATE tasks SET progress = 55 WHERE id = :id"), {"id": UUID(task)})
        more = await anext(resumed)
    assert (more.name, more.data["progress"]) == ("progress", 55.0)
    # Behind a retry it begins anew, as a move says.
    await move(database, task, "PENDING", fence=1)
    [back] = await read(api, task, more.id, most=1)
    assert (back.name, back.data["status"], back.data["progress"]) == ("status", "PENDING", 0.0)


async def test_text_goes_on_at_its_character(api: httpx.AsyncClient, database: Database) -> None:
    task = await make(api)
    await move(database, task, "QUEUED", "EXECUTING")
    await say(database, task, "Der Mantel ist größer")
    first = (await read(api, task, most=2))[-1]
    assert (first.name, first.data["offset"], first.data["text"]) == ("text", 0, "Der Mantel ist größer")
    await say(database, task, "Der Mantel ist größer 🧥 als der Hut")
    [more] = await read(api, task, first.id, most=1)
    assert (more.data["offset"], more.data["text"]) == (21, " 🧥 als der Hut")
    await say(database, task, "Anew", fence=2)
    await move(database, task, "COMPLETED", progress=100, fence=2)
    anew, end = await read(api, task, more.id)
    assert (anew.data["offset"], anew.data["text"], end.name) == (0, "Anew", "completed")


async def test_who_has_seen_the_end_is_told_so(api: httpx.AsyncClient, worker: Painter) -> None:
    task = await make(api)
    await wait_for(api, task, "COMPLETED")
    [end] = await read(api, task)
    answer = await api.get(f"/tasks/{task}/events", headers={"Last-Event-ID": end.id})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_position_that_is_none_of_this_stream_is_refused(api: httpx.AsyncClient) -> None:
    task, other = await make(api), await make(api)
    [foreign] = await read(api, other, most=1)
    for odd in (
        "7",
        "a-b-c-d",
        "1-1-1",
        "-1-0-0-0",
        "9" * 40,
        foreign.id,
        "999999999-0-0-0",
        "1 -0-0-0",
        "\u0661-0-0-0",
    ):
        answer = await api.get(f"/tasks/{task}/events", headers={"Last-Event-ID": odd.encode()})
        assert answer.status_code == 400, odd
        assert "Last-Event-ID" in answer.json()["detail"]


@asynccontextmanager
async def replicas(settings: Any, number: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Several replicas of the API before one database."""
    async with serving_api(settings) as one, serving_api(settings) as other:
        headers = {"Authorization": f"Bearer {KEY}"}
        clients = [
            httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=PATIENCE, verify=PLAIN_HTTP)
            for url in (one, other)[:number]
        ]
        yield clients
        for client in clients:
            await client.aclose()


@pytest.mark.parametrize("dialect", ["canonical", "quickstart"])
async def test_a_stream_goes_on_at_another_replica(settings: Any, database: Database, dialect: str) -> None:
    async with replicas(settings, 2) as apis:
        task = await make(apis[0])
        shown = task if dialect == "canonical" else f"task_{UUID(task).hex}"
        seen: list[Sent] = []
        for turn, status in enumerate(["QUEUED", "EXECUTING", "PENDING", "QUEUED", "EXECUTING", "FAILED"]):
            last = seen[-1].id if seen else None
            seen += await read(apis[turn % 2], shown, last, most=1)
            await move(database, task, status, fence=turn)
        seen += await read(apis[0], shown, seen[-1].id)
    words = [event.data["status"] for event in seen]
    if dialect == "canonical":
        assert words == ["PENDING", "QUEUED", "EXECUTING", "PENDING", "QUEUED", "EXECUTING", "FAILED"]
    else:
        assert words == ["pending", "pending", "running", "pending", "pending", "running", "failed"]
        assert {event.data["id"] for event in seen} == {shown}
