"""Celery with Redis: worker processes with two prefork children in all, which start to consume when the queue is
full."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from celery import group

from benchmarks.peers import celery_app as worker_app
from benchmarks.peers.arm import BULK, CLIENTS, WARM_UP, Accepted, rate, shares
from benchmarks.peers.redis import redis_server

__all__ = ["drain", "enqueue"]

_PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.005
_CHILDREN = 2


def drain(home: Path, jobs: int, *, durable: bool, late: bool, results: bool, workers: int = 1) -> float:
    """Return jobs per second from the command to consume until all ran and nothing is unacknowledged."""
    with redis_server(home, durable=durable) as socket:
        tally = home / "tally"
        tally.write_bytes(bytes(jobs + WARM_UP))
        settings = worker_app.settings_of(socket, tally, late=late, results=results)
        app = worker_app.configured(settings)
        with redis.Redis(unix_socket_path=str(socket)) as client:
            with ExitStack() as stack:
                for number in range(workers):
                    stack.enter_context(_worker(home, settings, f"worker{number}", _CHILDREN // workers))
                _send(app, range(jobs, jobs + WARM_UP), worker_app.WARM)
                _wait(client, tally, WARM_UP)
                _send(app, range(jobs), worker_app.JOBS)
                began = time.time()
                app.control.add_consumer(worker_app.JOBS)
                _wait(client, tally, jobs + WARM_UP)
                reached = rate(jobs, began)
            _check(client, tally, jobs + WARM_UP, results=results)
    return reached


def enqueue(home: Path, jobs: int, *, durable: bool) -> Accepted:
    """Submit jobs. Celery has no bulk call; a group of signatures sends its messages one by one over one connection."""
    with redis_server(home, durable=durable) as socket:
        app = worker_app.configured(worker_app.settings_of(socket, home / "tally", late=False, results=False))
        _accept(app, WARM_UP)
        with redis.Redis(unix_socket_path=str(socket)) as client:
            client.delete(worker_app.JOBS)
            accepted = _accept(app, jobs)
            expected = sum(len(share) for share in shares(jobs))
            if client.llen(worker_app.JOBS) != expected:
                raise RuntimeError(f"Celery: not all of {expected} jobs are queued")
    return accepted


def _accept(app: Any, jobs: int) -> Accepted:
    def submit(job: int) -> None:
        app.send_task("noop", (job,), queue=worker_app.JOBS)

    one, many, bulk = shares(jobs)
    began = time.time()
    for job in one:
        submit(job)
    alone, began = rate(len(one), began), time.time()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(submit, many))
    together, began = rate(len(many), began), time.time()
    for start in bulk[::BULK]:
        some = range(start, min(start + BULK, bulk.stop))
        group(app.signature("noop", (job,), queue=worker_app.JOBS) for job in some).apply_async()
    return Accepted(alone, together, rate(len(bulk), began))


def _send(app: Any, jobs: range, queue: str) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for job in jobs:
            app.send_task("noop", (job,), queue=queue, producer=producer)


@contextmanager
def _worker(home: Path, settings: dict[str, str], name: str, children: int) -> Iterator[None]:
    """Run a worker without messages between workers; its orderly end is part of the check."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_app", "worker"]
    command += ["--hostname", f"{name}@%h", "--concurrency", f"{children}", "--queues", worker_app.WARM]
    command += ["--loglevel", "WARNING"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)  # noqa: S603
        try:
            yield
        finally:
            process.terminate()
            process.wait(_PATIENCE_SECONDS)


def _wait(client: "redis.Redis", tally: Path, jobs: int) -> None:
    """Wait until `jobs` ran and the broker holds nothing more for the worker."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _ran(tally) < jobs or _held(client):
        if time.monotonic() > deadline:
            raise RuntimeError(f"Celery: {_ran(tally)} of {jobs} jobs ran, {_held(client)} are held")
        time.sleep(_LOOK_SECONDS)


def _ran(tally: Path) -> int:
    runs = tally.read_bytes()
    return len(runs) - runs.count(0)


def _held(client: "redis.Redis") -> int:
    waiting = [client.llen(queue) for queue in (worker_app.JOBS, worker_app.WARM)]
    return sum(waiting) + client.hlen("unacked")


def _check(client: "redis.Redis", tally: Path, jobs: int, *, results: bool) -> None:
    once, held = tally.read_bytes().count(1), _held(client)
    kept = sum(1 for _ in client.scan_iter("celery-task-meta-*", count=1000)) if results else jobs
    if (once, held, kept) != (jobs, 0, jobs):
        raise RuntimeError(f"Celery: {once} of {jobs} jobs ran exactly once, {held} are held, {kept} results are kept")
