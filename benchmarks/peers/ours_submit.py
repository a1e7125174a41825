"""Rate at which our own store accepts tasks: the ingress's writer, which batches concurrent tasks in one
transaction."""

from uuid import UUID

from benchmarks.peers.arm import WARM_UP, Accepted, accept, connect, empty, run_on_uvloop, shares
from compute.db.session import Database
from compute.db.tables import Task
from compute.events.notify import Notifier
from compute.tasks.submission.writer import Submission, TaskWriter

__all__ = ["enqueue"]

_SPEC = {"prompt": "a lighthouse", "width": 1024, "height": 1024, "steps": 28, "seed": 7, "num_outputs": 1}


def enqueue(url: str, jobs: int) -> Accepted:
    run_on_uvloop(_enqueue(url, WARM_UP))
    return run_on_uvloop(_enqueue(url, jobs))


async def _enqueue(url: str, jobs: int) -> Accepted:
    with connect(url) as admin:
        empty(admin, ["tasks", "task_events"])
    database = Database(url)
    writer = TaskWriter(database, Notifier(database))
    try:
        accepted = await accept(
            jobs,
            lambda some: writer.submit(_submission(some)),
            lambda job: writer.submit(_submission(range(job, job + 1))),
        )
    finally:
        await writer.close()
        await database.close()
    _check(url, sum(len(share) for share in shares(jobs)))
    return accepted


def _submission(jobs: range) -> Submission:
    return Submission([_task(job) for job in jobs])


def _task(job: int) -> Task:
    return Task(
        id=UUID(int=job + 1),
        task_type="GENERATION",
        queue="inference",
        tenant="default",
        priority=1,
        spec=_SPEC,
        origin_instance="benchmark",
    )


def _check(url: str, expected: int) -> None:
    with connect(url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM tasks WHERE status = 'PENDING'), count(*) FROM task_events"
        ).fetchone()
    if row != (expected, expected):
        raise RuntimeError(f"ours: tasks and events are {row}, not {expected}")
