import random
from collections import Counter

from compute.db.session import Database
from compute.db.tables import Task
from tests.integration.rows import add, claim, release, settle, start


async def test_a_higher_priority_goes_first_then_age(database: Database) -> None:
    low, first, second, urgent = [
        await add(database, priority=priority, origin_reference=name)
        for priority, name in ((0, "low"), (1, "first"), (1, "second"), (3, "urgent"))
    ]
    claimed = await claim(database, 4)
    assert [task.id for task in claimed] == [urgent.id, first.id, second.id, low.id]


async def test_tenants_of_one_priority_take_turns_however_long_one_backlog_is(database: Database) -> None:
    for _ in range(50):
        await add(database, tenant="busy")
    for tenant in ("small", "other"):
        for _ in range(2):
            await add(database, tenant=tenant)
    claimed = await claim(database, 6)
    assert Counter(task.tenant for task in claimed) == {"busy": 2, "small": 2, "other": 2}


async def test_what_a_tenant_already_runs_counts_against_its_turn(database: Database) -> None:
    for _ in range(10):
        await add(database, tenant="busy")
    assert len(await claim(database, 4)) == 4
    for _ in range(4):
        await add(database, tenant="late")
    claimed = await claim(database, 4)
    assert Counter(task.tenant for task in claimed) == {"late": 4}


async def test_priority_beats_fairness(database: Database) -> None:
    for _ in range(5):
        await add(database, tenant="busy", priority=2)
    await add(database, tenant="patient", priority=1)
    assert {task.tenant for task in await claim(database, 5)} == {"busy"}


async def test_only_the_named_queue_is_claimed(database: Database) -> None:
    await add(database, queue="video")
    assert await claim(database, 5) == []
    assert len(await claim(database, 5, queue="video")) == 1


async def finish(database: Database, task: Task) -> None:
    await start(database, task)
    await settle(database, task)


async def test_a_pool_of_one_that_finishes_each_task_still_gives_every_tenant_its_turn(database: Database) -> None:
    for _ in range(20):
        await add(database, tenant="busy")
    for tenant in ("small", "other"):
        for _ in range(3):
            await add(database, tenant=tenant)
    served = []
    for _ in range(9):
        (task,) = await claim(database, 1)
        served.append(task.tenant)
        await finish(database, task)
    assert Counter(served) == {"busy": 3, "small": 3, "other": 3}
    assert all(len(set(served[start : start + 3])) == 3 for start in range(0, 9, 3))


async def test_a_tenant_whose_tasks_wait_for_a_retry_does_not_hold_up_the_others(database: Database) -> None:
    for tenant in ("a", "b", "c"):
        await add(database, tenant=tenant)
    for task in await claim(database, 2):
        await release(database, task, delay_seconds=60)
    (ready,) = await claim(database, 1)
    assert ready.retry_count == 0
    assert await claim(database, 1) == []


async def test_one_claim_at_a_time_serves_many_tenants_evenly(database: Database) -> None:
    """Claiming one by one, as a pool of one worker does, must come to the same shares."""
    rng = random.Random(7)
    for _ in range(60):
        await add(database, tenant=f"tenant-{rng.randrange(6)}")
    shares = Counter([(await claim(database, 1))[0].tenant for _ in range(24)])
    assert max(shares.values()) - min(shares.values()) <= 1
