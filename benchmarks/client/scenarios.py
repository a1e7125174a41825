"""Submits and streams through a proxy that cuts connections, and what became of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, text

from benchmarks.client.cutting import Cut, CuttingProxy
from compute.client import AsyncCompute, Event, RetryPolicy
from compute.db.session import Database
from compute.db.tables import Task, TaskEvent
from compute.schemas.enums import EventType

__all__ = ["EAGER", "StreamCount", "SubmitCount", "count_streams", "count_submits"]

EAGER = RetryPolicy(tries=40, first_pause=0.005, longest_pause=0.05)
"""Many tries with short pauses: what is measured is how often, not how long."""
_CYCLE = ("QUEUED", "EXECUTING", "PENDING")
_WORDS = "the coat is red and the hat is grösser "


@dataclass(frozen=True, slots=True)
class SubmitCount:
    """What came of submits.

    Attributes:
        told: Different tasks that the client was told of.
        stored: Tasks in the database.
    """

    asked: int
    told: int
    stored: int
    cuts: Counter[Cut]


@dataclass(frozen=True, slots=True)
class StreamCount:
    """What came of streams.

    Attributes:
        logged: Moves in the event log, behind the first event of each stream.
        lost, repeated: Of them, what streams did not have, or had twice.
        backwards: Progress that was less than an earlier one of the same attempt.
        garbled: Streams whose text is not what was said.
    """

    cuts: int
    logged: int
    lost: int
    repeated: int
    backwards: int
    garbled: int


async def count_submits(
    proxy: CuttingProxy, key: str, database: Database, asked: int, *, at_once: int, cuts: int = 0
) -> SubmitCount:
    """Submit that many tasks through the proxy, and more until so many connections were cut."""
    ids: set[UUID] = set()
    submitted = 0

    async def submit_some(client: AsyncCompute) -> None:
        nonlocal submitted
        while submitted < asked or proxy.cuts.total() < cuts:
            submitted += 1
            ids.add((await client.tasks.submit(prompt=f"dress {submitted}", width=64, height=64)).id)

    async with AsyncCompute(proxy.url, key, retry=EAGER) as client:
        await asyncio.gather(*(submit_some(client) for _ in range(at_once)))
    async with database.transaction() as session:
        stored = await session.scalar(select(func.count()).select_from(Task)) or 0
    return SubmitCount(submitted, len(ids), stored, proxy.cuts)


async def count_streams(
    proxy: CuttingProxy, url: str, key: str, database: Database, *, streams: int, cuts: int, pace: float
) -> StreamCount:
    """Follow that many tasks through the proxy, each by one stream, until so many connections were cut.

    Args:
        url: The server itself, to which the tasks are submitted.
        pace: Seconds between two changes of all tasks.
    """
    bodies = [{"task_type": "GENERATION", "prompt": "a dress", "width": 64, "height": 64}] * streams
    async with AsyncCompute(url, key) as direct:
        ids = [task.id for task in await direct.tasks.submit_all(bodies)]
    seen: dict[UUID, list[Event]] = {task: [] for task in ids}
    async with AsyncCompute(proxy.url, key, retry=EAGER) as client:

        async def follow(task: UUID) -> None:
            async for event in client.tasks.events(task):
                seen[task].append(event)

        following = [asyncio.create_task(follow(task)) for task in ids]
        while not all(seen.values()):  # noqa: ASYNC110 - whoever follows sets nothing
            await asyncio.sleep(0.02)
        said = await _live(proxy, database, ids, cuts, pace)
        await asyncio.gather(*following)
    async with database.transaction() as session:
        rows = await session.execute(
            select(TaskEvent.task_id, TaskEvent.id)
            .where(TaskEvent.task_id.in_(ids), TaskEvent.type == EventType.TASK_STATUS)
            .order_by(TaskEvent.id)
        )
    logged: dict[UUID, list[int]] = {task: [] for task in ids}
    for task, move in rows:
        logged[task].append(move)
    return _compared(seen, logged, said, proxy.cuts.total())


async def _live(proxy: CuttingProxy, database: Database, ids: Sequence[UUID], cuts: int, pace: float) -> str:
    """Change the tasks, all alike, until there were so many cuts, then complete them; what each has said."""
    turn, said = 0, ""
    while proxy.cuts.total() < cuts:
        said += _WORDS[turn % len(_WORDS) :][:7]
        status = _CYCLE[turn % len(_CYCLE)]
        await _change(database, ids, status, 0.0, said)
        for percent in (10.0, 60.0) if status == "EXECUTING" else ():
            await _change(database, ids, None, percent, said)
        turn += 1
        await asyncio.sleep(pace)
    await _change(database, ids, "COMPLETED", 100.0, said)
    return said


async def _change(database: Database, ids: Sequence[UUID], status: str | None, percent: float, said: str) -> None:
    async with database.transaction() as session:
        given = {"ids": list(ids), "status": status, "percent": percent, "said": said}
        await session.execute(
            text(
                "UPDATE tasks SET status = COALESCE(:status, status), progress = :percent, fence = 1 "
                "WHERE id = ANY(:ids)"
            ),
            given,
        )
        if status is not None:
            await session.execute(
                text(
                    "INSERT INTO task_events (task_id, type, status) "
                    "SELECT id, 'TASK_STATUS', :status FROM unnest(CAST(:ids AS uuid[])) AS id"
                ),
                given,
            )
        await session.execute(
            text(
                "INSERT INTO task_texts (task_id, fence, text) "
                "SELECT id, 1, :said FROM unnest(CAST(:ids AS uuid[])) AS id "
                "ON CONFLICT (task_id) DO UPDATE SET text = EXCLUDED.text"
            ),
            given,
        )


def _compared(seen: dict[UUID, list[Event]], logged: dict[UUID, list[int]], said: str, cuts: int) -> StreamCount:
    lost = repeated = backwards = garbled = 0
    for task, events in seen.items():
        moves = [int((event.id or "0").partition("-")[0]) for event in events if event.name not in ("progress", "text")]
        # The first event is the present, which may be ahead of the first move.
        counted, expected = Counter(moves[1:]), Counter(move for move in logged[task] if move > moves[0])
        lost += (expected - counted).total()
        repeated += (counted - expected).total()
        backwards += moves != sorted(moves)
        percent = 0.0
        for event in events:
            if event.name == "progress":
                backwards += (event.progress or 0.0) < percent
                percent = event.progress or 0.0
            elif event.name == "status":
                percent = event.progress or 0.0
        heard = ""
        for event in events:
            if event.name == "text":
                garbled += event.offset != len(heard)
                heard += event.text
        garbled += heard != said
    return StreamCount(cuts, sum(map(len, logged.values())), lost, repeated, backwards, garbled)
