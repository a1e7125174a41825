"""Thousands of waiting workflows: their memory, and the times to start and to finish them."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.harness import as_nice_as_ray, say
from benchmarks.peers.arm import connect, fresh
from benchmarks.workflows.arms import store_all, workflows
from benchmarks.workflows.bed import Bed, Launches, running_bed
from benchmarks.workflows.rows import check_workflows, clear, ended_at, open_workflows, running_steps
from benchmarks.workflows.shapes import WARM_UP, Shape

__all__ = ["Memory", "Waiting", "wait_and_run"]

_LOOK_SECONDS = 0.2
# Adding up the shared memory of a hundred processes takes a while, on the cores that are measured.
_WATCH_SECONDS = 2.0
_SETTLE_SECONDS = 3.0
_PATIENCE_SECONDS = 600.0
_RUNNER = "ray::StepRunnerActor"


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in MiB. Shared pages of Postgres' processes, or of Ray's, count once; engine and step runner by resident
    set."""

    engine: float = 0.0
    runner: float = 0.0
    postgres: float = 0.0
    ray: float = 0.0

    def larger(self, other: "Memory") -> "Memory":
        """Return the larger value of each."""
        return Memory(*(max(getattr(self, part.name), getattr(other, part.name)) for part in fields(self)))


@dataclass(frozen=True, slots=True)
class Waiting:
    """The result of a run.

    `launches` are the calls to Ray until all waited. Seconds: until all were stored and until each workflow's first
    task
    waited, both from the first one on; and from the opening of the pool to the last end.
    """

    before: Memory
    waiting: Memory
    peak: Memory
    after: Memory
    launches: Launches
    stored: float
    begun: float
    run: float


def wait_and_run(home: Path, url: str, shape: Shape, *, hands: int) -> Waiting:
    """Start every workflow with a closed pool, wait for the first task of each, then open the pool.

    Raises:
        RuntimeError: not everything was done once, or not in time.
    """
    with running_bed(home, url, hands=hands) as bed:
        fresh(workflows, url, WARM_UP)
        clear(url)
        processes = _Processes(bed)
        time.sleep(_SETTLE_SECONDS)
        before, launched = processes.memory(), bed.launches()
        with processes.watched():
            bed.hold()
            stored, begun = _begin(url, shape)
            launches = _since(launched, bed.launches())
            time.sleep(_SETTLE_SECONDS)
            waiting = processes.memory()
            run = _end(url, bed)
        time.sleep(_SETTLE_SECONDS)
        after = processes.memory()
    check_workflows(url, shape)
    return Waiting(before, waiting, processes.peak, after, launches, stored, begun, run)


def _begin(url: str, shape: Shape) -> tuple[float, float]:
    first = sum(not parents for parents in shape.parents.values()) * shape.workflows
    began, stored = fresh(_store, url, shape)
    _wait(url, lambda connection: running_steps(connection) == first)
    begun = time.time() - began
    say(f"  stored in {stored:.1f} s, all wait after {begun:.1f} s")
    return stored, begun


def _end(url: str, bed: Bed) -> float:
    began = time.time()
    bed.release()
    _wait(url, lambda connection: not open_workflows(connection))
    with connect(url) as connection:
        run = ended_at(connection) - began
    say(f"  all have ended after {run:.1f} s more")
    return run


def _store(url: str, shape: Shape) -> tuple[float, float]:
    """Store all and return the start time, and the seconds that it took."""
    as_nice_as_ray()
    began = time.time()
    asyncio.run(store_all(url, shape))
    return began, time.time() - began


def _wait(url: str, reached: Callable[[psycopg.Connection[Any]], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with connect(url) as connection:
        while not reached(connection):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the workflows are not done after {_PATIENCE_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS)


def _since(before: Launches, now: Launches) -> Launches:
    return Launches(now.workflows - before.workflows, now.seconds - before.seconds)


@dataclass(slots=True)
class _Processes:
    """The processes that run the workflows, and their peak memory."""

    bed: Bed
    peak: Memory = field(default_factory=Memory)

    def memory(self) -> Memory:
        engine = psutil.Process(self.bed.engine_pid)
        children = engine.children(recursive=True)
        runners = [child for child in children if _title(child).startswith(_RUNNER)]
        if len(runners) != 1:
            raise RuntimeError(f"{len(runners)} processes have the title {_RUNNER}")
        return Memory(
            engine.memory_info().rss / 2**20,
            runners[0].memory_info().rss / 2**20,
            _shared([child for child in psutil.Process().children(recursive=True) if child.name() == "postgres"]),
            _shared([child for child in children if child != runners[0]]),
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record the peak until the block ends."""
        done = threading.Event()
        watching = threading.Thread(target=self._watch, args=(done,))
        watching.start()
        try:
            yield
        finally:
            done.set()
            watching.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(_WATCH_SECONDS):
            # A connection's process may end while it is examined.
            with suppress(psutil.NoSuchProcess):
                self.peak = self.peak.larger(self.memory())


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _shared(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss / 2**20
    return total
