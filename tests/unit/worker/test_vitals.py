"""Vitals of a replica: its jobs, what it has completed, and the resources of its process."""

import contextlib
import os
import pickle
import subprocess
import sys
from uuid import uuid4

import psutil
import pytest

from compute.worker.gpu import GpuProbe
from compute.worker.protocol import Done, Progress, Started
from compute.worker.vitals import Gpu, Station, Tally, memory_of_process

STATION = Station("Flux#3f2a9c01", ("inference",), concurrency=1, capacity=3)
STARTED = Started("Flux#3f2a9c01", "tiny")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_idle_replica_has_nothing() -> None:
    told = Tally().told(STATION)
    assert (told.active, told.reserved, told.completed, told.per_minute) == (0, 0, 0, 0.0)
    assert told.station.deployment == "Flux"
    assert told.name.startswith("Flux-3f2a@")
    assert (told.pid, told.hangs, told.gpu) == (os.getpid(), False, None)


def test_jobs_that_have_begun_are_active_up_to_what_is_executed_at_a_time() -> None:
    tally = Tally()
    with tally.job() as first, tally.job() as second, tally.job():
        first.saw([STARTED, Progress(0.5)])
        assert (tally.told(STATION).active, tally.told(STATION).reserved) == (1, 2)
        # The one before is being stored, the next one is drawn.
        second.saw([STARTED])
        assert (tally.told(STATION).active, tally.told(STATION).reserved) == (1, 2)
        first.saw([Done()])
    told = tally.told(STATION)
    assert (told.active, told.reserved, told.completed) == (0, 0, 1)


def test_a_job_that_breaks_off_is_held_no_longer_and_not_completed() -> None:
    tally = Tally()
    with contextlib.suppress(RuntimeError), tally.job() as job:
        job.saw([STARTED, STARTED])
        raise RuntimeError
    told = tally.told(STATION)
    assert (told.active, told.reserved, told.completed) == (0, 0, 0)


def test_the_rate_is_of_the_last_five_minutes() -> None:
    clock = Clock()
    tally = Tally(clock=clock)
    tally.complete(6)
    assert tally.per_minute() == 6.0
    clock.now += 120
    assert tally.per_minute() == 3.0
    clock.now += 400
    tally.complete()
    assert tally.per_minute() == pytest.approx(0.2)
    assert tally.completed == 7


def test_vitals_travel_between_processes() -> None:
    told = Tally().told(STATION, hangs=True, gpu=Gpu("H", 0.5, 1, 2))
    assert pickle.loads(pickle.dumps(told)) == told  # noqa: S301


def test_memory_is_that_of_the_process_and_its_children() -> None:
    alone = psutil.Process().memory_info().rss
    script = "data = bytearray(50_000_000); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as child:  # noqa: S603
        assert child.stdout is not None
        child.stdout.readline()
        assert memory_of_process() > alone + 40_000_000
        child.communicate(b"\n")


def test_without_a_gpu_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible in ("", "-1", f"GPU-{uuid4()}"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert GpuProbe().read() is None
