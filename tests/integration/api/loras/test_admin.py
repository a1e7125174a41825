"""LoRAs in the hands of an administrator, and of nobody else."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from compute.settings import Settings
from tests.integration.api.conftest import Painter, wait_for
from tests.integration.api.loras.lora_bytes import lora
from tests.patience import PATIENCE

ADMIN = {"Authorization": "Bearer admin-key"}
TASK = {"task_type": "GENERATION", "prompt": "p", "width": 64, "height": 64, "steps": 1}


@pytest.fixture
def admin_key() -> str | None:
    return "admin-key"


@pytest.fixture
def settings(settings: Settings, admin_key: str | None) -> Settings:
    return settings.model_copy(update={"admin_api_key": SecretStr(admin_key) if admin_key else None})


async def upload(api: httpx.AsyncClient, value: float = 1, entity_type: str = "styles") -> str:
    files = {"file": ("look.safetensors", lora(value))}
    answer = await api.post("/admin/lora/upload", files=files, data={"entity_type": entity_type}, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    return answer.json()["partial_path"]


async def delete(api: httpx.AsyncClient, partial_path: str, **headers: str) -> httpx.Response:
    return await api.request("DELETE", "/admin/lora", json={"partial_path": partial_path}, headers=ADMIN | headers)


async def listed(api: httpx.AsyncClient) -> list[str]:
    return [item["partial_path"] for item in (await api.get("/lora")).json()["loras"]]


async def attempts(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> list[tuple[int, int]]:
    """The statuses of an upload and a deletion by: nobody, a stranger, the holder of the API key."""
    wrong = {"Authorization": "Bearer wrong"}
    answers = []
    for client, path, headers in ((anonymous, "/api/v1", {}), (anonymous, "/api/v1", wrong), (api, "", {})):
        files = {"file": ("look.safetensors", lora())}
        uploaded = await client.post(f"{path}/admin/lora/upload", files=files, headers=headers)
        body = {"partial_path": "styles/look.safetensors"}
        deleted = await client.request("DELETE", f"{path}/admin/lora", json=body, headers=headers)
        answers.append((uploaded.status_code, deleted.status_code))
    return answers


async def test_only_the_admin_key_opens_these_routes(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    await upload(api)
    assert await attempts(api, anonymous) == [(401, 401), (401, 401), (403, 403)]
    assert await listed(api) == ["styles/look.safetensors"]


@pytest.mark.parametrize("admin_key", [None])
async def test_without_an_admin_key_nobody_is_admin(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    assert await attempts(api, anonymous) == [(401, 401), (401, 401), (403, 403)]
    assert (await delete(api, "styles/look.safetensors")).status_code == 401
    assert await listed(api) == []


async def test_an_administrator_uploads_faces_too(api: httpx.AsyncClient) -> None:
    files = {"file": ("look.safetensors", lora())}
    answer = await api.post("/admin/lora/upload", files=files, data={"entity_type": "Faces"}, headers=ADMIN)
    assert (answer.json()["entity_type"], answer.json()["file_path"]) == ("faces", "loras/faces/look.safetensors")


async def test_a_deleted_lora_is_in_the_bin_and_cannot_be_used(
    api: httpx.AsyncClient, settings: Settings, worker: Painter
) -> None:
    path = await upload(api)
    answer = await delete(api, path)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["deleted"], body["full_path"]) == (True, "loras/styles/look.safetensors")
    assert body["bin_path"].startswith("bin/loras/styles/")
    assert body["bin_path"].endswith("/look.safetensors")
    assert (settings.storage_root / body["bin_path"]).read_bytes() == lora()
    assert await listed(api) == []

    refused = await api.post("/tasks/", json=TASK | {"style_model_path": path})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "style_model_path"]
    again = await delete(api, path)
    assert (again.status_code, again.json()["code"]) == (404, "NOT_FOUND")


async def test_a_name_can_be_used_and_deleted_again(
    api: httpx.AsyncClient, settings: Settings, worker: Painter
) -> None:
    bins = []
    for value in (1, 2):
        path = await upload(api, value)
        assert path == "styles/look.safetensors"
        created = (await api.post("/tasks/", json=TASK | {"style_model_path": path})).json()
        await wait_for(api, created["id"], "COMPLETED")
        # A replica that knows the name does not take the file of before for the new one.
        assert worker.requests[-1].loras[0].path.read_bytes() == lora(value)
        bins.append((await delete(api, path)).json()["bin_path"])
    assert [(settings.storage_root / one).read_bytes() for one in bins] == [lora(1), lora(2)]


async def test_a_running_task_keeps_its_lora_and_a_waiting_one_ends_as_invalid_input(
    api: httpx.AsyncClient, worker: Painter
) -> None:
    path = await upload(api)
    worker.seconds_per_step = 0.4
    # Two draw, some more have fetched what they need; the last one waits.
    tasks = [(await api.post("/tasks/", json=TASK | {"style_model_path": path})).json()["id"] for _ in range(8)]
    async with asyncio.timeout(PATIENCE):
        while len(worker.requests) < 2:
            await asyncio.sleep(0.02)
    assert (await delete(api, path)).status_code == 200
    ended = [await wait_for(api, task, "COMPLETED", "FAILED") for task in tasks]
    assert [task["status"] for task in ended].count("COMPLETED") == len(worker.requests) >= 2
    failed = [task for task in ended if task["status"] == "FAILED"]
    assert ended[-1] in failed
    for task in failed:
        assert (task["error_category"], task["retry_count"]) == ("INVALID_INPUT", 0)
        assert path in task["errors"][-1]


async def test_a_path_cannot_leave_the_loras(api: httpx.AsyncClient) -> None:
    for path in ("../inputs/x.png", "/etc/passwd", "styles/../../x", "a\\b", "styles/\x00", ""):
        answer = await delete(api, path)
        assert answer.status_code == 422, path
        assert answer.json()["detail"][0]["loc"] == ["body", "partial_path"]


async def test_the_bin_cannot_be_read_or_written_as_images(api: httpx.AsyncClient) -> None:
    bin_path = (await delete(api, await upload(api))).json()["bin_path"]
    for method in ("GET", "HEAD", "DELETE", "POST"):
        files = {"file": ("x.png", b"x")} if method == "POST" else None
        answer = await api.request(method, f"/storage/images/{bin_path}", files=files)
        assert answer.status_code == 403, method
    assert (await api.get("/storage/images")).json()["count"] == 0
