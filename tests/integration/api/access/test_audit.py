"""The audit log: every change is in it soon, without bodies and secrets, and nobody waits for it."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text, update

from compute.api.access.audit import AuditLog, Entry
from compute.api.access.scopes import READING
from compute.db.session import Database
from compute.db.tables import AuditEntry
from compute.retention.tidy import tidy
from compute.tasks.ids import new_task_id
from tests.integration.absent import SHORT
from tests.integration.api.access.conftest import SMALL, GiveKey, bearer
from tests.integration.api.access.scene import MINE, client, early_in_a_minute, made
from tests.integration.api.http.routes import all_routes
from tests.integration.api.images.test_storage import picture
from tests.integration.lossy import LossyWire
from tests.patience import PATIENCE


async def entries(admin: httpx.AsyncClient, least: int, **filters: str) -> list[dict[str, Any]]:
    """The entries that match, newest first, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await admin.get("/admin/audit", params=filters)
            assert answer.status_code == 200, answer.text
            found: list[dict[str, Any]] = answer.json()["entries"]
            if len(found) >= least:
                return found
            await asyncio.sleep(0.1)


async def test_an_entry_says_who_did_what_to_what_and_when(
    base_url: str, admin: httpx.AsyncClient, give: GiveKey
) -> None:
    key = await give(name="Shop", tenant=MINE, scope="operate")
    before = datetime.now(UTC)
    async with client(base_url, key["key"]) as api:
        sent = {"X-Request-Id": "order-17", "X-Forwarded-For": "203.0.113.9"}
        answer = await api.post("/tasks/", json=SMALL | {"prompt": "a secret dress"}, headers=sent)
        task = answer.json()["id"]
        await api.post(f"/tasks/{task}/cancel")
        await api.post(f"/tasks/{task}/cancel")
        bulk = await made(api, "/tasks/bulk", json={"tasks": [SMALL, SMALL]})
        stored = await made(api, "/storage/images", files={"file": ("a.png", picture())})
        await api.get("/tasks/")
        found = await entries(admin, 5, key_id=key["id"])
    assert [one["operation"] for one in reversed(found)] == [
        "create_task",
        "cancel_task",
        "cancel_task",
        "create_tasks",
        "upload_image",
    ]
    first = found[-1]
    assert (first["request_id"], first["status"], first["objects"]) == ("order-17", 201, [task])
    assert (first["key_name"], first["tenant"], first["forwarded_for"]) == ("Shop", MINE, "203.0.113.9")
    # A server that believes a proxy on loopback takes what that says for the client's.
    assert first["address"] in ("127.0.0.1", "203.0.113.9")
    assert before <= datetime.fromisoformat(first["created_at"]) <= datetime.now(UTC)
    assert [one["status"] for one in found[2:4]] == [409, 200]
    assert found[1]["objects"] == [one["id"] for one in bulk]
    assert found[0]["objects"] == [stored["path"]]
    assert "secret dress" not in str(found)
    assert key["key"] not in str(found)


async def test_every_change_and_every_request_of_an_administrator_is_in_it(admin: httpx.AsyncClient) -> None:
    """Whatever the answer is: the walk sends nothing that a route could take."""
    walked = []
    for number, route in enumerate(all_routes()):
        path = route.path.removeprefix("/api/v1")
        if path == route.path or (route.method in READING and not path.startswith("/admin/")):
            continue
        request_id = f"walk-{number}"
        answer = await admin.request(route.method, path, headers={"X-Request-Id": request_id})
        walked.append((request_id, route.template, route.method, answer.status_code))
    assert len(walked) > 30
    found = {one["request_id"]: one for one in await entries(admin, len(walked))}
    document = (await admin.get(str(admin.base_url).removesuffix("/api/v1/") + "/openapi.json")).json()
    for request_id, template, method, status in walked:
        assert found[request_id]["status"] == status
        named = document["paths"][template][method.lower()]["operationId"]
        assert found[request_id]["operation"] in (named, f"{method} {found[request_id]['operation'].partition(' ')[2]}")


async def test_refusals_of_known_keys_are_in_it_and_those_of_strangers_are_not(
    base_url: str, admin: httpx.AsyncClient, give: GiveKey, database: Database
) -> None:
    key = await give(scope="read", limits={"requests_per_minute": 3})
    async with client(base_url, key["key"]) as api:
        for _ in range(6):
            await api.post("/tasks/", json=SMALL)
        for wrong in ("x", "ck_" + "0" * 32 + "_" + "x" * 43):
            assert (await api.post("/tasks/", json=SMALL, headers=bearer(wrong))).status_code == 401
    found = await entries(admin, 1, key_id=key["id"])
    assert {(one["operation"], one["status"]) for one in found} == {("create_task", 403)}
    async with database.transaction() as session:
        names = set(await session.scalars(select(AuditEntry.key_name)))
    assert names == {"ADMIN_API_KEY", "a team"}


async def test_who_tried_what_is_found_by_the_operation_and_by_the_id_in_either_spelling(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, give: GiveKey, caplog: pytest.LogCaptureFixture
) -> None:
    key = await give(scope="read")
    caplog.set_level(logging.INFO, "compute.api.access.audit")
    task = (await api.post("/tasks/", json=SMALL)).json()["id"]
    quickstart = f"task_{task.replace('-', '')}"
    for spelling in (task, quickstart):
        refused = await api.post(f"/tasks/{spelling}/cancel", headers=bearer(key["key"]))
        assert refused.status_code == 403
    assert (await api.post(f"/tasks/{quickstart}/cancel")).status_code == 200
    found = await entries(admin, 3, operation="cancel_task")
    assert [(one["status"], one["objects"]) for one in reversed(found)] == [(403, [task]), (403, [task]), (200, [task])]
    # One search in the logs for a task's id tells of it, too.
    told = [one.getMessage() for one in caplog.records if task in one.getMessage()]
    assert told == [f"cancel_task of {task} was answered {status}" for status in (403, 403, 200)]


async def test_what_a_key_may_not_do_counts_as_a_request_and_is_told_how_it_stands(
    base_url: str, admin: httpx.AsyncClient, give: GiveKey
) -> None:
    key = await give(scope="read", tenant=MINE, limits={"requests_per_minute": 4})
    async with client(base_url, key["key"]) as api:
        await early_in_a_minute()
        asked = [("POST", "/tasks/"), ("GET", "/admin/keys"), ("GET", "/providers"), ("GET", "/nothing")] * 2
        answers = [await api.request(method, path) for method, path in asked]
    assert [answer.status_code for answer in answers] == [403, 403, 403, 404] + [429] * 4
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"4"}
    assert [int(answer.headers["x-ratelimit-remaining"]) for answer in answers] == [3, 2, 1, 0] + [0] * 4
    # What was refused because there were too many is not in it.
    assert len(await entries(admin, 2, key_id=key["id"])) == 2


async def test_an_address_without_a_route_is_in_it_as_far_as_there_is_room(
    base_url: str, admin: httpx.AsyncClient, give: GiveKey
) -> None:
    key = await give(scope="operate")
    async with client(base_url, key["key"]) as api:
        assert (await api.post("/" + "x" * 8_000)).status_code == 404
        assert (await api.delete("/tasks/" + "x" * 8_000)).status_code in (400, 404)
    for entry in await entries(admin, 2, key_id=key["id"]):
        assert len(entry["operation"]) <= 256
        assert all(len(one) <= 256 for one in entry["objects"])


async def test_a_failure_of_ours_is_in_it_as_one(admin: httpx.AsyncClient, database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE tenants RENAME TO elsewhere"))
    answer = await admin.put(f"/admin/tenants/{MINE}", json={"tasks_per_day": 1})
    assert answer.status_code == 500
    [failed] = [one for one in await entries(admin, 1) if one["objects"] == [MINE]]
    assert failed["status"] == 500


async def test_filters_and_pages(admin: httpx.AsyncClient, api: httpx.AsyncClient, give: GiveKey) -> None:
    for _ in range(5):
        await api.post("/tasks/", json=SMALL)
    await entries(admin, 5, operation="create_task")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2", "operation": "create_task"} | ({"cursor": cursor} if cursor else {})
        page = (await admin.get("/admin/audit", params=params)).json()
        seen += [one["id"] for one in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5
    for wrong in ({"key_id": "nonsense"}, {"limit": "0"}, {"cursor": "x"}, {"name": "x"}):
        assert (await admin.get("/admin/audit", params=wrong)).status_code == 400


def entry(number: int) -> Entry:
    now = datetime.now(UTC)
    return Entry(new_task_id(), now, f"r{number}", None, "API_KEY", None, "127.0.0.1", None, "create_task", [], 201)


async def test_entries_wait_for_the_database_and_what_finds_no_room_is_in_the_processs_own_log(
    database_url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with LossyWire(database_url).open() as wire:
        away = Database(wire.url, patience=SHORT)
        log = AuditLog(away, most_waiting=3)
        writing = asyncio.create_task(log.run())
        wire.hush(deaf=True)
        with caplog.at_level(logging.WARNING):
            for number in range(5):
                log.note(entry(number))
        assert [number for number in range(5) if f"'r{number}'" in caplog.text] == [3, 4]
        async with asyncio.timeout(PATIENCE):
            while "3 entries of the audit log wait" not in caplog.text:
                await asyncio.sleep(0.05)
        wire.deaf = False
        async with asyncio.timeout(PATIENCE):
            while await _count(database) < 3:
                await asyncio.sleep(0.1)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert await _count(database) == 3
        await away.close()


async def test_what_waits_is_written_in_the_end(database: Database) -> None:
    log = AuditLog(database, stop_seconds=PATIENCE)
    log.note(entry(1))
    await log.close()
    assert await _count(database) == 1


async def test_of_refusals_a_key_has_so_many_entries_in_a_minute_and_the_processs_own_log_counts_the_others(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(database, most_refusals=3)
    for number in range(8):
        log.note(replace(entry(number), key_name="loud", status=(403, 404, 413, 422)[number % 4]))
        log.note(replace(entry(number), key_name="loud", status=(201, 503)[number % 2]))
    log.note(replace(entry(8), key_name="quiet", status=403))
    with caplog.at_level(logging.WARNING):
        await log.close()
    assert await _count(database) == 3 + 8 + 1
    assert "5 refused requests of the key loud" in caplog.text
    assert "quiet" not in caplog.text


async def test_a_batch_that_is_written_twice_is_there_once(database: Database) -> None:
    log, again = AuditLog(database), AuditLog(database)
    one = entry(1)
    log.note(one)
    again.note(one)
    await log.flush()
    await again.flush()
    assert await _count(database) == 1


async def test_old_entries_are_forgotten(database: Database) -> None:
    log = AuditLog(database)
    for number in range(3):
        log.note(entry(number))
    await log.flush()
    async with database.transaction() as session:
        old = update(AuditEntry).where(AuditEntry.request_id != "r2")
        await session.execute(old.values(created_at=func.now() - timedelta(days=31)))
    await tidy(database)
    assert await _count(database) == 3
    await tidy(database, keep_audit=timedelta(days=30))
    assert await _count(database) == 1


async def _count(database: Database) -> int:
    async with database.transaction() as session:
        return int(await session.scalar(select(func.count()).select_from(AuditEntry)) or 0)
