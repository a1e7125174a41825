"""Many open event streams at one process of the API: memory, and how long other requests take meanwhile.

    python -m benchmarks.client.streams [--streams 500] [--quick]

The API runs in a process of its own, before a real Postgres. Every task changes once a second.
"""

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import psutil
import uvicorn
from sqlalchemy import text

from compute.api.app import create_app
from compute.client import AsyncCompute
from compute.db.embedded.server import start
from compute.db.migrations.upgrade import upgrade
from compute.db.session import Database
from compute.requests.serving import ServedModel, Serving
from compute.settings import Settings

KEY = "a-key-of-the-benchmark"
BODY = {"task_type": "GENERATION", "prompt": "a dress", "width": 64, "height": 64}
REQUESTS = 300


def serve(database_url: str, home: str, port: int) -> None:
    """Run the API until the process is ended."""
    settings = Settings(api_key=KEY, database_url=database_url, home=Path(home))
    serving = Serving({"inference": ServedModel("painter", 16, roles=frozenset({"draw"}))})
    uvicorn.run(create_app(settings, serving), host="127.0.0.1", port=port, log_level="warning")


async def measure(client: AsyncCompute, process: psutil.Process, task: UUID) -> str:
    """Latency of reads and submits one after the other, and the processor time and memory of the API."""
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    reads, submits = [], []
    for number in range(REQUESTS):
        at = time.perf_counter()
        await client.tasks.get(task)
        reads.append(time.perf_counter() - at)
        if number % 3 == 0:
            at = time.perf_counter()
            await client.tasks.submit("GENERATION", BODY)
            submits.append(time.perf_counter() - at)
        await asyncio.sleep(0.01)
    used = (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - began)
    memory = process.memory_info().rss / 2**20
    return f"{_quantiles(reads)} | {_quantiles(submits)} | {memory:.0f} MiB | {used:.0%}"


def _quantiles(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(seconds, n=20)
    return f"{cuts[9] * 1000:.1f} / {cuts[18] * 1000:.1f} ms"


async def follow(port: int, task: UUID, counted: list[int]) -> None:
    """Read a stream as a plain socket, which costs this process as little as can be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /api/v1/tasks/{task}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    writer.write(head.encode())
    while data := await reader.read(65536):
        counted[0] += data.count(b"\nevent:")


async def change(database: Database, ids: Sequence[UUID]) -> None:
    """Move all tasks forward, once a second, until cancelled."""
    percent = 0.0
    while True:
        percent += 0.5
        async with database.transaction() as session:
            statement = text("UPDATE tasks SET status = 'EXECUTING', progress = :percent WHERE id = ANY(:ids)")
            await session.execute(statement, {"percent": percent, "ids": list(ids)})
        await asyncio.sleep(1)


async def run(streams: int) -> None:
    """Measure without and with the streams."""
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as home, socket.socket() as probe:
        server = start(Path(home))
        upgrade(server.url)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        child = multiprocessing.get_context("spawn").Process(target=serve, args=(server.url, home, port))
        child.start()
        database = Database(server.url)
        try:
            assert child.pid is not None
            process = psutil.Process(child.pid)
            async with AsyncCompute(f"http://127.0.0.1:{port}", KEY) as client:
                ids = [task.id for task in await client.tasks.submit_all([BODY] * streams)]
                print(
                    "| streams | GET p50 / p95 | POST p50 / p95 | memory of the API | of one core |\n|--|--|--|--|--|"
                )
                changing = asyncio.create_task(change(database, ids))
                print(f"| 0 | {await measure(client, process, ids[0])} |")
                counted = [0]
                following = [asyncio.create_task(follow(port, task, counted)) for task in ids]
                while counted[0] < streams:  # noqa: ASYNC110 - whoever reads sets nothing
                    await asyncio.sleep(0.05)
                print(f"| {streams} | {await measure(client, process, ids[0])} |")
                for task in (changing, *following):
                    task.cancel()
        finally:
            child.kill()
            child.join()
            await database.close()
            server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="20 streams, to check that it runs")
    given = parser.parse_args()
    asyncio.run(run(20 if given.quick else given.streams))
