"""Keys that were given out: the routes that they open, their revocation, expiry and rotation, and their cache."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event, func, select, text, update

from compute.api.access import keys
from compute.api.access.ring import KeyRing
from compute.api.access.scopes import scope_of
from compute.api.access.tokens import new_secret, token_text
from compute.db.session import Database, libpq_url
from compute.db.tables import ApiKey, Task
from compute.errors import ExpiredKey, Unavailable
from compute.schemas.admin.keys import ApiKeyUpdate, KeyScope
from compute.tasks.ids import new_task_id
from tests.integration.absent import SHORT
from tests.integration.api.access.conftest import SMALL, GiveKey, bearer
from tests.integration.api.http.routes import all_routes
from tests.integration.lossy import LossyWire
from tests.patience import PATIENCE

KNOWN_SECONDS = 4.0
"""After which no process lets in who sends a key that was revoked, changed or rotated."""


async def status_with(api: httpx.AsyncClient, key: str, path: str = "/tasks/") -> tuple[int, str | None]:
    answer = await api.get(path, headers=bearer(key))
    return answer.status_code, answer.json().get("code") if answer.status_code >= 400 else None


async def until(api: httpx.AsyncClient, key: str, wanted: tuple[int, str | None]) -> float:
    """Send requests until a key is answered like this. Returns when the last that was let in was sent."""
    let_in = -inf
    async with asyncio.timeout(PATIENCE):
        while True:
            sent = time.monotonic()
            answer = await status_with(api, key)
            if answer == wanted:
                return let_in
            if answer == (200, None):
                let_in = sent
            await asyncio.sleep(0.05)


async def test_who_has_a_key_is_told_what_it_is(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, give: GiveKey
) -> None:
    of_settings = {"id": None, "tenant": None}
    assert (await api.get("/key")).json() == of_settings | {"name": "API_KEY", "scope": "operate"}
    assert (await admin.get("/key")).json() == of_settings | {"name": "ADMIN_API_KEY", "scope": "admin"}
    made = await give(name="Shop", scope="read", tenant="shop")
    expected = {"id": made["id"], "name": "Shop", "scope": "read", "tenant": "shop"}
    assert (await api.get("/key", headers=bearer(made["key"]))).json() == expected


async def test_a_key_works_at_once_and_its_text_is_told_once(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, give: GiveKey, database_url: str
) -> None:
    made = await give(name="Shop")
    assert re.fullmatch(r"ck_[0-9a-f]{32}_[0-9A-Za-z]{43}", made["key"])
    assert made["key"].startswith(f"{made['prefix']}_")
    assert await status_with(api, made["key"]) == (200, None)
    for seen in (await admin.get(f"/admin/keys/{made['id']}"), await admin.get("/admin/keys")):
        assert seen.status_code == 200
        assert made["key"] not in seen.text
        assert made["prefix"] in seen.text
    secret = made["key"].rpartition("_")[2]
    with psycopg.connect(libpq_url(database_url)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert tables
        for (table,) in tables:
            counting = sql.SQL("SELECT count(*) FROM {} AS one WHERE strpos(one::text, %s) > 0")
            found = connection.execute(counting.format(sql.Identifier(table)), [secret]).fetchone()
            assert found == (0,), table


async def test_a_repeated_creation_does_not_tell_the_key_again(admin: httpx.AsyncClient) -> None:
    first, second = [
        await admin.post("/admin/keys", json={"name": "Shop"}, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    assert first.json()["key"]
    assert second.json() == first.json() | {"key": None}


@pytest.mark.parametrize("scope", KeyScope)
async def test_each_route_is_open_to_its_scope_and_those_above(
    api: httpx.AsyncClient, give: GiveKey, scope: KeyScope
) -> None:
    order = list(KeyScope)
    key = (await give(scope=scope))["key"]
    walked = 0
    for route in all_routes():
        path = route.path.removeprefix("/api/v1")
        if path == route.path:
            continue
        needed = scope_of(route.method, path, route.template.removeprefix("/api/v1"))
        answer = await api.request(route.method, path, headers=bearer(key))
        allowed = order.index(needed) <= order.index(scope)
        assert (answer.status_code == 403) is not allowed, (route.method, path, answer.text)
        if not allowed:
            assert f"`{needed}`" in answer.text or route.method == "HEAD"
        walked += 1
    assert walked > 50


async def test_a_revoked_key_stops_within_seconds_and_its_holder_is_told_why(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, give: GiveKey
) -> None:
    made = await give()
    assert await status_with(api, made["key"]) == (200, None)
    revoked = await admin.delete(f"/admin/keys/{made['id']}")
    answered = time.monotonic()
    assert revoked.json()["revoked_at"] is not None
    # Not when it was refused first: a machine that stands still delays that, and lets nobody in who sends later.
    assert await until(api, made["key"], (401, "KEY_REVOKED")) < answered + KNOWN_SECONDS
    # Whoever has not the secret cannot tell it from a key that never was.
    forged = f"{made['prefix']}_{'x' * 43}"
    unknown = token_text(new_task_id(), "x" * 43)
    answers = [await api.get("/tasks/", headers=bearer(key)) for key in (forged, unknown, "nonsense")]
    assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
    assert answers[0].json()["code"] == "UNAUTHORIZED"
    again = await admin.delete(f"/admin/keys/{made['id']}")
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]
    for method, path, body in [("PATCH", "", {"name": "x"}), ("POST", "/rotate", {})]:
        refused = await admin.request(method, f"/admin/keys/{made['id']}{path}", json=body)
        assert refused.status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("DELETE", "", None), ("POST", "/rotate", {"grace_seconds": 0})],
    ids=["revoked", "rotated"],
)
async def test_an_open_event_stream_ends_when_its_key_is_of_no_use_any_more(
    api: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    give: GiveKey,
    database: Database,
    method: str,
    path: str,
    body: dict[str, int] | None,
) -> None:
    made = await give()
    task = (await api.post("/tasks/", json=SMALL)).json()["id"]
    heard: list[str] = []

    async def listen() -> None:
        async with api.stream("GET", f"/tasks/{task}/events", headers=bearer(made["key"])) as stream:
            assert stream.status_code == 200
            async for line in stream.aiter_lines():
                heard.append(line)  # noqa: PERF401 - it is looked at meanwhile

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(PATIENCE):
        while not heard:
            assert not listening.done()
            await asyncio.sleep(0.02)
    await admin.request(method, f"/admin/keys/{made['id']}{path}", json=body)
    percent = 0.0
    async with asyncio.timeout(PATIENCE):
        while not listening.done():
            percent += 0.01
            async with database.transaction() as session:
                running = update(Task).where(Task.id == UUID(task))
                await session.execute(running.values(status="EXECUTING", progress=percent))
            await asyncio.sleep(0.1)
    await listening
    assert not [line for line in heard if line.startswith("event: ") and line.split()[1] in ("completed", "cancelled")]


async def test_an_expired_key_says_so(api: httpx.AsyncClient, give: GiveKey, database: Database) -> None:
    made = await give(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert await status_with(api, made["key"]) == (200, None)
    async with database.transaction() as session:
        await session.execute(update(ApiKey).values(expires_at=func.now() - timedelta(seconds=1)))
    await until(api, made["key"], (401, "KEY_EXPIRED"))


async def test_a_key_expires_when_it_was_said_though_it_is_read_before(database: Database, give: GiveKey) -> None:
    now = 1000.0
    made = await give(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    ring = KeyRing(database, fresh_seconds=inf, believed_seconds=inf, clock=lambda: now)
    assert await ring.caller(made["key"]) is not None
    now += timedelta(hours=1).total_seconds()
    with pytest.raises(ExpiredKey):
        await ring.caller(made["key"])
    await ring.close()


async def test_after_a_rotation_both_secrets_work_for_as_long_as_was_said(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, give: GiveKey
) -> None:
    made = await give()
    assert await status_with(api, made["key"]) == (200, None)
    rotated = (await admin.post(f"/admin/keys/{made['id']}/rotate", json={"grace_seconds": 60})).json()
    assert rotated["key"] != made["key"]
    assert rotated["previous_until"] is not None
    await until(api, rotated["key"], (200, None))
    assert await status_with(api, made["key"]) == (200, None)
    # What was promised to the first is kept, unless it is said that it may end.
    again = await admin.post(f"/admin/keys/{made['id']}/rotate", json={"grace_seconds": 60})
    assert (again.status_code, "end_previous" in again.json()["detail"]) == (409, True)
    assert await status_with(api, made["key"]) == (200, None)
    ending = {"grace_seconds": 60, "end_previous": True}
    third = (await admin.post(f"/admin/keys/{made['id']}/rotate", json=ending)).json()
    await until(api, third["key"], (200, None))
    await until(api, made["key"], (401, "UNAUTHORIZED"))
    assert await status_with(api, rotated["key"]) == (200, None)
    last = (await admin.post(f"/admin/keys/{made['id']}/rotate", json={"grace_seconds": 0})).json()
    await until(api, last["key"], (200, None))
    for old in (made["key"], rotated["key"], third["key"]):
        await until(api, old, (401, "UNAUTHORIZED"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "\u200b"}, "name"),
        ({"name": "a", "scope": "root"}, "scope"),
        ({"name": "a", "scope": "admin", "tenant": "one"}, "scope"),
        ({"name": "a", "tenant": "default"}, "tenant"),
        ({"name": "a", "tenant": "two words"}, "tenant"),
        ({"name": "a", "tenant": "x" * 65}, "tenant"),
        ({"name": "a", "tenant": "a/b"}, "tenant"),
        ({"name": "a", "tenant": ".."}, "tenant"),
        ({"name": "a", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "a", "expires_at": "2120-01-01T00:00:00"}, "expires_at"),
        ({"name": "a", "limits": {"requests_per_minute": 0}}, "requests_per_minute"),
        ({"name": "a", "limits": {"requests": 1}}, "requests"),
        ({"name": "a", "key": "ck_mine"}, "key"),
    ],
)
async def test_a_faulty_request_for_a_key_names_the_field(
    admin: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await admin.post("/admin/keys", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"][-1] == field


async def test_changes_are_known_and_null_takes_an_expiry_away(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, give: GiveKey
) -> None:
    made = await give(scope="submit", expires_at="2120-01-01T00:00:00Z")
    path = f"/admin/keys/{made['id']}"
    changed = await admin.patch(path, json={"scope": "read", "expires_at": None, "limits": {"tasks_per_day": 5}})
    assert (changed.json()["scope"], changed.json()["expires_at"]) == ("read", None)
    assert changed.json()["limits"]["tasks_per_day"] == 5
    async with asyncio.timeout(PATIENCE):
        while (await api.post("/tasks/", json=SMALL, headers=bearer(made["key"]))).status_code != 403:
            await asyncio.sleep(0.05)
    assert (await admin.patch(path, json={"name": None})).status_code == 422
    assert (await admin.patch(f"/admin/keys/{new_task_id()}", json={"name": "x"})).status_code == 404
    assert (await admin.patch("/admin/keys/nonsense", json={"name": "x"})).status_code == 400


async def test_the_keys_of_the_settings_go_on_to_work(api: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    assert (await api.get("/tasks/")).status_code == 200
    assert (await api.get("/admin/keys")).status_code == 403
    assert (await admin.get("/tasks/")).status_code == 200
    assert (await admin.get("/admin/keys")).json() == {"keys": [], "next_cursor": None}


async def test_when_a_key_was_used_is_noted(database: Database, admin: httpx.AsyncClient, give: GiveKey) -> None:
    made = await give()
    ring = KeyRing(database)
    assert await ring.caller(made["key"]) is not None
    assert (await admin.get(f"/admin/keys/{made['id']}")).json()["last_used_at"] is None
    await ring.note()
    assert (await admin.get(f"/admin/keys/{made['id']}")).json()["last_used_at"] is not None
    await ring.close()


class TestRing:
    @pytest.fixture
    def counted(self, database: Database) -> list[str]:
        """The statements that were sent."""
        statements: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            statements.append(statement)

        event.listen(database.engine.sync_engine, "before_cursor_execute", note)
        return statements

    async def test_a_key_in_use_costs_no_query_a_request(
        self, database: Database, give: GiveKey, counted: list[str]
    ) -> None:
        key = (await give())["key"]
        ring = KeyRing(database, fresh_seconds=PATIENCE, believed_seconds=PATIENCE)
        for _ in range(1000):
            assert await ring.caller(key) is not None
        assert len([one for one in counted if "api_keys" in one]) == 1
        await ring.close()

    async def test_a_thousand_wrong_keys_at_once_cost_a_few_queries_and_leave_nothing(
        self, database: Database, counted: list[str]
    ) -> None:
        ring = KeyRing(database)
        wrong = [token_text(new_task_id(), new_secret()[0]) for _ in range(1500)]
        malformed = ["ck_", "ck_" + "0" * 100_000, "ck_\u00e4", f"ck_{'0' * 32}_{'x' * 42}", "x" * 1_000_000]
        found = await asyncio.gather(*(ring.caller(key) for key in [*wrong, *malformed]))
        assert set(found) == {None}
        assert len([one for one in counted if "api_keys" in one]) <= 5
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT count(*) FROM api_keys")) == 0
        await ring.close()

    async def test_without_the_database_a_known_key_works_for_seconds_and_then_is_refused_as_unavailable(
        self, database_url: str, give: GiveKey
    ) -> None:
        key = (await give())["key"]
        async with LossyWire(database_url).open() as wire:
            database = Database(wire.url, patience=SHORT)
            now = 1000.0
            ring = KeyRing(database, clock=lambda: now)
            assert await ring.caller(key) is not None
            wire.hush(deaf=True)
            now += KNOWN_SECONDS - 0.5
            assert await ring.caller(key) is not None
            now += 0.5
            with pytest.raises(Unavailable):
                await ring.caller(key)
            wire.deaf = False

            async def works() -> bool:
                try:
                    return await ring.caller(key) is not None
                except Unavailable:
                    return False

            async with asyncio.timeout(PATIENCE):
                while not await works():
                    await asyncio.sleep(0.05)
            await ring.close()
            await database.close()


async def test_the_times_of_a_key_are_those_of_the_database(database: Database, give: GiveKey) -> None:
    """The machine of a process may be slow by more than a period of grace."""
    made = await give()
    async with database.transaction() as session:
        now = await session.scalar(select(func.now()))
        row, _ = await keys.rotate(session, UUID(made["id"]), 300)
        assert (row.updated_at, row.previous_until) == (now, now + timedelta(seconds=300))
        assert (await keys.update(session, row.id, ApiKeyUpdate(name="another"))).updated_at == now
        assert (await keys.revoke(session, row.id)).revoked_at == now


async def test_no_cache_keeps_an_answer_with_a_secret(admin: httpx.AsyncClient) -> None:
    made = await admin.post("/admin/keys", json={"name": "a"})
    rotated = await admin.post(f"/admin/keys/{made.json()['id']}/rotate", json={})
    for answer in (made, rotated):
        assert answer.json()["key"].startswith("ck_")
        assert answer.headers["cache-control"] == "no-store"
