"""Time of the parts of one accepted POST, measured in this process one request after the other."""

import asyncio
import json
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.api.bare_api import SERVING, settings
from benchmarks.harness import median, print_table, say
from compute.api.bodies.json_body import parsed
from compute.api.dialect import Dialect
from compute.api.resources import Resources, open_resources
from compute.api.tasks.bodies import read_task
from compute.api.tasks.presenter import render_new
from compute.requests.inputs import RequestInputs
from compute.requests.request import TaskRequest
from compute.tasks.submission.writer import Submission

__all__ = ["report_parts"]

PARTS = ("parse and validate", "prepare the spec and the row", "group commit of one", "render the answer")
_TASK = """
INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance)
VALUES (gen_random_uuid(), 'GENERATION', 'inference', 'default', 1, 'PENDING', %s, 'benchmark') RETURNING id
"""
_EVENT = "INSERT INTO task_events (task_id, type, status, data) VALUES (%s, 'TASK_CREATED', 'PENDING', %s)"


def report_parts(database_url: str, home: Path, body: Mapping[str, Any], *, rounds: int) -> None:
    """Print the median of each part in microseconds; the rest of a request is HTTP, routing and the key check."""
    seconds = asyncio.run(_measure(database_url, home, body, rounds))
    medians = [median(part) * 1e6 for part in zip(*seconds, strict=True)]
    print_table(
        f"Inside one POST, nothing else running; medians of {rounds}",
        ("", "µs", "share"),
        [(name, f"{value:.0f}", f"{value / sum(medians):.0%}") for name, value in zip(PARTS, medians, strict=True)],
    )
    plain = median(asyncio.run(_measure_plain(database_url, body, rounds))) * 1e6
    say(f"The same transaction in plain psycopg, two INSERTs and a commit: {plain:.0f} µs.")


async def _measure(database_url: str, home: Path, body: Mapping[str, Any], rounds: int) -> list[tuple[float, ...]]:
    encoded = json.dumps(body).encode()
    async with open_resources(settings(database_url, home), SERVING) as held:
        warm_up = rounds // 10
        return [await _accept(held, encoded) for _ in range(warm_up + rounds)][warm_up:]


async def _measure_plain(database_url: str, body: Mapping[str, Any], rounds: int) -> list[float]:
    seconds = []
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        for _ in range(rounds):
            began = time.perf_counter()
            async with connection.transaction():
                inserted = await (await connection.execute(_TASK, (Jsonb(dict(body)),))).fetchone()
                assert inserted is not None
                await connection.execute(_EVENT, (inserted[0], Jsonb({"status": "PENDING"})))
            seconds.append(time.perf_counter() - began)
    return seconds


async def _accept(held: Resources, encoded: bytes) -> tuple[float, ...]:
    """Do the work of `POST /tasks/` between reading the body and sending the answer."""
    times = [time.perf_counter()]
    body = parsed(encoded)
    read = read_task(body)
    request = TaskRequest.of(read.kind, read.fields, SERVING)
    times.append(time.perf_counter())
    task = await request.to_row(RequestInputs(held, request.served))
    times.append(time.perf_counter())
    await held.writer.submit(Submission([task]))
    times.append(time.perf_counter())
    render_new(task, Dialect.CANONICAL)
    times.append(time.perf_counter())
    return tuple(after - before for before, after in pairwise(times))
