"""Cleaning up and deleting tasks, also when the object store does not play along."""

import base64
import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from compute.settings import Settings
from tests.integration.api.conftest import Painter, wait_for

TASK = {"task_type": "GENERATION", "prompt": "p", "width": 64, "height": 64, "steps": 1}


@pytest.fixture
def storage_settings(request: pytest.FixtureRequest) -> dict[str, object]:
    """A folder; `s3` for a bucket on a server that the test may stop."""
    if getattr(request, "param", "local") == "local":
        return {"storage": "local"}
    server: ThreadedMotoServer = request.getfixturevalue("stoppable_s3")
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    client.close()
    return {"storage": "s3", "s3_bucket": "bucket", "s3_endpoint_url": f"http://{host}:{port}"}


@pytest.fixture
def stoppable_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-value")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    _stop(server)


def _stop(server: ThreadedMotoServer) -> None:
    if server._server is not None:
        server.stop()
        # moto leaves its listening socket open.
        server._server.server_close()
        server._server = None


async def completed(api: httpx.AsyncClient, **fields: object) -> dict:
    created = await api.post("/tasks/", json=TASK | fields)
    assert created.status_code == 201, created.text
    return await wait_for(api, created.json()["id"], "COMPLETED")


def picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


async def test_cleaning_up_twice_changes_nothing_more(api: httpx.AsyncClient, worker: Painter) -> None:
    task = await completed(api)
    first = (await api.post(f"/tasks/{task['id']}/cleanup")).json()
    again = await api.post(f"/tasks/{task['id']}/cleanup")
    assert (first["is_deleted"], first["deleted_files"]) == (True, 1)
    assert again.status_code == 200
    assert again.json() == first | {"deleted_files": 0}
    assert (await api.get(f"/storage/images/{task['result_image_path']}")).status_code == 404
    assert (await api.get(f"/tasks/{task['id']}")).json()["status"] == "COMPLETED"


async def test_deleting_removes_everything_and_a_second_time_finds_nothing(
    api: httpx.AsyncClient, worker: Painter
) -> None:
    task = await completed(api)
    for clean_first in (False, True):
        if clean_first:
            task = await completed(api)
            await api.post(f"/tasks/{task['id']}/cleanup")
        assert (await api.delete(f"/tasks/{task['id']}")).json()["id"] == task["id"]
        for answer in (await api.delete(f"/tasks/{task['id']}"), await api.get(f"/tasks/{task['id']}")):
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        assert (await api.post(f"/tasks/{task['id']}/cleanup")).status_code == 404
        assert (await api.get(f"/storage/images/{task['result_image_path']}")).status_code == 404


async def test_one_prefix_does_not_take_another_tasks_files(api: httpx.AsyncClient, worker: Painter) -> None:
    gone, kept = await completed(api), await completed(api)
    assert (await api.delete(f"/tasks/{gone['id']}")).status_code == 200
    assert (await api.get(f"/storage/images/{kept['result_image_path']}")).status_code == 200


async def test_inputs_are_shared_by_content_and_stay(api: httpx.AsyncClient, worker: Painter) -> None:
    first, second = [await completed(api, reference_image_url=picture()) for _ in range(2)]
    (stored,) = (await api.get("/storage/images", params={"prefix": "inputs/"})).json()["images"]
    for task in (first, second):
        assert (await api.delete(f"/tasks/{task['id']}")).status_code == 200
        assert (await api.get(f"/storage/images/{stored['path']}")).status_code == 200
    # A task that names it by its path still runs.
    await completed(api, reference_image_url=stored["path"])


async def test_a_change_that_is_refused_keeps_no_picture(api: httpx.AsyncClient) -> None:
    task = (await api.post("/tasks/", json=TASK)).json()
    for verdict in (
        {"status": "COMPLETED", "result_image_path": "uploads/a.png"},
        {"status": "EXECUTING"},
        {"result_image_path": "uploads/a.png"},
    ):
        answer = await api.put(f"/tasks/generation/{task['id']}", json={"reference_image_path": picture()} | verdict)
        assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT"), answer.text
    assert (await api.get("/storage/images", params={"prefix": "inputs/"})).json()["count"] == 0


async def test_what_has_not_ended_is_neither_cleaned_up_nor_deleted(api: httpx.AsyncClient) -> None:
    task = (await api.post("/tasks/", json=TASK)).json()
    for answer in (await api.post(f"/tasks/{task['id']}/cleanup"), await api.delete(f"/tasks/{task['id']}")):
        assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")
    for path in (f"/tasks/{uuid4()}/cleanup", f"/tasks/{uuid4()}"):
        assert (await api.request("POST" if "cleanup" in path else "DELETE", path)).status_code == 404


@pytest.fixture
def read_only(settings: Settings) -> Iterator[Callable[[str], None]]:
    """A file system of its own under the storage; remount it as `ro` or `rw`. Skipped where we may not mount."""
    folder = settings.storage_root
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:  # noqa: S603
        pytest.skip("mounting a file system needs root")

    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)  # noqa: S603, S607

    yield remount
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


async def refusals(api: httpx.AsyncClient, task: dict) -> None:
    """Neither works, both say so, and the task is as before."""
    for answer in (await api.post(f"/tasks/{task['id']}/cleanup"), await api.delete(f"/tasks/{task['id']}")):
        assert (answer.status_code, answer.json()["code"]) == (503, "STORAGE_ERROR")
        assert str(Path.home()) not in answer.json()["detail"]
    assert lasting((await api.get(f"/tasks/{task['id']}")).json()) == lasting(task)


def lasting(task: dict) -> dict:
    """A task without its links, which are signed anew each time."""
    return {name: value for name, value in task.items() if "_url" not in name}


async def test_a_read_only_folder_is_reported_and_changes_nothing(
    read_only: Callable[[str], None], api: httpx.AsyncClient, worker: Painter
) -> None:
    task = await completed(api)
    read_only("ro")
    await refusals(api, task)
    assert (await api.get(f"/storage/images/{task['result_image_path']}")).status_code == 200
    image = await api.delete(f"/storage/images/{task['result_image_path']}")
    assert (image.status_code, image.json()["code"]) == (503, "STORAGE_ERROR")
    read_only("rw")
    assert (await api.post(f"/tasks/{task['id']}/cleanup")).json()["deleted_files"] == 1
    assert (await api.delete(f"/tasks/{task['id']}")).status_code == 200


@pytest.mark.parametrize("storage_settings", ["s3"], indirect=True)
async def test_a_bucket_that_is_away_is_reported_and_changes_nothing(
    stoppable_s3: ThreadedMotoServer, api: httpx.AsyncClient, worker: Painter
) -> None:
    task = await completed(api)
    _stop(stoppable_s3)
    await refusals(api, task)
