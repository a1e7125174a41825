"""The monitoring routes over HTTP: both dialects, every filter and order, and what they refuse."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text, update

from compute.db.session import Database
from compute.db.tables import ProviderCall, Task
from compute.tasks.ids import new_task_id
from tests.integration.api.conftest import Painter, wait_for
from tests.integration.rows import add, claim, release, settle, start

LISTS = ("/monitoring/tasks", "/monitoring/workflows")
NOW = datetime.now(UTC)


async def ask(api: httpx.AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    answer = await api.get(path, params=query)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def ids(api: httpx.AsyncClient, **query: Any) -> list[str]:
    return [item["id"] for item in (await ask(api, "/monitoring/tasks", **query))["items"]]


async def some(database: Database) -> list[Task]:
    """Twelve tasks an hour apart, the oldest first: of two tenants, types and zones; the first four have ended."""
    tasks = []
    for n in range(12):
        task = await add(
            database,
            created_at=NOW - timedelta(hours=20 - n),
            origin_tenant_id="acme" if n % 2 else None,
            task_type="EDITING" if n % 3 == 0 else "GENERATION",
            origin_zone="eu" if n % 4 == 0 else None,
            provider_type="FAL_STANDARD" if n == 5 else "LOCAL",
            queue="fal" if n == 5 else "inference",
        )
        tasks.append(task)
    for task in await claim(database, 4):
        await start(database, task)
        await settle(database, task)
    return tasks


async def test_of_nothing_there_is_nothing(api: httpx.AsyncClient) -> None:
    for path in LISTS:
        said = await ask(api, path)
        assert (said["items"], said["total"], said["page"], said["pages"]) == ([], 0, 1, 0)
    stats = await ask(api, "/monitoring/stats")
    assert (stats["total_tasks"], set(stats["by_status"].values()), stats["by_provider"]) == (0, {0}, {})
    workflows = await ask(api, "/monitoring/workflows/stats")
    assert (workflows["total_workflows"], workflows["avg_steps_per_workflow"]) == (0, 0.0)
    queues = await ask(api, "/monitoring/queues")
    assert [queue["name"] for queue in queues["queues"]] == ["image", "inference", "training"]
    assert (queues["total_pending"], queues["total_active"]) == (0, 0)


async def test_pages_come_newest_first_and_know_the_total(api: httpx.AsyncClient, database: Database) -> None:
    tasks = [str(task.id) for task in await some(database)][::-1]
    for page in (1, 2, 3):
        said = await ask(api, "/monitoring/tasks", page=page, page_size=5)
        assert [item["id"] for item in said["items"]] == tasks[5 * page - 5 : 5 * page]
        assert (said["total"], said["total_is_exact"], said["pages"], said["page_size"]) == (12, True, 3, 5)
    assert await ids(api, page=4, page_size=5) == []
    cursor = (await ask(api, "/monitoring/tasks", page_size=5))["next_cursor"]
    assert await ids(api, page_size=5, cursor=cursor) == tasks[5:10]


async def test_filters_may_be_combined(api: httpx.AsyncClient, database: Database) -> None:
    tasks = await some(database)
    for query, fits in (
        ({"origin_tenant_id": "acme"}, lambda n, _: n % 2),
        ({"task_type": "editing"}, lambda n, _: n % 3 == 0),
        ({"origin_zone": "eu", "task_type": "EDITING"}, lambda n, _: n % 12 == 0),
        ({"provider_type": "FAL_STANDARD"}, lambda n, _: n == 5),
        ({"provider_type": "LOCAL", "origin_instance": "test"}, lambda n, _: n != 5),
        ({"status": "completed"}, lambda _, ended: ended),
        ({"status": "PENDING", "origin_tenant_id": "acme"}, lambda n, ended: n % 2 and not ended),
        ({"created_after": (NOW - timedelta(hours=11)).isoformat()}, lambda n, _: n >= 9),
        ({"created_before": (NOW - timedelta(hours=18)).isoformat()}, lambda n, _: n < 2),
        (
            {"created_after": (NOW - timedelta(hours=15)).strftime("%Y-%m-%dT%H:%M:%SZ"), "origin_tenant_id": "acme"},
            lambda n, _: n % 2 and n >= 5,
        ),
    ):
        said = await ask(api, "/monitoring/tasks", **query)
        ended = {item["id"] for item in (await ask(api, "/monitoring/tasks", status="COMPLETED"))["items"]}
        expected = [str(task.id) for n, task in enumerate(tasks) if fits(n, str(task.id) in ended)]
        assert [item["id"] for item in said["items"]] == expected[::-1], query
        assert said["total"] == len(expected), query


async def test_every_order_is_the_order_asked_for(api: httpx.AsyncClient, database: Database) -> None:
    await some(database)
    schema = (await api.get(f"{str(api.base_url).removesuffix('/api/v1/')}/openapi.json")).json()
    parameters = schema["paths"]["/api/v1/monitoring/tasks"]["get"]["parameters"]
    sorts = next(one for one in parameters if one["name"] == "sort_by")["schema"]["enum"]
    assert {"created_at", "duration_ms", "status"} <= set(sorts)
    for sort in sorts:
        for order in ("asc", "desc"):
            items = (await ask(api, "/monitoring/tasks", sort_by=sort, sort_order=order))["items"]
            values = [item[sort] for item in items if item.get(sort) is not None]
            assert values == sorted(values, reverse=order == "desc"), (sort, order)
            assert len(items) == 12
    oldest = await ids(api, sort_order="asc", page_size=5, page=2)
    assert oldest == (await ids(api))[::-1][5:10]


async def test_a_search_finds_ids_in_every_spelling(api: httpx.AsyncClient, database: Database) -> None:
    task = await add(database, id=UUID("abcdef12-3456-7890-abcd-ef1234567890"))
    other = await add(database, id=UUID("abcdef12-9999-7890-abcd-ef1234567890"), origin_tenant_id="acme")
    await add(database)
    both = {str(task.id), str(other.id)}
    for search in ("abcdef12", "ABCDEF12", "task_abcdef12", "abcdef12-"):
        assert set(await ids(api, search=search)) == both
    for search in (str(task.id), f"task_{task.id.hex}", "abcdef12-3", "abcdef123"):
        assert await ids(api, search=search) == [str(task.id)]
    assert await ids(api, search="abcdef12", origin_tenant_id="acme") == [str(other.id)]
    assert await ids(api, search="abcdef12", sort_by="status", page_size=1, page=3) == []
    for nothing in ("ffffffff-ffff", "x%", "abcdef12_", "'; DROP"):
        assert await ids(api, search=nothing) == []


@pytest.mark.parametrize("path", LISTS)
async def test_a_bad_parameter_is_named(api: httpx.AsyncClient, path: str) -> None:
    for name, value, said in (
        ("sort_by", "colour", "created_at"),
        ("sort_by", "", "created_at"),
        ("sort_order", "up", "asc"),
        ("page", "0", "at least 1"),
        ("page", "1.5", "whole number"),
        ("page", "202", "first 10000 rows"),
        ("page_size", "201", "at most 200"),
        ("page_size", "-1", "at least 1"),
        ("status", "asleep", "PENDING"),
        ("created_after", "yesterday", "2026-01-31T12:00:00Z"),
        ("created_before", "0001-01-01T00:00:00+09:00", "2026-01-31T12:00:00Z"),
        ("created_before", "2026-02-30", "2026-01-31T12:00:00Z"),
        ("origin_instance", "", "empty"),
        ("origin_zone", "z" * 201, "200 characters"),
        ("origin_tenant_id", "", "empty"),
        ("search", "", "empty"),
        ("cursor", "nonsense", "X-Next-Cursor"),
        ("colour", "red", "unknown"),
    ):
        answer = await api.get(path, params={name: value})
        assert answer.status_code == 400, answer.text
        assert f"`{name}`" in answer.json()["detail"]
        assert said in answer.json()["detail"]


async def test_other_bad_parameters_are_named_too(api: httpx.AsyncClient) -> None:
    for path, query, said in (
        ("/monitoring/tasks", {"task_type": "DANCING"}, "GENERATION"),
        ("/monitoring/tasks", {"provider_type": "NOBODY"}, "FAL_STANDARD"),
        ("/monitoring/tasks", {"search": "a", "cursor": "x"}, "cursor"),
        ("/monitoring/tasks", {"sort_by": "status", "cursor": "x"}, "cursor"),
        ("/monitoring/stats", {"origin_zone": ""}, "origin_zone"),
        ("/monitoring/workflows/stats", {"origin_instance": ""}, "origin_instance"),
        ("/monitoring/queues", {"page": "1"}, "page"),
        ("/monitoring/tasks/x", {}, "task_id"),
        ("/monitoring/tasks/x/media", {}, "task_id"),
        ("/monitoring/workflows/x", {}, "workflow_id"),
    ):
        answer = await api.get(path, params=query)
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["detail"]


async def test_what_is_not_there_is_not_found(api: httpx.AsyncClient, database: Database) -> None:
    gone = await add(database)
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM tasks"))
    for path in (f"tasks/{gone.id}", f"tasks/task_{gone.id.hex}", f"tasks/{gone.id}/media", f"workflows/{gone.id}"):
        answer = await api.get(f"/monitoring/{path}")
        assert answer.status_code == 404
        spelled = gone.id.hex if "task_" in path else str(gone.id)
        assert spelled in answer.json()["detail"]


async def test_stats_count_what_filters_find(api: httpx.AsyncClient, database: Database) -> None:
    await some(database)
    stats = await ask(api, "/monitoring/stats")
    assert stats["total_tasks"] == 12
    assert {name: n for name, n in stats["by_status"].items() if n} == {"PENDING": 8, "COMPLETED": 4}
    assert stats["by_provider"] == {"LOCAL": 11, "FAL_STANDARD": 1}
    assert stats["by_task_type"] == {"EDITING": 4, "GENERATION": 8}
    assert (stats["tasks_last_hour"], stats["tasks_last_24h"]) == (0, 12)
    zone = await ask(api, "/monitoring/stats", origin_zone="eu", origin_instance="test")
    assert (zone["total_tasks"], zone["tasks_last_24h"]) == (3, 3)
    assert (await ask(api, "/monitoring/stats", origin_instance="elsewhere"))["total_tasks"] == 0


async def test_queues_have_both_sets_of_names(api: httpx.AsyncClient, database: Database) -> None:
    await some(database)
    (running, *_) = await claim(database, 3)
    await start(database, running)
    said = await ask(api, "/monitoring/queues")
    queues = {queue["name"]: queue for queue in said["queues"]}
    one = queues["inference"]
    assert (one["depth"], one["active_tasks"], one["reserved_tasks"]) == (4, 1, 2)
    assert (one["pending"], one["running"]) == (4, 1)
    assert one["tasks_completed_last_hour"] == 4
    assert one["avg_wait_time_ms"] == pytest.approx(1000 * 3600 * 17, rel=0.3)
    assert queues["fal"]["depth"] == 1
    since = (datetime.now(UTC) - NOW).total_seconds()
    assert queues["fal"]["oldest_waiting_seconds"] == pytest.approx(3600 * 15 + since, abs=120)
    assert (said["total_pending"], said["total_active"]) == (5, 1)


async def test_a_task_has_its_data_its_events_and_its_media_in_both_dialects(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, worker: Painter
) -> None:
    generation_id = str(uuid4())
    config = {"backend_generation_id": generation_id, "prompt_id": "p1", "backend_prediction_id": "no uuid"}
    body = {"task_type": "GENERATION", "prompt": "a hat", "width": 64, "height": 64, "steps": 1, "config": config}
    task = await wait_for(api, (await api.post("/tasks/", json=body)).json()["id"], "COMPLETED")
    said = await ask(api, f"/monitoring/tasks/{task['id']}")
    assert said["task_data"]["prompt"] == "a hat"
    assert said["task_data"]["result_image_path"] == task["result_image_path"]
    assert (said["status"], said["progress"], said["queue_name"]) == ("COMPLETED", 100, "inference")
    assert said["duration_ms"] > 0
    assert (said["is_resumed"], said["resume_attempt_count"], said["service_requests"]) == (False, 0, None)
    assert [event["status"] for event in said["events"]] == ["PENDING", "QUEUED", "EXECUTING", "COMPLETED"]
    last = said["events"][-1]
    assert (last["backend_generation_id"], last["backend_prediction_id"]) == (generation_id, None)
    assert (last["prompt_id"], last["result_image_path"]) == ("p1", task["result_image_path"])

    digits = task["id"].replace("-", "")
    quick = await ask(api, f"/monitoring/tasks/task_{digits}")
    assert (quick["id"], quick["status"], quick["progress"]) == (f"task_{digits}", "completed", 1.0)

    body = {"task_type": "REFINE", "base_image_url": task["result_image_path"], "upscale_enabled": False}
    refined = await wait_for(api, (await api.post("/tasks/", json=body)).json()["id"], "COMPLETED")
    media = await ask(api, f"/monitoring/tasks/{refined['id']}/media")
    assert [(item["name"], item["path"], item["media_type"]) for item in media["inputs"]] == [
        ("base_image", task["result_image_path"], "image")
    ]
    assert [(item["name"], item["path"]) for item in media["outputs"]] == [
        ("result_image", refined["result_image_path"])
    ]
    for item in (*media["inputs"], *media["outputs"]):
        assert (await anonymous.get(item["url"])).headers["content-type"].startswith("image/")
    quick = await ask(api, f"/monitoring/tasks/task_{refined['id'].replace('-', '')}/media")
    assert quick["task_id"].startswith("task_")
    assert (await api.post(f"/tasks/{refined['id']}/cleanup")).status_code == 200
    media = await ask(api, f"/monitoring/tasks/{refined['id']}/media")
    assert (media["inputs"], media["outputs"]) == ([], [])


async def test_a_task_that_was_taken_up_again_says_so(api: httpx.AsyncClient, database: Database) -> None:
    task = await add(database)
    for _ in range(2):
        (claimed,) = await claim(database)
        await start(database, claimed)
        await release(database, claimed)
    await claim(database)
    said = await ask(api, f"/monitoring/tasks/{task.id}")
    assert (said["is_resumed"], said["resume_attempt_count"]) == (True, 2)
    assert said["last_resume_attempt"] == said["events"][-1]["timestamp"]


async def test_requests_to_a_provider_are_shown(api: httpx.AsyncClient, database: Database) -> None:
    task = await add(database, provider_type="FAL_STANDARD", queue="fal")
    async with database.transaction() as session:
        session.add(
            ProviderCall(
                id=new_task_id(),
                task_id=task.id,
                part="image",
                attempt=1,
                provider="FAL_STANDARD",
                vendor="fal",
                account="00",
                endpoint="queue.fal.run",
                state="ACCEPTED",
                requests=[{"method": "POST", "status": 200}],
            )
        )
    (request,) = (await ask(api, f"/monitoring/tasks/{task.id}"))["service_requests"]
    assert (request["method"], request["part"]) == ("POST", "image")


async def test_workflows_are_listed_searched_and_shown(api: httpx.AsyncClient, database: Database) -> None:
    made = []
    for n, name in enumerate(("catalogue_1", "catalogue%2", "shoot")):
        steps = [
            {"id": "second", "task_type": "REFINE", "config": {}, "input_mappings": [
                {"from_step": "first", "from_field": "result_image_path", "to_field": "base_image_url"}]},
            {"id": "first", "task_type": "GENERATION", "config": {"prompt": "a hat", "width": 64, "height": 64}},
        ]  # fmt: skip
        body = {"name": name, "steps": steps, "origin_zone": "eu" if n else None}
        answer = await api.post("/workflows/", json=body, params={"start": "false"})
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
    said = await ask(api, "/monitoring/workflows")
    assert [item["id"] for item in said["items"]] == made[::-1]
    first = said["items"][0]
    assert (first["total_steps"], first["completed_steps"], first["current_step"]) == (2, 0, "second")
    assert (first["progress"], first["has_error"], said["total"]) == (0.0, False, 3)

    async def found(**query: Any) -> list[str]:
        return [item["id"] for item in (await ask(api, "/monitoring/workflows", **query))["items"]]

    assert await found(search="catalogue") == made[1::-1]
    assert await found(search="catalogue%", sort_by="name") == [made[1]]
    assert await found(search=made[2]) == [made[2]]
    assert await found(search=f"wf_{made[2].replace('-', '')}") == [made[2]]
    assert await found(origin_zone="eu") == made[:0:-1]
    assert await found(sort_by="name", sort_order="asc") == [made[1], made[0], made[2]]
    assert await found(sort_order="asc", page_size=2) == made[:2]

    detail = await ask(api, f"/monitoring/workflows/{made[0]}")
    assert [step["step_id"] for step in detail["steps"]] == ["first", "second"]
    assert detail["steps"][1]["dependencies"] == ["first"]
    quick = await ask(api, f"/monitoring/workflows/wf_{made[0].replace('-', '')}")
    assert (quick["status"], quick["id"], quick["steps"][0]["status"]) == (
        "pending",
        f"wf_{made[0].replace('-', '')}",
        "pending",
    )
    stats = await ask(api, "/monitoring/workflows/stats")
    assert (stats["total_workflows"], stats["by_status"]["PENDING"]) == (3, 3)
    assert (stats["avg_steps_per_workflow"], stats["workflows_last_hour"], stats["workflows_last_24h"]) == (2.0, 3, 3)
    assert (await ask(api, "/monitoring/workflows/stats", origin_zone="eu"))["total_workflows"] == 2


async def test_what_was_cleaned_up_is_neither_listed_nor_counted(api: httpx.AsyncClient, database: Database) -> None:
    tasks = await some(database)
    async with database.transaction() as session:
        await session.execute(update(Task).where(Task.id == tasks[1].id).values(deleted_at=NOW))
    assert str(tasks[1].id) not in await ids(api)
    assert (await ask(api, "/monitoring/stats"))["total_tasks"] == 11
    assert await ids(api, search=str(tasks[1].id)) == []
    assert (await ask(api, f"/monitoring/tasks/{tasks[1].id}"))["deleted_at"] is not None
