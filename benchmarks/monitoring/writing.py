"""Tasks that are accepted, claimed, started and completed at a steady rate, by a process of its own."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

from benchmarks.harness import as_nice_as_ray
from compute.db.direct import connect_by_key
from compute.db.session import Connection, Database
from compute.db.tables import Task
from compute.dispatch.fairness import claim_batch
from compute.monitoring.fold import Folding
from compute.tasks.ids import new_task_id
from compute.tasks.leases import Complete, Start, settle_batch, start_batch
from compute.tasks.submission.rows import insert_tasks

__all__ = ["new_task", "run_through", "writing"]

_ROUND_SECONDS = 0.1
_RESULT = {"artifacts": [{"path": "generations/0/1/0.png"}], "metadata": {"model": "none"}}
_SPEC = {"prompt": "a lighthouse", "width": 1024, "height": 1024, "steps": 28, "seed": 7, "num_outputs": 1}


@contextmanager
def writing(database_url: str, per_second: int, *, instances: int = 1) -> Iterator[None]:
    """Write within the block, from so many installations in turn; counts are folded as a Dispatcher does."""
    process = multiprocessing.get_context("spawn").Process(
        target=_write, args=(database_url, per_second, instances), daemon=True
    )
    process.start()
    try:
        yield
        if not process.is_alive():
            raise RuntimeError("the writer has ended")
    finally:
        process.terminate()
        process.join(10)


def _write(database_url: str, per_second: int, instances: int) -> None:
    as_nice_as_ray()
    asyncio.run(_write_always(database_url, max(1, round(per_second * _ROUND_SECONDS)), cycle(range(instances))))


async def _write_always(database_url: str, at_a_time: int, pods: Iterator[int]) -> None:
    database = Database(database_url)
    folding = asyncio.create_task(Folding(database).run())
    async with await connect_by_key(database) as connection:
        while not folding.done():
            began = time.perf_counter()
            await run_through(connection, [new_task(number, next(pods)) for number in range(at_a_time)])
            await asyncio.sleep(max(0.0, _ROUND_SECONDS - (time.perf_counter() - began)))
    await folding


async def run_through(connection: Connection, tasks: list[Task]) -> None:
    """Accept, claim, start and complete tasks of one queue, in one statement each."""
    await insert_tasks(connection, list(enumerate(tasks)))
    claimed = await claim_batch(connection, "inference", len(tasks), owner="benchmark", lease_seconds=60)
    await start_batch(connection, [Start(one.lease, "Flux#replica", "none") for one in claimed])
    await settle_batch(connection, [Complete(one.lease, _RESULT) for one in claimed])


def new_task(number: int, pod: int = 0) -> Task:
    """A task of one of so many tenants as there are numbers."""
    tenant = f"tenant-{number}"
    return Task(
        id=new_task_id(),
        task_type="GENERATION",
        queue="inference",
        tenant=tenant,
        priority=1,
        spec=_SPEC,
        origin_instance=f"pod-{pod}",
        origin_tenant_id=tenant,
        provider_type="LOCAL",
    )
