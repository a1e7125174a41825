"""Processes that run the workflows: the Dispatcher with no-op workers, and the engine with its step runner on a local
Ray."""

import asyncio
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import as_nice_as_ray
from benchmarks.peers.arm import run_on_uvloop
from benchmarks.workflows.shapes import QUEUE, SERVING
from compute.db.session import Database
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.worker.protocol import Artifact, Done, Job, Started, WorkEvent
from compute.workflows.engine import Engine, EnginePolicy, Graph
from compute.workflows.plan import Plan
from compute.workflows.rows.engine import PostgresEngineStore

__all__ = ["Bed", "Launches", "running_bed"]

_READY_SECONDS = 180.0
_STOP_SECONDS = 30.0
_context = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Launches:
    """Calls to Ray so far: workflows, and the seconds that the engine's loop spent on them."""

    workflows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bed:
    """The process of the engine, which is Ray's driver, and the pool's size, which `hold` sets to zero."""

    engine_pid: int
    _hands: Any
    _most: int
    _engine: Connection

    def hold(self) -> None:
        """Take no more tasks."""
        self._hands.value = 0

    def release(self) -> None:
        """Take tasks again, a second later at the latest."""
        self._hands.value = self._most

    def launches(self) -> Launches:
        self._engine.send("launches")
        answer: Launches = self._engine.recv()
        return answer


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool that finishes every job at once, with the path of an image that does not exist, up to `hands` jobs at a
    time."""

    hands: Any
    queue: str = QUEUE
    executor_type: str = "no-op"
    resumes: bool = False

    def capacity(self) -> int:
        count: int = self.hands.value
        return count

    def ready(self) -> int:
        return self.capacity()

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("no-op#1", "none")
        yield Artifact(f"generations/{job.task_id}/1/0.png", "image/png", 10, "aa", 64, 64, seed=7)
        yield Done({"model": "none"})


@dataclass(slots=True)
class _Clocked:
    """A RayCompiler that measures the time of its calls."""

    compiler: Any
    workflows: int = 0
    seconds: float = 0.0

    def launch(self, plan: Plan) -> Graph:
        began = time.perf_counter()
        graph: Graph = self.compiler.launch(plan)
        self.seconds += time.perf_counter() - began
        self.workflows += 1
        return graph


@contextmanager
def running_bed(home: Path, url: str, *, hands: int) -> Iterator[Bed]:
    """Run a Dispatcher and an engine on the database at `url`."""
    count = _context.Value("i", hands)
    with _child(_dispatch, url, count), _child(_advance, url, home) as (pid, connection):
        yield Bed(pid, count, hands, connection)


@contextmanager
def _child(run: Callable[..., None], *args: Any) -> Iterator[tuple[int, Connection]]:
    """Run `run(connection, *args)` in a process; it reports when it is ready, and ends when the connection does."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=run, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        if not ours.poll(_READY_SECONDS):
            raise RuntimeError(f"{run.__name__} is not ready after {_READY_SECONDS:g} s")
        ours.recv()
        yield process.pid or 0, ours
    finally:
        ours.close()
        process.join(_STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _dispatch(connection: Connection, url: str, hands: Any) -> None:
    as_nice_as_ray()
    run_on_uvloop(_run_dispatcher(connection, url, hands))


async def _run_dispatcher(connection: Connection, url: str, hands: Any) -> None:
    database = Database(url)
    work = asyncio.create_task(
        Dispatcher(PostgresDispatchStore(database), [_Pool(hands)], DispatchPolicy(), "benchmark").run()
    )
    await _until_closed(connection, work, lambda: None)
    await database.close()


def _advance(connection: Connection, url: str, home: Path) -> None:
    as_nice_as_ray()
    # The step runner's process inherits these. Its niceness comes from Ray, and is relative to ours.
    os.environ |= {
        "DATABASE_URL": url,
        "COMPUTE_HOME": str(home),
        "RAY_worker_niceness": "0",
    }
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    # Ray puts sockets in this folder, and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            _temp_dir=folder,
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
        )
        try:
            run_on_uvloop(_run_engine(connection, url))
        finally:
            ray.shutdown()


async def _run_engine(connection: Connection, url: str) -> None:
    from compute.deployments.workflows import RayCompiler

    database = Database(url)
    clocked = _Clocked(RayCompiler(SERVING, runners=1, owner="benchmark"))
    work = asyncio.create_task(Engine(PostgresEngineStore(database), clocked, EnginePolicy(), "benchmark").run())
    await _until_closed(connection, work, lambda: Launches(clocked.workflows, clocked.seconds))
    await database.close()


async def _until_closed(connection: Connection, work: asyncio.Task[None], answer: Callable[[], object]) -> None:
    """Run `work` until the other end is closed; answer every message meanwhile."""
    connection.send("ready")
    asking = asyncio.create_task(_answer(connection, answer))
    await asyncio.wait([work, asking], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _answer(connection: Connection, answer: Callable[[], object]) -> None:
    with contextlib.suppress(EOFError, ConnectionResetError):
        while await asyncio.to_thread(connection.recv):
            connection.send(answer())
