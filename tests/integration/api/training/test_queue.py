"""The queue of trainings: the order of jobs, and their ends."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from compute.db.session import Database
from compute.schemas.training import TrainingStatus
from compute.training.rows.progress import JobReport
from compute.training.rows.queue import Loss, RetryRule, TrainingQueue, TrainingRun
from tests.integration.api.training.rows import cancel, change, deliveries, events, order, row, statuses

RULE = RetryRule(max_retries=2, backoff_seconds=0)


async def test_supervisors_never_take_one_twice_nor_more_than_the_limit(database: Database, database_url: str) -> None:
    ids = [await order(database) for _ in range(20)]
    other = Database(database_url)
    queues = [TrainingQueue(database, RULE), TrainingQueue(other, RULE)]
    taken = await asyncio.gather(*[queue.take_next(7) for queue in queues for _ in range(6)])
    runs = [run for some in taken for run in some]
    assert sorted(run.training_id for run in runs) == sorted(ids[:7])
    assert all(
        run.job_id == f"train-{run.output_name}-{run.training_id.hex}-1" and run.fence == run.attempt == 1
        for run in runs
    )
    assert await queues[0].take_next(7) == []
    assert {run.job_id for run in await queues[1].running()} == {run.job_id for run in runs}
    assert len(await queues[1].take_next(9)) == 2
    await other.close()


async def test_priority_then_fewer_jobs_of_the_tenant_then_age(database: Database) -> None:
    busy = [await order(database, origin_tenant_id="busy") for _ in range(3)]
    calm = [await order(database, origin_tenant_id="calm") for _ in range(2)]
    urgent = await order(database, origin_tenant_id="busy", priority=3)
    queue = TrainingQueue(database, RULE)
    order_taken: list[UUID] = []
    for limit in range(1, 7):
        order_taken += [run.training_id for run in await queue.take_next(limit)]
    assert order_taken == [urgent, calm[0], busy[0], calm[1], busy[1], busy[2]]


async def test_the_same_choice_is_made_at_once(database: Database) -> None:
    first = [await order(database, origin_tenant_id="a") for _ in range(4)]
    second = await order(database, origin_tenant_id="b")
    taken = await TrainingQueue(database, RULE).take_next(2)
    assert {run.training_id for run in taken} == {first[0], second}


async def test_a_lost_job_is_followed_by_others_and_then_by_a_failure(database: Database, database_url: str) -> None:
    training_id = await order(database, webhook_url="http://127.0.0.1:9/hook")
    queue = TrainingQueue(database, RULE)
    for attempt in (1, 2, 3):
        (run,) = await queue.take_next(1)
        assert (run.attempt, run.training_id) == (attempt, training_id)
        report = JobReport(database_url, training_id, run.fence)
        assert report.enter(TrainingStatus.PREPROCESSING)
        expected = Loss.AGAIN if attempt < 3 else Loss.FAILED
        assert await queue.lost(run, "the node went away") is expected
        assert await queue.lost(run, "twice") is Loss.NOT_OURS
        assert not report.update({"current_step": 1}), "though it should still be alive"
        report.close()
    assert await queue.take_next(1) == []
    assert await queue.jobs() == []
    ended = await row(database, training_id)
    assert (ended.status, ended.error_category) == ("FAILED", "INTERNAL")
    assert ended.error_message == "The training's job was lost 3 times, the last time: the node went away"
    assert await statuses(database, training_id) == ["PENDING", *["PREPROCESSING"] * 3, "FAILED"]
    lost = [one.data["reason"] for one in await events(database, training_id) if one.data]
    assert lost == ["the node went away"] * 3
    (delivery,) = await deliveries(database)
    assert (delivery.payload["status"], delivery.payload["error_message"]) == ("FAILED", ended.error_message)


async def test_a_new_checkpoint_makes_losses_forgotten_and_an_old_one_does_not(
    database: Database, database_url: str
) -> None:
    training_id = await order(database)
    queue = TrainingQueue(database, RULE)
    for step, expected in (
        (10, Loss.AGAIN),
        (20, Loss.AGAIN),
        (30, Loss.AGAIN),
        (40, Loss.AGAIN),
        (40, Loss.AGAIN),
        (40, Loss.FAILED),
    ):
        (run,) = await queue.take_next(1)
        report = JobReport(database_url, training_id, run.fence)
        report.enter(TrainingStatus.PREPROCESSING)
        assert report.saved(step)
        report.close()
        assert await queue.lost(run, "preempted") is expected
    assert (await row(database, training_id)).checkpoint_step == 40


async def test_the_next_job_waits_longer_each_time(database: Database) -> None:
    training_id = await order(database)
    queue = TrainingQueue(database, RetryRule(max_retries=5, backoff_seconds=100, longest_seconds=300))
    for seconds in (100, 200, 300):
        (run,) = await queue.take_next(1)
        since, wait = datetime.now(UTC), timedelta(seconds=seconds)
        await queue.lost(run, "x")
        assert await queue.take_next(1) == []
        assert since + wait <= (await row(database, training_id)).run_after <= datetime.now(UTC) + wait
        await change(database, training_id, run_after=datetime.now(UTC))


async def test_the_job_of_a_cancelled_training_is_there_until_it_is_stopped(database: Database) -> None:
    training_id = await order(database)
    waiting = await order(database)
    queue = TrainingQueue(database, RULE)
    (run,) = await queue.take_next(1)
    await cancel(database, training_id)
    await cancel(database, waiting)
    assert await queue.running() == []
    (ended,) = await queue.to_stop()
    assert (ended.job_id, ended.status, ended.ended_at is not None) == (run.job_id, "CANCELLED", True)
    assert await queue.lost(run, "it is gone") is Loss.NOT_OURS
    assert await queue.take_next(1) == [], "its job may still hold the device"
    assert await queue.stopped(ended)
    assert not await queue.stopped(ended)
    assert await queue.to_stop() == []
    assert (await row(database, training_id)).job_id == run.job_id


async def test_a_cancel_while_jobs_are_given_leaves_none(database: Database) -> None:
    ids = [await order(database) for _ in range(10)]
    queue = TrainingQueue(database, RULE)

    async def take() -> list[TrainingRun]:
        return [run for _ in range(5) for run in await queue.take_next(100)]

    taken, *_ = await asyncio.gather(take(), *[cancel(database, one) for one in ids])
    assert {run.training_id for run in await queue.to_stop()} == {run.training_id for run in taken}
    assert await queue.running() == []
