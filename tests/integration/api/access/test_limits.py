"""Limits of keys and tenants: exact under load, over several processes, and told in the answers."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event, text, update

from compute.api.access.rates import RateLimit, RateLimiter
from compute.db.session import Database, libpq_url
from compute.db.tables import ChargedWork, QuotaUse, RequestRate
from compute.errors import LimitReached, Unavailable
from compute.settings import Settings
from compute.storage.tenants import tenant_folder
from tests.integration.absent import SHORT
from tests.integration.api.access.conftest import SMALL, GiveKey
from tests.integration.api.access.scene import MINE, STEP, client, flow_of, made
from tests.integration.api.conftest import serving_api
from tests.integration.api.images.test_storage import picture
from tests.integration.lossy import LossyWire
from tests.patience import PATIENCE

TO_MIDNIGHT = 12 * 3600 - 10
"""Seconds, by the clock of these tests."""


@pytest.fixture(autouse=True)
def still_clock(database_url: str) -> None:
    """The database's clock stands still, ten seconds past noon: no minute and no day ends while a test counts.

    Its functions are hidden behind others of the same names, for every connection that is made from now on.
    """
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=10, microsecond=0)
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA still")
        for name in ("now", "clock_timestamp"):
            making = "CREATE FUNCTION {} () RETURNS timestamptz STABLE LANGUAGE sql AS {}"
            body = sql.Literal(f"SELECT timestamptz '{noon.isoformat()}'")
            connection.execute(sql.SQL(making).format(sql.Identifier("still", name), body))
        changing = "ALTER DATABASE {} SET search_path = still, pg_catalog, public"
        connection.execute(sql.SQL(changing).format(sql.Identifier(connection.info.dbname)))


async def key_with(give: GiveKey, tenant: str | None = None, **limits: int) -> str:
    return str((await give(tenant=tenant, scope="operate", limits=limits))["key"])


@pytest.fixture
async def second_url(settings: Settings) -> AsyncIterator[str]:
    """Another process that serves the same database."""
    async with serving_api(settings) as url:
        yield url


async def at_once(clients: list[httpx.AsyncClient], number: int, path: str = "/tasks/", **parts: Any) -> list[int]:
    """The statuses of so many POSTs, sent together to all of them."""
    parts = parts or {"json": SMALL}
    sent = [one.post(path, **parts) for _ in range(number) for one in clients]
    return [answer.status_code for answer in await asyncio.gather(*sent)]


@pytest.mark.parametrize("limit", ["concurrent_tasks", "tasks_per_day"])
async def test_of_many_posts_at_once_to_two_processes_exactly_as_many_as_allowed_are_accepted(
    base_url: str, second_url: str, give: GiveKey, limit: str, database: Database
) -> None:
    key = await key_with(give, **{limit: 7})
    async with client(base_url, key) as one, client(second_url, key) as other:
        statuses = await at_once([one, other], 15)
        assert sorted(statuses) == [201] * 7 + [429] * 23
        refused = await one.post("/tasks/", json=SMALL)
        assert (refused.status_code, refused.json()["code"]) == (429, "LIMIT_REACHED")
        assert "7 of 7" in refused.json()["detail"]
        told = {name: int(refused.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset")}
        assert (told["limit"], told["remaining"]) == (7, 0)
        assert int(refused.headers["retry-after"]) == (5 if limit == "concurrent_tasks" else TO_MIDNIGHT)
        assert len((await one.get("/tasks/")).json()) == 7
    async with database.transaction() as session:
        # What was refused left nothing: no task, and no charge. A limit for the day needs no charges.
        charges = await session.scalar(text("SELECT count(*) FROM charged_work"))
        assert charges == (7 if limit == "concurrent_tasks" else 0)


async def test_ended_tasks_make_room(base_url: str, give: GiveKey) -> None:
    async with client(base_url, await key_with(give, concurrent_tasks=3)) as api:
        tasks = [(await made(api, "/tasks/", json=SMALL))["id"] for _ in range(3)]
        assert (await api.post("/tasks/", json=SMALL)).status_code == 429
        await api.post(f"/tasks/{tasks[0]}/cancel")
        await api.post(f"/tasks/{tasks[1]}/cancel")
        assert sorted(await at_once([api], 6)) == [201] * 2 + [429] * 4


async def test_a_bulk_counts_its_elements_and_is_accepted_whole_or_refused_whole(base_url: str, give: GiveKey) -> None:
    async with client(base_url, await key_with(give, tasks_per_day=10)) as api:
        bulk = {"tasks": [SMALL] * 4}
        assert sorted(await at_once([api], 3, "/tasks/bulk", json=bulk)) == [201, 201, 429]
        assert len((await api.get("/tasks/")).json()) == 8
        assert sorted(await at_once([api], 4)) == [201, 201, 429, 429]
        assert (await api.post("/tasks/bulk", json=bulk)).status_code == 429


async def test_a_repeated_request_counts_once_and_a_refused_one_leaves_its_key_free(
    base_url: str, second_url: str, give: GiveKey, database: Database
) -> None:
    key = await key_with(give, concurrent_tasks=2)
    async with client(base_url, key) as one, client(second_url, key) as other:
        same = {"json": SMALL, "headers": {"Idempotency-Key": "same"}}
        statuses = await at_once([one, other], 10, **same)
        assert statuses == [201] * 20
        assert (await one.post("/tasks/", json=SMALL)).status_code == 201
        later = {"json": SMALL, "headers": {"Idempotency-Key": "later"}}
        assert set(await at_once([one, other], 3, **later)) == {429}
        # Of what is stored, a repetition is answered however little is left.
        assert await at_once([one], 1, **same) == [201]
        listed = (await one.get("/tasks/")).json()
        assert len(listed) == 2
        await one.post(f"/tasks/{listed[0]['id']}/cancel")
        assert await at_once([one, other], 2, **later) == [201] * 4


async def test_the_last_room_is_for_one_request_and_its_repetitions(
    base_url: str, second_url: str, give: GiveKey
) -> None:
    key = await key_with(give, concurrent_tasks=1)
    async with client(base_url, key) as one, client(second_url, key) as other:
        assert await at_once([one, other], 10, json=SMALL, headers={"Idempotency-Key": "same"}) == [201] * 20


@pytest.mark.parametrize("limit", ["concurrent_tasks", "tasks_per_day"])
async def test_work_for_which_there_is_never_room_is_no_valid_request(base_url: str, give: GiveKey, limit: str) -> None:
    steps = [STEP | {"id": f"step{number}"} for number in range(3)]
    async with client(base_url, await key_with(give, **{limit: 2})) as api:
        for path, body, field in [
            ("/tasks/bulk", {"tasks": [SMALL] * 3}, "tasks"),
            ("/workflows/", flow_of(*steps), "steps"),
        ]:
            refused = await api.post(path, json=body)
            assert refused.status_code == 422, path
            assert refused.json()["detail"][0]["loc"] == ["body", field]
            assert "3 tasks" in refused.json()["detail"][0]["msg"]


async def test_work_that_goes_on_and_for_which_there_is_never_room_is_not_to_be_sent_again(
    base_url: str, give: GiveKey
) -> None:
    steps = [STEP | {"id": f"step{number}"} for number in range(3)]
    async with (
        client(base_url, await key_with(give, MINE)) as free,
        client(base_url, await key_with(give, MINE, concurrent_tasks=2)) as narrow,
    ):
        flow = (await made(free, "/workflows/", json=flow_of(*steps)))["id"]
        waiting = (await made(free, "/workflows/", params={"start": False}, json=flow_of(*steps)))["id"]
        assert (await free.post(f"/workflows/{flow}/pause")).status_code == 200
        for path in (f"/workflows/{flow}/resume", f"/workflows/{waiting}/start"):
            refused = await narrow.post(path)
            assert refused.status_code == 422, path
            assert "3 tasks" in refused.json()["detail"][0]["msg"]
        assert (await free.get(f"/workflows/{flow}")).json()["status"] == "PAUSED"


async def test_for_what_is_refused_no_file_is_kept(base_url: str, give: GiveKey) -> None:
    async with client(base_url, await key_with(give, MINE, concurrent_tasks=1)) as api:
        waiting = (await made(api, "/workflows/", params={"start": False}, json=flow_of(_step_with("navy"))))["id"]
        await made(api, "/tasks/", json=SMALL)
        for path, body in [
            ("/tasks/", _task_with("red")),
            ("/tasks/generation", _task_with("lime")),
            ("/tasks/bulk", {"tasks": [_task_with("blue")]}),
            ("/workflows/", flow_of(_step_with("pink"))),
            (f"/workflows/{waiting}/start", {}),
            ("/training/", {"trigger_word": "zx", "source_images": [_inline("gold")]}),
        ]:
            assert (await api.post(path, json=body)).status_code == 429, path
        kept = (await api.get("/storage/images", params={"prefix": tenant_folder(MINE)})).json()
        assert kept["images"] == []


def _inline(colour: str) -> str:
    return f"data:image/png;base64,{b64encode(picture(colour)).decode()}"


def _task_with(colour: str) -> dict[str, Any]:
    return SMALL | {"reference_image_url": _inline(colour)}


def _step_with(colour: str) -> dict[str, Any]:
    return {"id": "draw", "task_type": "GENERATION", "config": _task_with(colour)}


async def test_keys_of_one_tenant_share_its_limits(base_url: str, admin: httpx.AsyncClient, give: GiveKey) -> None:
    limits = {"concurrent_tasks": 5, "requests_per_minute": None}
    assert (await admin.put(f"/admin/tenants/{MINE}", json=limits)).status_code == 200
    assert (await admin.get(f"/admin/tenants/{MINE}")).json()["limits"]["concurrent_tasks"] == 5
    assert [one["name"] for one in (await admin.get("/admin/tenants")).json()["tenants"]] == [MINE]
    assert (await admin.get("/admin/tenants/nobody")).status_code == 404
    assert (await admin.put("/admin/tenants/default", json={})).status_code == 400
    async with AsyncExitStack() as stack:
        keys = [await key_with(give, MINE), await key_with(give, MINE, concurrent_tasks=2), await key_with(give)]
        first, second, free = [await stack.enter_async_context(client(base_url, key)) for key in keys]
        assert sorted(await at_once([second], 4)) == [201, 201, 429, 429]
        assert sorted(await at_once([first], 5)) == [201] * 3 + [429] * 2
        assert await at_once([free], 5) == [201] * 5


async def test_workflows_and_trainings_count_until_they_end(base_url: str, give: GiveKey) -> None:
    steps = [STEP | {"id": f"step{number}"} for number in range(3)]
    async with client(base_url, await key_with(give, concurrent_tasks=4)) as api:
        first = (await made(api, "/workflows/", json=flow_of(*steps)))["id"]
        assert (await api.post("/workflows/", json=flow_of(*steps))).status_code == 429
        waiting = (await made(api, "/workflows/", params={"start": False}, json=flow_of(*steps)))["id"]
        assert (await api.post(f"/workflows/{waiting}/start")).status_code == 429
        assert (await api.get(f"/workflows/{waiting}")).json()["status"] == "PENDING"
        # It counts already.
        assert (await api.post(f"/workflows/{first}/pause")).status_code == 200
        assert (await api.post(f"/workflows/{first}/resume")).status_code == 200
        image = (await made(api, "/storage/images", files={"file": ("a.png", picture())}))["path"]
        training = {"trigger_word": "zx", "source_images": [image]}
        order = (await made(api, "/training/", json=training))["id"]
        assert (await api.post("/training/", json=training)).status_code == 429
        assert (await api.post("/tasks/", json=SMALL)).status_code == 429
        await api.delete(f"/workflows/{first}")
        await api.post(f"/training/{order}/cancel")
        assert (await api.post(f"/workflows/{waiting}/start")).status_code == 200
        assert (await api.post("/tasks/", json=SMALL)).status_code == 201


async def test_a_new_day_begins_anew(base_url: str, give: GiveKey, database: Database) -> None:
    async with client(base_url, await key_with(give, tasks_per_day=2)) as api:
        assert sorted(await at_once([api], 3)) == [201, 201, 429]
        async with database.transaction() as session:
            await session.execute(text("UPDATE quota_uses SET day = day - 1"))
        assert sorted(await at_once([api], 3)) == [201, 201, 429]


async def test_requests_over_the_rate_are_refused_by_both_processes_and_the_answers_say_how_it_stands(
    base_url: str, second_url: str, give: GiveKey
) -> None:
    key = await key_with(give, requests_per_minute=20)
    async with client(base_url, key) as one, client(second_url, key) as other:
        first = await one.get("/tasks/")
        assert first.status_code == 200
        assert (first.headers["x-ratelimit-limit"], first.headers["x-ratelimit-remaining"]) == ("20", "19")
        assert 0 < int(first.headers["x-ratelimit-reset"]) <= 50
        answers = await asyncio.gather(*(api.get("/tasks/") for _ in range(20) for api in (one, other)))
        passed = [answer for answer in answers if answer.status_code == 200]
        # Of what each process was promised at last, one may be left.
        assert 18 <= len(passed) <= 19
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "LIMIT_REACHED"
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert 0 < int(refused.headers["retry-after"]) <= 60
        # What needs no key costs nothing, and is not refused.
        assert (await one.get(f"{base_url}/health")).status_code == 200


async def test_unlimited_keys_have_no_such_headers(base_url: str, give: GiveKey) -> None:
    async with client(base_url, await key_with(give)) as api:
        assert not [name for name in (await api.get("/tasks/")).headers if name.startswith("x-ratelimit")]


class TestRates:
    async def test_no_more_than_the_limit_are_let_in_by_many_processes(self, database: Database) -> None:
        limiters = [RateLimiter(database) for _ in range(4)]
        limit = RateLimit("key:x", "this key", 100)
        let_in = 0
        for _ in range(60):
            for limiter in limiters:
                try:
                    await limiter.take([limit])
                    let_in += 1
                except LimitReached:
                    continue
        assert 96 <= let_in <= 100

    async def test_what_one_limit_refuses_is_not_counted_against_the_other(self, database: Database) -> None:
        limiter = RateLimiter(database)
        wide, narrow = RateLimit("key:y", "this key", 50), RateLimit("tenant:y", "this key's tenant", 5)
        for _ in range(5):
            await limiter.take([wide, narrow])
        for _ in range(20):
            with pytest.raises(LimitReached):
                await limiter.take([wide, narrow])
        state = await limiter.take([wide])
        assert state.remaining == 44

    async def test_the_next_minute_begins_anew(self, database: Database) -> None:
        limit = RateLimit("key:z", "this key", 1)
        await RateLimiter(database).take([limit])
        async with database.transaction() as session:
            await session.execute(update(RequestRate).values(minute=RequestRate.minute - timedelta(minutes=1)))
        await RateLimiter(database).take([limit])

    async def test_without_the_database_it_is_unavailable_once_the_promise_is_used_up(self, database_url: str) -> None:
        async with LossyWire(database_url).open() as wire:
            database = Database(wire.url, patience=SHORT)
            limiter = RateLimiter(database)
            limit = RateLimit("key:w", "this key", 1000)
            await limiter.take([limit])
            wire.hush(deaf=True)
            for _ in range(99):
                await limiter.take([limit])
            with pytest.raises(Unavailable):
                await limiter.take([limit])
            wire.deaf = False
            await database.close()

    async def test_without_the_database_a_crowd_is_answered_together_and_counted_again_later(
        self, database_url: str
    ) -> None:
        async with LossyWire(database_url).open() as wire:
            database = Database(wire.url, patience=SHORT)
            limiter = RateLimiter(database)
            limit = RateLimit("key:v", "this key", 1_000)
            wire.hush(deaf=True)
            crowd = [asyncio.create_task(limiter.take([limit])) for _ in range(400)]
            # One silence for each of them in turn would take longer than the test may.
            async with asyncio.timeout(PATIENCE):
                found = await asyncio.gather(*crowd, return_exceptions=True)
            assert {type(one) for one in found} == {Unavailable}
            wire.deaf = False
            async with asyncio.timeout(PATIENCE):
                while not await _let_in(limiter, limit):
                    await asyncio.sleep(0.05)
            await limiter.close()
            await database.close()

    async def test_one_question_is_for_all_who_wait_whoever_of_them_goes(self, database: Database) -> None:
        limiter = RateLimiter(database)
        limit = RateLimit("key:u", "this key", 1_000)
        asked: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            asked.append(statement)

        event.listen(database.engine.sync_engine, "before_cursor_execute", note)
        crowd = [asyncio.create_task(limiter.take([limit])) for _ in range(60)]
        await asyncio.sleep(0)
        crowd.pop(0).cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*crowd)
        assert len([one for one in asked if "request_rates" in one]) == 1
        await limiter.close()


async def _let_in(limiter: RateLimiter, limit: RateLimit) -> bool:
    try:
        await limiter.take([limit])
    except Unavailable:
        return False
    return True


async def test_a_write_that_is_repeated_is_counted_once(database: Database) -> None:
    """The connection was lost after the commit: the same tasks are written again."""
    from compute.db.direct import DirectConnection
    from compute.tasks.submission.quotas import Quota
    from compute.tasks.submission.rows import Submission, write
    from tests.integration.rows import new_task

    connection = DirectConnection(database, by_key=False)
    batch = [Submission([new_task(), new_task()], quotas=[Quota("key:q", "this key", 2, 2)])]
    for again in (False, True):
        (outcome,) = await connection.run(lambda direct, again=again: write(direct, batch, again=again))
        assert not isinstance(outcome, LimitReached), outcome
    (refused,) = await connection.run(lambda direct: write(direct, [Submission([new_task()], quotas=batch[0].quotas)]))
    assert isinstance(refused, LimitReached)
    await connection.close()
    async with database.transaction() as session:
        use = await session.get_one(QuotaUse, "key:q")
        assert use.units == 2
        assert await session.get(ChargedWork, ("key:q", UUID(str(batch[0].tasks[0].id)))) is not None
