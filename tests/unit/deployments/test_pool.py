"""The replicas that get a pool's jobs while some of its own are missing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast
from uuid import uuid4

import pytest
from pydantic import ValidationError
from ray.exceptions import ActorDiedError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from compute.deployments.args import AppArgs, PoolArgs
from compute.deployments.pool import ServePool
from compute.errors import WorkerLost
from compute.worker.protocol import Alive, Done, Job, Progress, Started, WorkEvent
from tests.patience import PATIENCE

JOB = Job(uuid4(), "GENERATION", 1, {})
EVENTS: list[WorkEvent] = [Started("x", "tiny"), Progress(0.5), Done({})]


class Replicas:
    """What `DeploymentHandle.options(stream=True)` is to a pool: `run.remote` gives a stream that can be cancelled.

    `script` is what every stream yields; an exception in it is raised, and an event is waited for.
    """

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.served = 0
        self.cancelled = 0

    def options(self, *, stream: bool) -> "Replicas":
        assert stream
        return self

    @property
    def run(self) -> "Replicas":
        return self

    def remote(self, job: Job) -> "Stream":
        assert job is JOB
        self.served += 1
        return Stream(self)


class Stream:
    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._events = self._play()

    async def _play(self) -> AsyncGenerator[tuple[WorkEvent, ...]]:
        for item in self._replicas.script:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, asyncio.Event):
                await item.wait()
            else:
                yield (item,)

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> tuple[WorkEvent, ...]:
        return await anext(self._events)

    def cancel(self) -> None:
        self._replicas.cancelled += 1


def pool_of(own: Replicas, standby: Replicas | None = None, **options: Any) -> ServePool:
    args = PoolArgs(name="P", standby=1 if standby else 0, **options)
    return ServePool(args, cast("DeploymentHandle", own), cast("DeploymentHandle", standby))


async def collect(pool: ServePool) -> list[WorkEvent]:
    async with aclosing(pool.run(JOB)) as events:
        return [event async for event in events]


async def until_served(*replicas: Replicas, jobs: int) -> None:
    """Until so many jobs have come to these."""
    async with asyncio.timeout(PATIENCE):
        while sum(each.served for each in replicas) < jobs:
            await asyncio.sleep(0.001)


async def test_without_a_standby_nothing_changes() -> None:
    own = Replicas(*EVENTS)
    pool = pool_of(own, reserved_tasks=2)
    assert (pool.ready(), pool.capacity()) == (0, 0)
    pool.counted(own=1)
    assert (pool.ready(), pool.capacity()) == (1, 3)
    assert await collect(pool) == EVENTS
    assert (own.served, own.cancelled) == (1, 1)


@pytest.mark.parametrize(
    ("own", "standby", "ready"), [(2, 1, 2), (1, 1, 2), (0, 1, 1), (0, 0, 0), (1, 0, 1), (1, 3, 2)]
)
def test_standbys_count_in_place_of_missing_replicas_only(own: int, standby: int, ready: int) -> None:
    pool = pool_of(Replicas(), Replicas(), num_replicas=2, reserved_tasks=1)
    pool.counted(own, standby)
    assert (pool.ready(), pool.capacity()) == (ready, 2 * ready)


async def test_jobs_go_to_the_pools_own_replicas_while_all_of_them_run() -> None:
    own, standby = Replicas(*EVENTS), Replicas(*EVENTS)
    pool = pool_of(own, standby)
    pool.counted(own=1, standby=1)
    await asyncio.gather(*(collect(pool) for _ in range(3)))
    assert (own.served, standby.served) == (3, 0)


async def test_a_standby_takes_what_the_remaining_replicas_cannot() -> None:
    hold = asyncio.Event()
    own, standby = Replicas(EVENTS[0], hold, EVENTS[-1]), Replicas(EVENTS[0], hold, EVENTS[-1])
    pool = pool_of(own, standby, num_replicas=2)
    pool.counted(own=1, standby=1)
    jobs = [asyncio.create_task(collect(pool)) for _ in range(3)]
    await until_served(own, standby, jobs=3)
    assert (own.served, standby.served) == (2, 1), "one each, and the reserve waits at a replica of the pool"
    hold.set()
    await asyncio.gather(*jobs)


async def test_a_job_that_had_not_begun_moves_when_its_replica_dies() -> None:
    own, standby = Replicas(ActorDiedError()), Replicas(*EVENTS)
    pool = pool_of(own, standby)
    pool.counted(own=1, standby=1)

    async def recount() -> None:
        pool.counted(own=0, standby=1)

    pool.recount = recount
    assert await collect(pool) == EVENTS
    assert (own.served, own.cancelled, standby.served) == (1, 1, 1)


@pytest.mark.parametrize("loss", [ActorDiedError(), WorkerLost("a thread hangs")])
async def test_a_job_that_a_replica_had_in_its_reserve_had_not_begun(loss: Exception) -> None:
    own, standby = Replicas(Alive(), loss), Replicas(Alive(), *EVENTS)
    pool = pool_of(own, standby)
    pool.counted(own=0, standby=0)

    async def recount() -> None:
        pool.counted(own=0, standby=1)

    pool.recount = recount
    assert await collect(pool) == [Alive(), Alive(), *EVENTS]


@pytest.mark.parametrize("loss", [ActorDiedError(), DeploymentUnavailableError(DeploymentID("P", "app"))])
async def test_whatever_ray_raises_by_itself_is_the_loss_of_a_worker(loss: Exception) -> None:
    pool = pool_of(Replicas(loss))
    pool.counted(own=1)
    with pytest.raises(WorkerLost, match=type(loss).__name__):
        await collect(pool)


async def test_a_job_that_waits_for_replicas_that_are_gone_moves_as_soon_as_that_is_known() -> None:
    own, standby = Replicas(asyncio.Event()), Replicas(*EVENTS)
    pool = pool_of(own, standby)
    pool.counted(own=1, standby=1)
    job = asyncio.create_task(collect(pool))
    await until_served(own, jobs=1)
    await asyncio.sleep(0.01)
    assert not job.done()
    pool.counted(own=0, standby=1)
    assert await job == EVENTS
    assert own.cancelled == 1, "Serve must not run it as well when the replica is back"


async def test_a_job_that_had_begun_is_left_to_the_retry_policy() -> None:
    own, standby = Replicas(EVENTS[0], ActorDiedError()), Replicas(*EVENTS)
    pool = pool_of(own, standby)
    pool.counted(own=1, standby=1)
    with pytest.raises(WorkerLost, match="ActorDiedError"):
        await collect(pool)
    assert standby.served == 0


async def test_a_standby_that_dies_too_fails_the_run() -> None:
    pool = pool_of(Replicas(), Replicas(ActorDiedError()))
    pool.counted(own=0, standby=1)
    with pytest.raises(WorkerLost, match="ActorDiedError"):
        await collect(pool)


async def test_closing_the_run_cancels_the_stream_wherever_it_is() -> None:
    own, standby = Replicas(asyncio.Event()), Replicas(EVENTS[0], asyncio.Event())
    pool = pool_of(own, standby)
    for counted, replicas in (((1, 1), own), ((0, 1), standby)):
        pool.counted(*counted)
        job = asyncio.create_task(collect(pool))
        await until_served(replicas, jobs=1)
        await asyncio.sleep(0.01)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert replicas.cancelled == 1


def test_a_pool_must_not_have_the_name_of_anothers_standby() -> None:
    pools = [{"name": "Flux", "queue": "a"}, {"name": "FluxStandby", "queue": "b"}]
    with pytest.raises(ValidationError, match="FluxStandby"):
        AppArgs.model_validate({"pools": pools})


def test_a_standby_of_a_gpu_pool_never_falls_back_to_the_cpu() -> None:
    assert PoolArgs(name="P").for_standby().model.device == "auto"
    assert PoolArgs(name="P", gpus_per_replica=1).for_standby().model.device == "cuda"
