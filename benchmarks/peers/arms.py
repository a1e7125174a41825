"""All arms: their configuration, and the guarantees of each while it is measured."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType

from benchmarks.harness import Server, say
from benchmarks.peers import celery, ours, ours_submit, pgqueuer, procrastinate, raw
from benchmarks.peers.arm import Accepted, Arm, empty_database, fresh
from benchmarks.peers.redis import installed

__all__ = ["OUR_WRITER", "PROMISES", "drains", "submits"]

OUR_WRITER = "ours, the ingress's writer"
# procrastinate's default, and one that lets the ends of jobs overlap. In both one loop fetches jobs one by one.
_CONCURRENCIES = (1, 10)
# As many as pgqueuer's five consumers hold.
_HANDS = 500

PROMISES = {
    "raw asyncpg": "two updates of a bare row: no lease, event, result, priority. The floor of Postgres and asyncpg.",
    "pgqueuer": "at least once. A job without a heartbeat for 30 s is taken again; there is no fence, so the first"
    " worker's late answer ends it all the same. A log row when a job is stored, picked and ended; the job itself is"
    " deleted, no result is kept. Its queries alone: the same rows, without heartbeats, cancel and handlers.",
    "procrastinate": "one job a claim; the row is kept, with an event for its start and its end. A stalled job is tried"
    " again if you write a periodic task for it. No fence, no result.",
    "Celery, acks first": "at most once: a job that began dies with its worker. Redis may lose what came after its last"
    " snapshot. No trace of a job is left.",
    "Celery, acks late": "at least once: delivered again when an hour passed without an answer, though it may just be"
    " slow. Redis syncs every write. No trace of a job is left, but for its result where that is kept (a day).",
    "ours": "a lease and a fence: a late answer changes nothing; one terminal state; fair turns (ten tenants here)"
    " within priorities; the row, its result and an event for each of QUEUED, EXECUTING, COMPLETED are kept, and a"
    " webhook would be queued. In batches, start and end are one write; the Dispatcher adds streams, heartbeats,"
    " retries, cancel and the reaper.",
}
"""The guarantees of each system for a job. Speed alone misleads."""


def drains(server: Server, systems: Sequence[str], *, jobs: int, slow_jobs: int) -> list[Arm]:
    """The arms of `systems`, their databases installed."""
    makers: dict[str, Callable[[], list[Arm]]] = {
        "raw": partial(_raw, server, jobs),
        "pgqueuer": partial(_pgqueuer, server, jobs),
        "procrastinate": partial(_procrastinate, server, slow_jobs),
        "celery": partial(_celery, server, slow_jobs),
        "ours": partial(_ours, server, jobs),
    }
    return [arm for system in systems for arm in makers[system]()]


def submits(server: Server, systems: Sequence[str], *, jobs: int) -> dict[str, Callable[[], Accepted]]:
    """Return the submitters of `systems`; `jobs` in bulk, half as many by many clients, a tenth one by one."""
    arms: dict[str, Callable[[], Accepted]] = {}
    if "raw" in systems:
        arms["raw asyncpg"] = partial(fresh, raw.enqueue, _database(server, "raw_in", raw), jobs)
    if "pgqueuer" in systems:
        url = _database(server, "pgqueuer_in", pgqueuer)
        arms["pgqueuer"] = partial(fresh, pgqueuer.enqueue, url, jobs)
    if "procrastinate" in systems:
        url = _database(server, "procrastinate_in", procrastinate)
        arms["procrastinate"] = partial(fresh, procrastinate.enqueue, url, jobs)
    if "celery" in systems and installed():
        folders = _folders(server, "celery_in")
        for name, durable in (("Redis as it comes", False), ("Redis that syncs", True)):
            arms[f"Celery, {name}"] = partial(_celery_submit, folders, jobs, durable)
    if "ours" in systems:
        arms[OUR_WRITER] = partial(fresh, ours_submit.enqueue, server.database("ours_in"), jobs)
    return arms


def _raw(server: Server, jobs: int) -> list[Arm]:
    url = _database(server, "raw", raw)

    def arm(batch: int) -> Arm:
        drain = partial(fresh, raw.drain, url, jobs, claimers=2, batch=batch)
        return Arm(f"raw asyncpg, batch {batch}, 2 claimers", jobs, drain)

    return [arm(100), arm(1000)]


def _pgqueuer(server: Server, jobs: int) -> list[Arm]:
    url = _database(server, "pgqueuer", pgqueuer)
    # Its own benchmark starts five consumers.
    worker = partial(fresh, pgqueuer.drain, url, jobs, consumers=5, batch=100)
    queries = partial(fresh, pgqueuer.drain_by_queries, url, jobs, claimers=2, batch=100)
    return [
        Arm("pgqueuer, batch 100, 5 consumers", jobs, worker),
        Arm("pgqueuer's queries, batch 100, 2 claimers", jobs, queries),
    ]


def _procrastinate(server: Server, jobs: int) -> list[Arm]:
    url = _database(server, "procrastinate", procrastinate)
    drains = {n: partial(fresh, procrastinate.drain, url, jobs, concurrency=n) for n in _CONCURRENCIES}
    return [Arm(f"procrastinate, concurrency {n}", jobs, drain) for n, drain in drains.items()]


def _celery(server: Server, jobs: int) -> list[Arm]:
    if not installed():
        say("redis-server is not installed: no Celery")
        return []
    folders = _folders(server, "celery")

    def arm(name: str, *, workers: int = 2, durable: bool = False, results: bool = False) -> Arm:
        def drain() -> float:
            return fresh(
                celery.drain,
                next(folders),
                jobs,
                durable=durable,
                late=durable,
                results=results,
                workers=workers,
            )

        return Arm(name, jobs, drain)

    # A worker's parent process is the bottleneck; two workers of one child each have two of them.
    return [
        arm("Celery, acks first, plain Redis, 1 worker", workers=1),
        arm("Celery, acks first, plain Redis, 2 workers"),
        arm("Celery, acks late, synced Redis, 2 workers", durable=True),
        arm("Celery, the same and results", durable=True, results=True),
    ]


def _celery_submit(folders: Iterator[Path], jobs: int, durable: bool) -> Accepted:
    return fresh(celery.enqueue, next(folders), jobs, durable=durable)


def _ours(server: Server, jobs: int) -> list[Arm]:
    url = server.database("ours")

    def arm(batch: int, claimers: int, column: str = "") -> Arm:
        drain = partial(fresh, ours.drain, url, jobs, claimers=claimers, batch=batch)
        return Arm(f"ours, batch {batch}, {claimers} claimer{'s' * (claimers > 1)}", jobs, drain, column)

    whole = partial(fresh, ours.dispatch, url, jobs, hands=_HANDS)
    return [
        arm(100, 1),
        arm(100, 2, "batch 100 x2"),
        arm(1000, 1),
        arm(1000, 2, "batch 1000 x2"),
        Arm(f"ours, Dispatcher, {_HANDS} hands", jobs, whole, "Dispatcher"),
    ]


def _database(server: Server, name: str, peer: ModuleType) -> str:
    url = empty_database(server, name)
    peer.install(url)
    return url


def _folders(server: Server, name: str) -> Iterator[Path]:
    """Yield a new folder each time, so that a Redis keeps nothing from one round to the next."""
    return (server.home / f"{name}-{number}" for number in count())
