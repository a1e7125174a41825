"""Tasks that wait for a vendor, hundreds at a time: `python -m benchmarks.providers.throughput`.

500 tasks of 5 s are submitted at once by POST /tasks/bulk, and done by replicas that call a stand-in of fal in a
process of its own, against httpx, and against aiohttp, that call the same stand-in directly: submit, look with the same
pace, fetch the result and its file. The ideal is the time of one task. Everything shares the machine.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import psutil
import psycopg

from benchmarks.harness import (
    Server,
    arguments,
    as_nice_as_ray,
    interleave,
    median,
    postgres,
    print_table,
    ratio,
    say,
    spread,
)
from benchmarks.stack import KEY, TASKS, running_stack
from compute.providers.calls.following import Pace
from compute.providers.vendors.fal.queue import FalQueue
from tests.providers.standing import Standing, standing

DIRECT = "asyncio and httpx, no stack"
LIGHTER = "asyncio and aiohttp, no stack"

_PATIENCE_SECONDS = 120.0
_APP = "fal-ai/flux/dev"
_BODY = {
    "task_type": "GENERATION",
    "provider_type": "FAL_STANDARD",
    "prompt": "a red coat",
    "width": 128,
    "height": 128,
    "origin_instance": "benchmark",
}
_ENDED = """
SELECT status, count(*), extract(epoch FROM max(completed_at))::float8 FROM tasks
 WHERE origin_reference = %s GROUP BY status
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """All tasks of one round. Times in seconds, memory in bytes; of the processes that called the vendor."""

    wall: float
    cpu: float
    memory: float
    others: Mapping[str, float]
    """Processor time of other processes, in seconds."""


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--tasks", type=int, default=500, help="at once (500)")
    parser.add_argument("--seconds", type=float, default=5.0, help="that the vendor takes for each (5)")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2], help="of the deployment Providers (1 2)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tasks, options.seconds, options.replicas = 1, 50, 1.0, [1]
    as_nice_as_ray()
    with postgres() as server:
        for replicas in options.replicas:
            run(server, options, replicas)


def run(server: Server, options: argparse.Namespace, replicas: int) -> None:
    """Measure with this number of replicas, and print the table."""
    database_url = server.database(f"providers{replicas}")
    with standing("fal", options.seconds) as fal:
        environment = {
            "FAL_KEY": fal.key,
            "FAL_QUEUE_URL": fal.urls["queue"],
            "COMPUTE_MEDIA_ALLOWED_HOSTS": "127.0.0.1",
        }
        pools = [{"name": "Image", "queue": "image", "model": None, "num_replicas": 1}]
        args = {"providers": {"num_replicas": replicas}}
        home = server.home / f"stack{replicas}"
        with running_stack(home, database_url, pools, environment=environment, ready=False, args=args) as url:
            ours = f"the stack, {replicas} {'replica' if replicas == 1 else 'replicas'}"
            arms = {
                DIRECT: partial(_direct, _with_httpx, fal, options.tasks),
                LIGHTER: partial(_direct, _with_aiohttp, fal, options.tasks),
                ours: partial(_submit, url, database_url, options.tasks),
            }
            say("  warming up")
            _submit(url, database_url, 20)
            report(interleave(arms, options.rounds), options)


def report(bursts: Mapping[str, Sequence[Burst]], options: argparse.Namespace) -> None:
    walls = {name: [burst.wall for burst in results] for name, results in bursts.items()}
    print_table(
        f"{options.tasks} tasks of {options.seconds:g} s at once; medians of {options.rounds} rounds (and their range)",
        ("", "seconds", "of httpx", "of aiohttp", "of ideal", "CPU ms a task", "MiB"),
        [
            (
                name,
                spread(values, 2),
                ratio(values, walls[DIRECT]),
                ratio(values, walls[LIGHTER]),
                f"{median(values) / options.seconds:.2f}x",
                spread([burst.cpu / options.tasks * 1000 for burst in bursts[name]], 1),
                f"{median([burst.memory for burst in bursts[name]]) / 2**20:.0f}",
            )
            for name, values in walls.items()
        ],
    )
    for name, results in bursts.items():
        others = {one: median([burst.others.get(one, 0.0) for burst in results]) for one in results[0].others}
        told = ", ".join(f"{one} {seconds / options.tasks * 1000:.1f}" for one, seconds in others.items())
        if told:
            say(f"{name}: CPU ms a task of {told}")


def _submit(url: str, database_url: str, count: int) -> Burst:
    """Time from the POST to the last row that is COMPLETED."""
    reference = str(uuid4())
    tasks = [{**_BODY, "origin_reference": reference, "seed": seed} for seed in range(count)]
    before = _processors()
    began = time.time()
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False) as client:
        answer = client.post(f"{url}{TASKS}bulk", json={"tasks": tasks})
        if answer.status_code != httpx.codes.CREATED:
            raise RuntimeError(f"{answer.status_code}: {answer.text[:1000]}")
    with psycopg.connect(database_url, autocommit=True) as connection:
        ended = _wait_for_all(connection, reference, count)
    after = _processors()
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    return Burst(ended - began, spent.pop("Providers", 0.0), _memory(), spent)


def _wait_for_all(connection: psycopg.Connection[Any], reference: str, count: int) -> float:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        rows = {status: (number, last) for status, number, last in connection.execute(_ENDED, (reference,)).fetchall()}
        number, last = rows.get("COMPLETED", (0, 0.0))
        if number == count:
            return float(last)
        if "FAILED" in rows or time.monotonic() > deadline:
            raise RuntimeError(f"the tasks did not complete: {rows}")
        time.sleep(0.1)


def _replicas() -> Iterator[tuple[str, psutil.Process]]:
    """The processes of this stack's deployments."""
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        if title.startswith("ray::ServeReplica:") and process.pid in mine:
            yield title.split(":")[4].split(".")[0].split()[0], process


def _processors() -> dict[str, float]:
    """Processor time by deployment, in seconds."""
    spent: dict[str, float] = {}
    for name, process in _replicas():
        times = process.cpu_times()
        spent[name] = spent.get(name, 0.0) + times.user + times.system
    return spent


def _memory() -> float:
    return float(sum(process.memory_full_info().uss for name, process in _replicas() if name == "Providers"))


Get = Callable[[str], Awaitable[bytes]]
Post = Callable[[str, Mapping[str, Any]], Awaitable[bytes]]
CallAll = Callable[[Standing, int], Coroutine[Any, Any, None]]


def _direct(call_all: CallAll, fal: Standing, count: int) -> Burst:
    """The same by a client without a stack, in this process."""
    before = time.process_time()
    began = time.perf_counter()
    asyncio.run(call_all(fal, count))
    wall = time.perf_counter() - began
    return Burst(wall, time.process_time() - before, float(psutil.Process(os.getpid()).memory_full_info().uss), {})


async def _with_httpx(fal: Standing, count: int) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=count)
    headers = {"Authorization": f"Key {fal.key}"}
    async with httpx.AsyncClient(headers=headers, timeout=60, limits=limits, trust_env=False) as client:

        async def get(url: str) -> bytes:
            return (await client.get(url)).raise_for_status().content

        async def post(url: str, body: Mapping[str, Any]) -> bytes:
            return (await client.post(url, json=body)).raise_for_status().content

        await asyncio.gather(*(_call(get, post, fal.urls["queue"], seed) for seed in range(count)))


async def _with_aiohttp(fal: Standing, count: int) -> None:
    headers = {"Authorization": f"Key {fal.key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector, raise_for_status=True) as client:

        async def get(url: str) -> bytes:
            async with client.get(url) as answer:
                return await answer.read()

        async def post(url: str, body: Mapping[str, Any]) -> bytes:
            async with client.post(url, json=body) as answer:
                return await answer.read()

        await asyncio.gather(*(_call(get, post, fal.urls["queue"], seed) for seed in range(count)))


async def _call(get: Get, post: Post, queue: str, seed: int) -> None:
    """One request, to its picture."""
    size = {"width": 128, "height": 128}
    wanted = {"prompt": "a red coat", "seed": seed, "image_size": size, "output_format": "png"}
    said = json.loads(await post(f"{queue}/{_APP}", wanted))
    pace, status = Pace(FalQueue.poll_seconds, None), ""
    while status != "COMPLETED":
        await asyncio.sleep(pace.next())
        status = json.loads(await get(said["status_url"]))["status"]
    result = json.loads(await get(said["response_url"]))
    picture = await get(result["images"][0]["url"])
    if not picture.startswith(b"\x89PNG"):
        raise RuntimeError(f"This is no picture: {picture[:20]!r}")


if __name__ == "__main__":
    main()
