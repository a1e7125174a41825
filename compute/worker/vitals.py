"""Heartbeats of a replica, busy or idle: what it holds, and what its process uses."""

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from compute.worker.protocol import Done, Started, WorkEvent

__all__ = ["Gpu", "Station", "Tally", "Vitals", "memory_of_process"]

_RATE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as its driver sees it: `utilization` from 0 to 1, memory in bytes, that of other processes included."""

    name: str
    utilization: float | None
    memory_used: int
    memory_total: int


@dataclass(frozen=True, slots=True)
class Station:
    """What a replica is from its beginning to its end.

    Attributes:
        id: `deployment#replica`, the `executor_instance` of its tasks.
        queues: The queues whose tasks it takes.
        concurrency: The number of tasks that it executes at a time.
        capacity: The number of tasks that it holds at a time, those for its next turns included.
    """

    id: str
    queues: tuple[str, ...]
    concurrency: int
    capacity: int

    @property
    def deployment(self) -> str:
        return self.id.partition("#")[0]

    @property
    def name(self) -> str:
        """A name for people, such as `Flux-3f2a@host1`."""
        deployment, _, replica = self.id.partition("#")
        return f"{deployment}-{replica[:4]}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Vitals:
    """A replica at one moment. `active` tasks are executed and `reserved` ones held; `completed` counts from its
    beginning, `per_minute` is of the last five minutes. `memory` is in bytes, `hangs`: a thread of it does."""

    station: Station
    name: str
    host: str
    pid: int
    active: int
    reserved: int
    completed: int
    per_minute: float
    memory: int
    hangs: bool = False
    gpu: Gpu | None = None


class Tally:
    """Counts the jobs of a replica."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._completed_at: deque[float] = deque()
        self.held = 0
        self.begun = 0
        self.completed = 0

    @contextmanager
    def job(self) -> Iterator["_CountedJob"]:
        """Hold a job within the block."""
        job = _CountedJob(self)
        self.held += 1
        try:
            yield job
        finally:
            self.held -= 1
            self.begun -= job.begun

    def complete(self, jobs: int = 1) -> None:
        """Count jobs that are completed now."""
        self.completed += jobs
        self._completed_at += [self._clock()] * jobs

    def per_minute(self) -> float:
        """The jobs completed in a minute, on average of the last five minutes, or of fewer so far."""
        now = self._clock()
        while self._completed_at and self._completed_at[0] < now - _RATE_SECONDS:
            self._completed_at.popleft()
        return 60 * len(self._completed_at) / min(max(now - self._since, 60.0), _RATE_SECONDS)

    def told(self, station: Station, *, hangs: bool = False, gpu: Gpu | None = None) -> Vitals:
        """The replica as it is now."""
        active = min(self.begun, station.concurrency)
        return Vitals(
            station,
            station.name,
            socket.gethostname(),
            os.getpid(),
            active,
            max(self.held - active, 0),
            self.completed,
            round(self.per_minute(), 3),
            memory_of_process(),
            hangs,
            gpu,
        )


class _CountedJob:
    """One job of a replica."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.begun = False

    def saw(self, events: Iterable[WorkEvent]) -> None:
        """Note what the job has told."""
        for event in events:
            if isinstance(event, Started) and not self.begun:
                self.begun = True
                self._tally.begun += 1
            elif isinstance(event, Done):
                self._tally.complete()


def memory_of_process() -> int:
    """Main memory of this process and its children, in bytes."""
    me = psutil.Process()
    total = 0
    for process in [me, *me.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
