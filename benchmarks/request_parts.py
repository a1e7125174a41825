"""Where the time of one accepted POST goes, measured in this process one request after the other."""

import asyncio
import json
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from benchmarks.bare_api import SERVING, settings
from benchmarks.harness import median, print_table, say
from compute.api.body import validated
from compute.api.intake import RequestIntake
from compute.api.links import RequestLinks
from compute.api.present import present_canonical
from compute.api.resources import Resources, open_resources
from compute.db.tables import Task
from compute.schemas.enums import TaskType
from compute.tasks import store
from compute.tasks.registry import kind_of

__all__ = ["report_parts"]

PARTS = ("parse and validate", "prepare the spec", "one transaction: row and event", "render the answer")
_EVENT = "INSERT INTO task_events (task_id, type, status, data) VALUES (%s, 'TASK_CREATED', 'PENDING', %s)"


def report_parts(
    database_url: str, home: Path, body: Mapping[str, Any], row: Mapping[str, Any], *, rounds: int
) -> None:
    """Print the median of each part in microseconds; the rest of a request is HTTP, routing and the key check."""
    seconds = asyncio.run(_measure(database_url, home, body, row, rounds))
    medians = [median(part) * 1e6 for part in zip(*seconds, strict=True)]
    print_table(
        f"Inside one POST, nothing else running; medians of {rounds}",
        ("", "µs", "share"),
        [(name, f"{value:.0f}", f"{value / sum(medians):.0%}") for name, value in zip(PARTS, medians, strict=True)],
    )
    plain = median(asyncio.run(_measure_plain(database_url, row, rounds))) * 1e6
    say(f"The same transaction in plain psycopg, two INSERTs and a commit: {plain:.0f} µs.")


async def _measure(
    database_url: str, home: Path, body: Mapping[str, Any], row: Mapping[str, Any], rounds: int
) -> list[tuple[float, ...]]:
    encoded = json.dumps(body).encode()
    async with open_resources(settings(database_url, home), SERVING) as held:
        warm_up = rounds // 10
        return [await _accept(held, encoded, row) for _ in range(warm_up + rounds)][warm_up:]


async def _measure_plain(database_url: str, row: Mapping[str, Any], rounds: int) -> list[float]:
    values = {"status": "PENDING"} | {
        name: Jsonb(value) if isinstance(value, dict) else value for name, value in row.items()
    }
    insert = sql.SQL("INSERT INTO tasks (id, {}) VALUES (gen_random_uuid(), {}) RETURNING id").format(
        sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join([sql.Placeholder()] * len(values))
    )
    seconds = []
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        for _ in range(rounds):
            began = time.perf_counter()
            async with connection.transaction():
                inserted = await (await connection.execute(insert, list(values.values()))).fetchone()
                assert inserted is not None
                await connection.execute(_EVENT, (inserted[0], Jsonb({"status": "PENDING"})))
            seconds.append(time.perf_counter() - began)
    return seconds


async def _accept(held: Resources, encoded: bytes, row: Mapping[str, Any]) -> tuple[float, ...]:
    kind = kind_of(TaskType.GENERATION)
    times = [time.perf_counter()]
    request = validated(kind.create_model, json.loads(encoded))
    times.append(time.perf_counter())
    await kind.prepare(request, RequestIntake(held, SERVING.queues["inference"]))
    times.append(time.perf_counter())
    task = Task(id=uuid4(), **row)
    async with held.database.transaction() as session:
        await store.create(session, task)
    times.append(time.perf_counter())
    (await present_canonical(task, RequestLinks(held.links, "http://127.0.0.1"))).model_dump_json()
    times.append(time.perf_counter())
    return tuple(after - before for before, after in pairwise(times))
