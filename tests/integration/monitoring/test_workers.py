"""Workers as rows: written as they are heard of, unhealthy when they are silent by the database's clock, then gone."""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import func, select, update

from compute.db.session import Database
from compute.db.tables import Worker
from compute.monitoring.workers import STALE, WorkerSeen, seen_workers, workers_by_queue
from compute.monitoring.workers import note as note_of
from compute.worker.vitals import Gpu, Station, Vitals


def vitals(replica: str = "Flux#3f2a", *queues: str, active: int = 0, reserved: int = 0, **values: object) -> Vitals:
    station = Station(replica, queues or ("inference",), concurrency=1, capacity=3)
    told = {"completed": 5, "per_minute": 1.5, "memory": 10**9, "hangs": False, "gpu": None}
    told |= {"name": f"{station.deployment}-1@host", "host": "host", "pid": 7} | values
    return Vitals(station, active=active, reserved=reserved, **told)  # type: ignore[arg-type]


note = partial(note_of, cluster="one")


async def statuses(database: Database, *, with_gone: bool = False) -> dict[str, str]:
    return {worker.row.id: worker.status for worker in await workers(database, with_gone=with_gone)}


async def workers(database: Database, *, with_gone: bool = False) -> list[WorkerSeen]:
    async with database.transaction() as session:
        seen, _ = await seen_workers(session, with_gone=with_gone)
        return list(seen)


async def silent_for(database: Database, replica: str, silence: timedelta) -> None:
    async with database.transaction() as session:
        await session.execute(update(Worker).where(Worker.id == replica).values(seen_at=func.now() - silence))


async def test_the_latest_that_was_heard_of_a_worker_is_its_row(database: Database) -> None:
    gpu = Gpu("NVIDIA H200", 0.85, 2 * 10**9, 10**11)
    await note(database, [vitals(active=1, reserved=2), vitals("Image#1", "image")])
    await note(database, [vitals(active=1, gpu=gpu, completed=6)])
    first, second = await workers(database)
    assert (first.row.active, first.row.reserved, first.row.completed, first.status) == (1, 0, 6, "busy")
    assert (first.row.gpu_utilization, first.row.gpu_memory_total) == (0.85, 10**11)
    assert (second.row.id, second.row.queues, second.status) == ("Image#1", ["image"], "idle")
    assert first.row.started_at < first.row.seen_at


@pytest.mark.parametrize(("held", "free"), [((0, 0), True), ((1, 1), True), ((1, 2), False)])
async def test_one_has_capacity_while_it_would_take_another_task(
    database: Database, held: tuple[int, int], free: bool
) -> None:
    await note(database, [vitals(active=held[0], reserved=held[1])])
    (worker,) = await workers(database)
    assert worker.has_capacity is free
    await silent_for(database, "Flux#3f2a", STALE + timedelta(seconds=1))
    (worker,) = await workers(database)
    assert worker.has_capacity is False


async def statuses_when_silent_for(database: Database, replica: str, silence: timedelta) -> dict[str, str]:
    """Looked at in the transaction in which the worker falls silent: the database's time stands still in it."""
    async with database.transaction() as session:
        await session.execute(update(Worker).where(Worker.id == replica).values(seen_at=func.now() - silence))
        seen, _ = await seen_workers(session)
        return {worker.row.id: worker.status for worker in seen}


async def test_silence_makes_unhealthy_and_a_word_makes_well_again(database: Database) -> None:
    await note(database, [vitals(), vitals("Flux#b", hangs=True)])
    found = await statuses_when_silent_for(database, "Flux#3f2a", STALE)
    assert found == {"Flux#3f2a": "idle", "Flux#b": "unhealthy"}
    found = await statuses_when_silent_for(database, "Flux#3f2a", STALE + timedelta(milliseconds=1))
    assert found == {"Flux#3f2a": "unhealthy", "Flux#b": "unhealthy"}
    assert workers_by_queue(await workers(database)) == {}
    await note(database, [vitals()])
    assert workers_by_queue(await workers(database)) == {"inference": 1}


async def test_one_that_is_silent_and_that_ray_has_no_more_is_gone(database: Database) -> None:
    await note(database, [vitals("Flux#a"), vitals("Flux#b"), vitals("Training#c", "training")])
    for replica in ("Flux#a", "Flux#b"):
        await silent_for(database, replica, timedelta(seconds=7))
    await note(database, [], deployments=["Flux"], alive=["Flux#b"])
    assert await statuses(database) == {"Flux#b": "idle", "Training#c": "idle"}
    assert (await statuses(database, with_gone=True))["Flux#a"] == "gone"
    # A Dispatcher that cannot ask Ray says nothing about anybody.
    await note(database, [])
    assert await statuses(database) == {"Flux#b": "idle", "Training#c": "idle"}


@pytest.mark.parametrize("alive", [[], ["Flux#old"]])
async def test_one_that_was_heard_of_lately_has_not_gone_whatever_ray_last_said(
    database: Database, alive: list[str]
) -> None:
    """Ray does not answer, knows nothing yet after a restart, or is another cluster's."""
    await note(database, [vitals("Flux#new")], deployments=["Flux"], alive=alive)
    await silent_for(database, "Flux#new", timedelta(seconds=4))
    await note(database, [], deployments=["Flux"], alive=alive)
    assert await statuses(database) == {"Flux#new": "idle"}


async def test_one_that_nobody_else_knows_is_gone_after_a_minute_and_forgotten_later(database: Database) -> None:
    await note(database, [vitals("Training#c", "training"), vitals("Flux#b")])
    for replica in ("Training#c", "Flux#b"):
        await silent_for(database, replica, timedelta(seconds=61))
    await note(database, [], deployments=["Flux"], alive=["Flux#b"])
    assert await statuses(database, with_gone=True) == {"Training#c": "gone", "Flux#b": "unhealthy"}
    async with database.transaction() as session:
        await session.execute(update(Worker).values(gone_at=func.now() - timedelta(minutes=11)))
    await note(database, [])
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(Worker)) == 0


async def test_a_cluster_says_nothing_about_the_workers_of_another(database: Database) -> None:
    await note(database, [vitals("Flux#a")])
    await note_of(database, [vitals("Flux#b")], cluster="two")
    for replica in ("Flux#a", "Flux#b"):
        await silent_for(database, replica, timedelta(seconds=7))
    await note_of(database, [], cluster="two", deployments=["Flux"], alive=["Flux#b"])
    assert await statuses(database) == {"Flux#a": "idle", "Flux#b": "idle"}
    await note_of(database, [], cluster="two", deployments=["Flux"], alive=[])
    assert await statuses(database) == {"Flux#a": "idle"}
    # Of a cluster that was taken down nobody else would speak.
    await silent_for(database, "Flux#a", timedelta(seconds=61))
    await note_of(database, [], cluster="two", deployments=["Flux"], alive=[])
    assert await statuses(database) == {}
