"""The same graphs in DBOS Transact: a workflow function with no-op steps that return a path."""

import asyncio
import time
from collections import Counter
from typing import Any

from dbos import DBOS

from benchmarks.harness import as_nice_as_ray
from benchmarks.peers.arm import connect, empty, run_on_uvloop
from benchmarks.workflows.shapes import WARM_UP, Shape

__all__ = ["queued", "steps"]

_QUEUE = "steps"
_LOOK_SECONDS = 0.02
"""Polling interval of a queue and of a waiting parent, instead of a second: that of our step runners, at most."""
_TABLES = ("workflow_status", "operation_outputs")

Graph = dict[str, list[str]]
_ran: Counter[tuple[str | None, str]] = Counter()


@DBOS.step()
async def _step(name: str, prompt: str) -> str:
    _ran[DBOS.workflow_id, name] += 1
    return f"generations/{name}/1/0.png"


@DBOS.workflow()
async def _of_steps(graph: Graph) -> int:
    """Run steps in this process. Levels one after the other: concurrent steps must start in a fixed order."""
    done: dict[str, str] = {}
    for level in _levels(graph):
        paths = await asyncio.gather(*(_step(name, _prompt(graph, name, done)) for name in level))
        done |= dict(zip(level, paths, strict=True))
    return len(done)


@DBOS.workflow()
async def _task(name: str, prompt: str) -> str:
    _ran[DBOS.workflow_id, name] += 1
    return f"generations/{name}/1/0.png"


@DBOS.workflow()
async def _of_tasks(graph: Graph) -> int:
    """Run a child workflow in a queue for every step; any process of the application may take it."""
    done: dict[str, str] = {}
    for level in _levels(graph):
        handles = [await DBOS.enqueue_workflow_async(_QUEUE, _task, name, _prompt(graph, name, done)) for name in level]
        paths = await asyncio.gather(*(handle.get_result(polling_interval_sec=_LOOK_SECONDS) for handle in handles))
        done |= dict(zip(level, paths, strict=True))
    return len(done)


def steps(url: str, shape: Shape) -> float:
    """Return the seconds from the start of the first workflow to the result of the last one."""
    return _measure(url, shape, _of_steps, rows=shape.steps)


def queued(url: str, shape: Shape) -> float:
    """Measure the same with a queue between the workflow and its steps."""
    return _measure(url, shape, _of_tasks, rows=2 * shape.steps)


def _measure(url: str, shape: Shape, function: Any, *, rows: int) -> float:
    as_nice_as_ray()
    DBOS(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    try:
        DBOS.register_queue(_QUEUE, polling_interval_sec=_LOOK_SECONDS)
        run_on_uvloop(_run(WARM_UP, function))
        with connect(url) as connection:
            connection.execute("SET search_path TO dbos")
            empty(connection, _TABLES)
        _ran.clear()
        seconds = run_on_uvloop(_run(shape, function))
        _check(url, shape, rows)
        return seconds
    finally:
        DBOS.destroy()


async def _run(shape: Shape, function: Any) -> float:
    graph = {name: list(parents) for name, parents in shape.parents.items()}
    began = time.time()
    handles = [await DBOS.start_workflow_async(function, graph) for _ in range(shape.workflows)]
    counts = await asyncio.gather(*(handle.get_result() for handle in handles))
    seconds = time.time() - began
    if sum(counts) != shape.steps:
        raise RuntimeError(f"DBOS: {sum(counts)} of {shape.steps} steps have a result")
    return seconds


def _check(url: str, shape: Shape, rows: int) -> None:
    """Check the rows. `rows` counts those of steps, and those of awaited children."""
    with connect(url) as connection:
        kept = connection.execute(
            "SELECT (SELECT count(*) FROM dbos.operation_outputs),"
            " count(*) FILTER (WHERE parent_workflow_id IS NULL AND status = 'SUCCESS'),"
            " count(*) FILTER (WHERE parent_workflow_id IS NOT NULL AND status = 'SUCCESS'),"
            " count(*) FILTER (WHERE status <> 'SUCCESS') FROM dbos.workflow_status"
        ).fetchone()
    children = rows - shape.steps
    if kept != (rows, shape.workflows, children, 0):
        raise RuntimeError(f"DBOS: steps' rows, workflows, children, unfinished are {kept}, for {shape.name}")
    if len(_ran) != shape.steps or set(_ran.values()) != {1}:
        raise RuntimeError(f"DBOS: {len(_ran)} of {shape.steps} steps ran, the busiest {max(_ran.values())} times")


def _levels(graph: Graph) -> list[list[str]]:
    """Return the steps in levels; the parents of a step are all in earlier levels."""
    depth: dict[str, int] = {}
    for name, parents in graph.items():
        depth[name] = 1 + max((depth[parent] for parent in parents), default=-1)
    levels: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name, level in depth.items():
        levels[level].append(name)
    return levels


def _prompt(graph: Graph, name: str, done: dict[str, str]) -> str:
    return done[graph[name][0]] if graph[name] else "a lighthouse"
