"""The Celery application loaded by the worker processes: `celery -A benchmarks.peers.celery_app worker`.

Its task counts its runs in a mapped file, one byte a job, which costs no system call.
"""

import mmap
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from celery import Celery

__all__ = ["JOBS", "WARM", "app", "configured", "noop", "settings_of"]

BROKER, LATE, RESULTS, TALLY = "PEERS_BROKER", "PEERS_ACKS_LATE", "PEERS_RESULTS", "PEERS_TALLY"
JOBS, WARM = "jobs", "warm"
"""The queues. A worker starts on WARM alone, and adds JOBS when the clock starts."""

# Recommended for many short tasks by Celery's guide to optimising ("64, or 128 for example").
_PREFETCH = 128


def settings_of(socket: Path, tally: Path, *, late: bool, results: bool) -> dict[str, str]:
    """Return the environment of a worker and of its clients."""
    return {BROKER: str(socket), LATE: str(int(late)), RESULTS: str(int(results)), TALLY: str(tally)}


def configured(settings: Mapping[str, str]) -> Celery:
    """Return an application for these settings; without any, one that can only be imported."""
    socket, keeps_results = settings.get(BROKER, ""), settings.get(RESULTS) == "1"
    made = Celery("peers", broker=f"redis+socket://{socket}")
    made.conf.update(
        result_backend=f"redis+socket://{socket}" if keeps_results else None,
        task_ignore_result=not keeps_results,
        task_acks_late=settings.get(LATE) == "1",
        task_reject_on_worker_lost=settings.get(LATE) == "1",
        worker_prefetch_multiplier=_PREFETCH,
        worker_disable_rate_limits=True,
        broker_connection_retry_on_startup=True,
        task_default_queue=WARM,
    )
    return made


app = configured(os.environ)


@cache
def _tally() -> mmap.mmap:
    with Path(os.environ[TALLY]).open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


@app.task(name="noop")
def noop(job: int) -> None:
    runs = _tally()
    runs[job] += 1
