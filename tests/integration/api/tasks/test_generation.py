import asyncio
import base64
import io
import json
from uuid import UUID

import httpx
import pytest
from PIL import Image
from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import WebhookDelivery
from compute.settings import Settings
from compute.storage.factory import open_store
from tests.integration.api.conftest import Painter, wait_for
from tests.patience import PATIENCE

SMALL = {"width": 64, "height": 32, "steps": 2}


async def post(api: httpx.AsyncClient, path: str = "/tasks/", **body: object) -> dict:
    answer = await api.post(path, json={"prompt": "a red dress", **SMALL, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_quick_start_task_runs_and_its_images_download_without_a_key(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, worker: Painter
) -> None:
    created = await post(api, "/tasks/generation", num_outputs=3, seed=7, negative_prompt="blurry", guidance_scale=7.5)
    assert created["status"] == "pending"
    assert created["type"] == "generation"
    assert created["id"].startswith("task_")

    task = await wait_for(api, created["id"], "completed")
    assert task["progress"] == 1.0
    images = task["output"]["images"]
    assert [image["seed"] for image in images] == [7, 8, 9]
    pictures = [await anonymous.get(image["url"]) for image in images]
    assert all(answer.headers["content-type"] == "image/png" for answer in pictures)
    assert len({answer.content for answer in pictures}) == 3
    assert Image.open(io.BytesIO(pictures[0].content)).size == (64, 32)
    assert [request.negative_prompt for request in worker.requests] == ["blurry"] * 3
    assert worker.requests[0].true_cfg_scale > 1


async def test_canonical_task_runs_and_its_image_is_in_storage(api: httpx.AsyncClient, worker: Painter) -> None:
    created = await post(api, task_type="GENERATION", seed=3, origin_instance="shop", origin_reference="order-1")
    assert created["status"] == "PENDING"
    assert UUID(created["id"])
    assert created["progress"] == 0

    task = await wait_for(api, created["id"], "COMPLETED")
    assert task["progress"] == 100
    assert task["result_image_path"].startswith(f"generations/{created['id']}/")
    assert task["metadata"]["model"] == "painter"
    assert task["metadata"]["timing_ms"] >= 0
    assert task["executor_instance"] == "painter#1"
    picture = await api.get(f"/storage/images/{task['result_image_path']}")
    assert picture.status_code == 200
    assert Image.open(io.BytesIO(picture.content)).size == (64, 32)


async def test_the_spelling_of_the_id_chooses_the_dialect(api: httpx.AsyncClient) -> None:
    created = await post(api)
    uuid = created["id"]
    quick = f"task_{UUID(uuid).hex}"
    for path in ("/tasks", "/tasks/generation"):
        assert (await api.get(f"{path}/{uuid}")).json()["status"] == "PENDING"
        assert (await api.get(f"{path}/{quick}")).json()["status"] == "pending"
    assert (await api.post(f"/tasks/{quick}/cancel")).json() == {
        **(await api.get(f"/tasks/{quick}")).json(),
        "status": "cancelled",
    }


async def test_a_canonical_body_at_the_quick_start_door_gets_a_canonical_answer(api: httpx.AsyncClient) -> None:
    assert (await post(api, "/tasks/generation", task_type="GENERATION"))["status"] == "PENDING"
    assert (await post(api, "/tasks/", type="generation"))["status"] == "pending"


async def test_the_same_seed_gives_the_same_bytes_and_a_missing_seed_is_chosen_once(
    api: httpx.AsyncClient, worker: Painter
) -> None:
    tasks = [await post(api, seed=5), await post(api, seed=5), await post(api)]
    done = [await wait_for(api, task["id"], "COMPLETED") for task in tasks]
    pictures = [(await api.get(f"/storage/images/{task['result_image_path']}")).content for task in done]
    assert pictures[0] == pictures[1]
    assert isinstance(tasks[2]["seed"], int)
    assert tasks[2]["seed"] == done[2]["seed"]


async def test_a_reference_image_is_taken_in_once_and_reaches_the_model(
    api: httpx.AsyncClient, worker: Painter, settings: Settings
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "teal").save(buffer, "JPEG")
    stored = (await api.post("/storage/images/refs/teal.jpg", files={"file": ("x.jpg", buffer.getvalue())})).json()
    by_path = await post(api, reference_image_url=stored["path"], reference_image_strength=40)
    by_alias = await post(api, "/tasks/generation", input_image_url=stored["url"], reference_image_strength=0.4)
    await wait_for(api, by_path["id"], "COMPLETED")
    await wait_for(api, by_alias["id"], "completed")
    assert [request.strength for request in worker.requests] == pytest.approx([0.6, 0.6])
    assert [request.image.size for request in worker.requests if request.image] == [(20, 10)] * 2


async def test_events_follow_a_task_to_its_end(api: httpx.AsyncClient, worker: Painter) -> None:
    worker.seconds_per_step = 0.1
    created = await post(api, steps=100, seed=1)
    events: list[tuple[str, dict]] = []
    async with api.stream("GET", f"/tasks/{created['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
                if name == "progress":
                    # That it is told while it goes on has been seen.
                    worker.seconds_per_step = 0.0
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    names = [name for name, _ in events]
    assert names[-1] == "completed"
    assert "progress" in names
    progress = [data["progress"] for _, data in events]
    assert progress == sorted(progress)
    assert events[-1][1]["result_image_path"]


async def test_cancel_stops_a_running_task_at_its_step(api: httpx.AsyncClient, worker: Painter) -> None:
    worker.held = {"long"}
    running = await post(api, prompt="long", steps=100)
    async with asyncio.timeout(PATIENCE):
        while not worker.steps_done:
            await asyncio.sleep(0.01)
    answer = await api.post(f"/tasks/{running['id']}/cancel")
    assert answer.json()["status"] == "CANCELLED"
    # There is one model, so this one is drawn when the other one has stopped.
    after = await post(api, steps=1)
    await wait_for(api, after["id"], "COMPLETED")
    assert worker.steps_done == 2
    assert (await api.get(f"/tasks/{running['id']}")).json()["status"] == "CANCELLED"


async def test_idempotency_key_replays_the_first_answer(api: httpx.AsyncClient) -> None:
    body = {"prompt": "a hat", **SMALL}
    headers = {"Idempotency-Key": "order-17"}
    answers = await asyncio.gather(*(api.post("/tasks/", json=body, headers=headers) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 7
    assert len((await api.get("/tasks/")).json()) == 1

    other = await api.post("/tasks/", json={**body, "prompt": "a coat"}, headers=headers)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.text
    assert len((await api.get("/tasks/")).json()) == 1


async def test_lists_filter_and_page(api: httpx.AsyncClient) -> None:
    for index in range(5):
        await post(
            api, origin_instance=f"shop-{index % 2}", origin_tenant_id=f"t{index}", origin_zone="eu", workflow_id="w"
        )
    first = (await api.get("/tasks/")).json()
    await api.post(f"/tasks/{first[0]['id']}/cancel")

    async def count(path: str, **query: object) -> int:
        answer = await api.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return len(answer.json())

    assert await count("/tasks/") == 5
    assert await count("/tasks/", origin_instance="shop-1") == 2
    assert await count("/tasks/", origin_tenant_id="t3", origin_zone="eu") == 1
    assert await count("/tasks/", status="CANCELLED") == 1
    assert await count("/tasks/", status="pending") == 4
    assert await count("/tasks/", status="PROCESSING") == 0
    assert await count("/tasks/", task_type="GENERATION", limit=2) == 2
    assert await count("/tasks/", task_type="EDITING") == 0
    assert await count("/tasks/generation", workflow_id="w", skip=3) == 2
    pages = [(await api.get("/tasks/", params={"limit": 2, "skip": skip})).json() for skip in (0, 2, 4)]
    assert [task["id"] for page in pages for task in page] == [task["id"] for task in first]


async def test_put_changes_what_a_client_may_change(api: httpx.AsyncClient) -> None:
    created = await post(api, priority=0)
    changed = await api.put(f"/tasks/{created['id']}", json={"priority": 3, "config": {"a": [1]}})
    assert (changed.json()["priority"], changed.json()["config"]) == (3, {"a": [1]})
    typed = await api.put(
        f"/tasks/generation/{created['id']}",
        json={"reference_image_strength": 55, "origin_zone": "us", "created_at": created["created_at"]},
    )
    assert typed.status_code == 200, typed.text
    assert (typed.json()["reference_image_strength"], typed.json()["origin_zone"]) == (55, "us")
    cancelled = await api.put(f"/tasks/{created['id']}", json={"status": "CANCELLED"})
    assert cancelled.json()["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"status": "COMPLETED"}, 422, "result_image_path"),
        ({"status": "EXECUTING"}, 409, "EXECUTING"),
        ({"status": "DONE"}, 422, "status"),
        ({"priority": 9}, 422, "priority"),
        ({"retry_count": 4}, 409, "retry_count"),
        ({"created_at": "2020-01-01T00:00:00Z"}, 409, "created_at"),
        ({"queue_name": "nowhere"}, 422, "queue_name"),
        ({"provider_type": "FAL_STANDARD"}, 409, "provider_type"),
        ({"style_model_path": "none/such.safetensors"}, 422, "style_model_path"),
        ({"result_image_path": "a/b.png"}, 409, "result_image_path"),
        ({"no_such_field": 1}, 422, "no_such_field"),
    ],
)
async def test_put_refuses_what_the_state_or_the_contract_forbids(
    api: httpx.AsyncClient, body: dict, status: int, word: str
) -> None:
    created = await post(api)
    answer = await api.put(f"/tasks/generation/{created['id']}", json=body)
    assert answer.status_code == status, answer.text
    assert word in answer.text
    assert (await api.get(f"/tasks/{created['id']}")).json() == created


async def test_a_change_after_the_end_calls_no_webhook_a_second_time(
    api: httpx.AsyncClient, worker: Painter, database: Database
) -> None:
    created = await post(api, webhook_url="http://127.0.0.1:9/hook")
    await wait_for(api, created["id"], "COMPLETED")
    changed = await api.put(f"/tasks/{created['id']}", json={"config": {"seen": True}})
    assert changed.json()["config"] == {"seen": True}
    async with database.transaction() as session:
        deliveries = list(await session.scalars(select(WebhookDelivery.payload)))
    assert [payload["status"] for payload in deliveries] == ["COMPLETED"]


async def test_put_takes_in_a_new_reference_image(api: httpx.AsyncClient, worker: Painter) -> None:
    worker.held = {"long"}
    blockers = [await post(api, prompt="long") for _ in range(2)]
    waiting = await post(api)
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), "teal").save(buffer, "PNG")
    inline = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    answer = await api.put(f"/tasks/generation/{waiting['id']}", json={"reference_image_path": inline})
    assert answer.status_code == 200, answer.text
    worker.held.clear()
    for task in (*blockers, waiting):
        await wait_for(api, task["id"], "COMPLETED")
    assert [request.image.size for request in worker.requests if request.image] == [(12, 9)]


async def test_an_outside_executor_can_complete_a_running_task(api: httpx.AsyncClient, worker: Painter) -> None:
    worker.seconds_per_step = 0.1
    created = await post(api, steps=100)
    await wait_for(api, created["id"], "EXECUTING")
    done = await api.put(
        f"/tasks/generation/{created['id']}", json={"status": "COMPLETED", "result_image_path": "outside/x.png"}
    )
    assert done.json()["status"] == "COMPLETED"
    assert done.json()["result_image_path"] == "outside/x.png"
    again = await api.put(f"/tasks/generation/{created['id']}", json={"status": "FAILED"})
    assert again.status_code == 409


async def test_cleanup_removes_the_files_and_delete_removes_everything(api: httpx.AsyncClient, worker: Painter) -> None:
    created = await post(api, num_outputs=2)
    running = await post(api, steps=1)
    task = await wait_for(api, created["id"], "COMPLETED")
    first = (await api.post(f"/tasks/{created['id']}/cleanup")).json()
    assert (first["is_deleted"], first["deleted_files"]) == (True, 2)
    again = (await api.post(f"/tasks/{created['id']}/cleanup")).json()
    assert again == {**first, "deleted_files": 0}
    assert (await api.get(f"/storage/images/{task['result_image_path']}")).status_code == 404
    kept = (await api.get(f"/tasks/{created['id']}")).json()
    assert (kept["status"], kept["result_image_url"]) == ("COMPLETED", None)

    await wait_for(api, running["id"], "COMPLETED")
    assert (await api.delete(f"/tasks/{running['id']}")).json()["id"] == running["id"]
    assert (await api.get(f"/tasks/{running['id']}")).status_code == 404
    assert (await api.delete(f"/tasks/{running['id']}")).status_code == 404
    assert (await api.get("/storage/images", params={"prefix": "generations/"})).json()["count"] == 0


async def test_a_task_that_has_not_ended_is_neither_cleaned_up_nor_deleted(api: httpx.AsyncClient) -> None:
    created = await post(api)
    for answer in (await api.delete(f"/tasks/{created['id']}"), await api.post(f"/tasks/{created['id']}/cleanup")):
        assert answer.status_code == 409
        assert "cancel it first" in answer.json()["detail"]


async def test_an_image_that_vanished_after_acceptance_fails_the_task_as_invalid_input(
    api: httpx.AsyncClient, worker: Painter, settings: Settings
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "teal").save(buffer, "PNG")
    stored = (await api.post("/storage/images/refs/gone.png", files={"file": ("x.png", buffer.getvalue())})).json()
    worker.held = {"long"}
    blockers = [await post(api, prompt="long") for _ in range(2)]
    created = await post(api, "/tasks/generation", reference_image_url=stored["path"])
    # Not through the API, which keeps what a task still needs.
    assert (await api.delete(f"/storage/images/{stored['path']}")).status_code == 409
    objects = open_store(settings)
    await objects.delete(stored["path"])
    await objects.close()
    worker.held.clear()
    task = await wait_for(api, created["id"], "failed")
    assert "Invalid input" in task["error"]
    for blocker in blockers:
        await wait_for(api, blocker["id"], "COMPLETED")
