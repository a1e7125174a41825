"""Claims in batches: exact shares, what a claim reads, and claimers that meet."""

import asyncio
import contextlib
import random
from collections import Counter
from itertools import groupby
from uuid import UUID

import pytest
from sqlalchemy import select

from compute.db.away import DatabaseAway, RowLocked
from compute.db.direct import DirectConnection
from compute.db.patience import Patience
from compute.db.session import Connection, Database
from compute.db.tables import Task
from compute.dispatch.fairness import _WAIT_FOR_TURN, claim_batch
from compute.tasks.leases import ClaimedTask
from tests.integration.rows import add, claim, create, direct, new_task, reload
from tests.patience import PATIENCE


async def add_many(database: Database, rows: list[dict[str, object]]) -> list[Task]:
    async with database.transaction() as session:
        return [await create(session, new_task(**values)) for values in rows]


def dealt(waiting: list[Task], running: Counter[str], limit: int) -> Counter[tuple[int, str]]:
    """How many of each lane the rule gives: the lowest turns of the highest priorities, by plain sorting."""
    turns = []
    key = lambda task: (task.priority, task.tenant)  # noqa: E731
    for (priority, tenant), lane in groupby(sorted(waiting, key=key), key=key):
        turns += [(-priority, running[tenant] + n, tenant) for n, _ in enumerate(lane, 1)]
    turns.sort()
    return Counter((-priority, tenant) for priority, _, tenant in turns[:limit])


@pytest.mark.parametrize("seed", range(6))
async def test_a_batch_takes_what_sorting_all_turns_would_take(database: Database, seed: int) -> None:
    """Backlogs of every size beside tenants that already run something: the dealt shares are the exact ones."""
    rng = random.Random(seed)
    tenants = [f"tenant-{n}" for n in range(12)]
    await add_many(database, [{"tenant": rng.choice(tenants[:5])} for _ in range(rng.randrange(30))])
    running = Counter(task.tenant for task in await claim(database, 20))
    backlog = [
        {"tenant": tenant, "priority": priority}
        for tenant in tenants
        for priority in (1, 2)
        for _ in range(rng.choice([0, 0, 1, 2, 5, 40]))
    ]
    await add_many(database, backlog)
    async with database.transaction() as session:
        waiting = list(await session.scalars(select(Task).where(Task.status == "PENDING")))
    limit = rng.choice([3, 17, 60, 150])
    expected = dealt(waiting, running, limit)
    claimed = await claim(database, limit)
    got = Counter((task.priority, task.tenant) for task in claimed)
    assert len(claimed) == min(limit, len(waiting))
    last = min(priority for priority, _ in expected)
    for priority in {priority for priority, _ in expected} - {last}:
        assert {lane: n for lane, n in got.items() if lane[0] == priority} == {
            lane: n for lane, n in expected.items() if lane[0] == priority
        }
    # Between equal turns of the last priority it is the tenant served longest ago, so a share may differ by one.
    for lane in expected.keys() | got.keys():
        assert abs(expected[lane] - got[lane]) <= 1, lane
    assert sorted(running[tenant] + n for (_, tenant), share in got.items() for n in range(1, share + 1)) == sorted(
        running[tenant] + n for (_, tenant), share in expected.items() for n in range(1, share + 1)
    )


async def test_within_a_tenant_the_oldest_go_first(database: Database) -> None:
    tasks = [await add(database, tenant=f"tenant-{n % 3}") for n in range(30)]
    claimed = {task.id for task in await claim(database, 15)}
    for tenant in range(3):
        ages = [task.id in claimed for task in tasks if task.tenant == f"tenant-{tenant}"]
        assert ages == sorted(ages, reverse=True)


async def test_a_row_that_somebody_has_locked_is_passed_over(database: Database) -> None:
    held, other = await add_many(database, [{}, {}])
    async with database.transaction() as session:
        await session.scalar(select(Task).where(Task.id == held.id).with_for_update())
        async with asyncio.timeout(PATIENCE):
            claimed = await claim(database)
    assert [task.id for task in claimed] == [other.id]


async def test_claimers_that_meet_take_everything_once_and_none_comes_back_empty(database: Database) -> None:
    tasks = await add_many(database, [{"tenant": f"tenant-{n % 4}"} for n in range(400)])

    async def work(owner: str) -> list[int]:
        sizes = []
        async with direct(database) as connection:
            await everyone.wait()
            batch = await claim_batch(connection, "inference", 10, owner=owner, lease_seconds=30)
            # Three that go on might have taken everything before the fourth was let in.
            await everyone.wait()
            while batch:
                taken.extend(one.lease.task_id for one in batch)
                sizes.append(len(batch))
                batch = await claim_batch(connection, "inference", 10, owner=owner, lease_seconds=30)
        return sizes

    taken: list[object] = []
    everyone = asyncio.Barrier(4)
    sizes = await asyncio.gather(*(work(f"owner-{n}") for n in range(4)))
    assert len(taken) == len(set(taken)) == len(tasks)
    assert all(sizes), "each had a turn"


async def test_a_dispatcher_that_stops_in_the_middle_of_a_claim_holds_up_nobody_for_long(database_url: str) -> None:
    """Its process is frozen, or its node gone: the server hears nothing more of it, and no end either."""
    database, impatient = Database(database_url), Database(database_url, patience=Patience(idle=0.2))
    stopped, goes_on = DirectConnection(impatient), DirectConnection(database)
    [task, other] = await add_many(database, [{}, {}])

    async def claim_and_stop(connection: Connection) -> None:
        async with connection.transaction():
            await connection.execute(_WAIT_FOR_TURN, {"queue": task.queue})
            await connection.execute("SELECT FROM tasks WHERE id = %s FOR UPDATE", [task.id])
            stands.set()
            await again.wait()

    async def claim_all(connection: Connection) -> list[ClaimedTask]:
        return await claim_batch(connection, task.queue, 10, owner="another", lease_seconds=10)

    stands, again = asyncio.Event(), asyncio.Event()
    claimed: set[UUID] = set()
    async with asyncio.timeout(PATIENCE):
        while not stands.is_set():
            # It may have been held up between two statements, and be given up by the server too soon.
            claiming = asyncio.create_task(stopped.run(claim_and_stop))
            await asyncio.wait([claiming, asyncio.create_task(stands.wait())], return_when=asyncio.FIRST_COMPLETED)
        while claimed != {task.id, other.id}:
            with contextlib.suppress(RowLocked):
                claimed |= {one.lease.task_id for one in await goes_on.run(claim_all)}
    again.set()
    with pytest.raises(DatabaseAway):
        await claiming
    for one in (stopped, goes_on, database, impatient):
        await one.close()


async def test_a_claim_hands_over_what_a_run_needs(database: Database) -> None:
    task = await add(database, spec={"prompt": "süß", "steps": 4})
    async with direct(database) as connection:
        (claimed,) = await claim_batch(connection, "inference", 5, owner="me", lease_seconds=30)
    job = claimed.job()
    assert (job.task_id, job.task_type, job.spec) == (task.id, "GENERATION", {"prompt": "süß", "steps": 4})
    row = await reload(database, task)
    assert (row.fence, row.lease_owner, row.status) == (job.fence, "me", "QUEUED")
