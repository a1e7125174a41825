"""Training as its users see it: pictures in, a LoRA out that tasks can use, whatever dies on the way."""

import base64
import io
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from tests.acceptance.conftest import Stack
from tests.acceptance.ray_names import dashboard, nameless_actors, nameless_tasks, state
from tests.patience import PATIENCE
from tools.demo_model.scenes import NEW_GARMENT, random_scenes, render

START_SECONDS = PATIENCE


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@contextmanager
def shared(folder: Path) -> Iterator[str]:
    """The folder behind a web server of the caller's own."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kimonos() -> Iterator[bytes]:
    """Eight pictures of a garment that the demo model has never seen."""
    for scene in islice(random_scenes(3, 8, garments=(NEW_GARMENT,)), 8):
        file = io.BytesIO()
        render(scene, 128).save(file, "PNG")
        yield file.getvalue()


def pack(folder: Path) -> None:
    """kimonos.zip: the pictures, and a file that is none."""
    with zipfile.ZipFile(folder / "kimonos.zip", "w") as archive:
        for index, data in enumerate(kimonos()):
            archive.writestr(f"{index}.png", data)
        archive.writestr("readme.txt", "about these pictures")


def until(check: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if value := check():
            return value
        time.sleep(0.1)
    raise TimeoutError(f"no {what} within {seconds} s")


def workers(stack: Stack) -> list[psutil.Process]:
    """The processes that train for this stack."""
    assert stack.process is not None
    found = []
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        try:
            if process.cmdline() and process.cmdline()[0].startswith("ray::RayTrainWorker"):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_lora_is_trained_through_the_death_of_its_worker_and_used_by_a_task(
    stack: Stack, client: httpx.Client, tmp_path: Path
) -> None:
    pack(tmp_path)
    # Those of a training that has ended may take a moment to go.
    until(lambda: not workers(stack), "end of earlier workers")
    with shared(tmp_path) as address:
        answer = client.post(
            "/api/v1/training/",
            json={
                "dataset_url": f"{address}/kimonos.zip",
                "base_model": "sd-xl-base",
                "output_name": "kimono-v1",
                "config": {
                    "epochs": 30,
                    "learning_rate": 1e-3,
                    "batch_size": 2,
                    "save_every": 10,
                    "sample_prompts": ["a red kimono_v1 on a white background"],
                },
            },
        )
        assert answer.status_code == 201, answer.text
        training_id = answer.json()["id"]
        assert re.fullmatch(r"train_[0-9a-f]{32}", training_id)

        def look() -> dict[str, Any]:
            seen: dict[str, Any] = client.get(f"/api/v1/training/{training_id}").json()
            assert seen["status"] in {"pending", "running", "completed"}, seen["error"]
            return seen

        # A checkpoint is safe once Ray's controller has asked for it, which holds up the one after the next.
        until(lambda: ((look()["output"] or {}).get("metrics") or {}).get("step", 0) > 42, "step beyond a checkpoint")
    told_by_ray(stack, _uuid(training_id), client)
    (victim,) = workers(stack)
    victim.kill()
    done = until(lambda: (seen := look())["status"] == "completed" and seen, "end")

    metrics = done["output"]["metrics"]
    assert (done["progress"], metrics["step"], metrics["current_epoch"]) == (1.0, 120, 30)
    assert metrics["loss"] > 0
    (sample,) = done["output"]["samples"]
    assert Image.open(io.BytesIO(httpx.get(sample["url"], timeout=PATIENCE).content)).size == (128, 128)
    canonical = client.get(f"/api/v1/training/{_uuid(training_id)}").json()
    assert "resuming after step" in canonical["logs"]
    assert "warm on 1 replicas" in canonical["logs"]
    assert [one["file"] for one in canonical["rejected_files"]] == ["readme.txt"]

    request = {"prompt": "a red kimono_v1 on a white background", "width": 128, "height": 128, "steps": 6, "seed": 1}
    plain = _drawn(client, request)
    learned = _drawn(client, request | {"product_model_path": done["output"]["model"]["path"]})
    assert plain != learned


def told_by_ray(stack: Stack, training_id: str, client: httpx.Client) -> None:
    """Ray's dashboard calls everything by names that a person knows, and leads to the API and back."""
    about = client.get(f"/api/v1/training/{training_id}").json()
    with dashboard(stack) as ray:
        (job,) = [one for one in ray.get("/api/jobs/").json() if one["metadata"].get("training") == training_id]
        actors = {actor["name"] for actor in state(ray, "actors") if actor["state"] == "ALIVE"}
        tasks = {task["name"] for task in state(ray, "tasks")}
        applications = ray.get("/api/serve/applications/").json()["applications"]
        assert (nameless_actors(ray), nameless_tasks(ray)) == ([], [])
        assert about["dashboard_url"] == f"{stack.dashboard_url}/#/jobs/{job['submission_id']}"
        assert ray.get(f"/api/jobs/{job['submission_id']}").json()["submission_id"] == job["submission_id"]
    assert job["submission_id"].startswith("train-kimono-v1-")
    assert (job["metadata"]["name"], job["metadata"]["output_name"]) == ("training kimono-v1", "kimono-v1")
    seen = httpx.get(job["metadata"]["api_url"], headers=client.headers, timeout=PATIENCE)
    assert seen.json()["id"] == training_id
    assert any(name.startswith("StepRunner 1 of engine#") for name in actors), actors
    assert any(name.startswith("Inbox of kimono-v1") for name in actors), actors
    assert {"downloading images of kimono-v1", "transforming images of kimono-v1"} <= tasks
    deployments = {"Ingress", "Dispatcher", "Workflows", "Training", "Providers", "Flux", "Image"}
    assert applications["compute"]["deployments"].keys() == deployments


def test_a_cancelled_training_ends_its_processes(stack: Stack, client: httpx.Client) -> None:
    pictures = [base64.b64encode(data).decode() for data in kimonos()]
    body = {"trigger_word": "kimono", "steps": 100_000, "base_model_path": "default", "source_images": pictures}
    created = client.post("/api/v1/training/", json=body)
    assert created.status_code == 201, created.text
    path = f"/api/v1/training/{created.json()['id']}"

    def has_begun() -> bool:
        seen = client.get(path).json()
        assert seen["status"] in {"PENDING", "PREPROCESSING", "TRAINING"}, seen["error_message"]
        return bool(seen["current_step"] > 0)

    until(has_begun, "step")
    cancelled = client.post(f"{path}/cancel").json()
    assert cancelled["status"] == "CANCELLED"
    until(lambda: not workers(stack), "end of its workers")
    assert client.get(path).json()["current_step"] - cancelled["current_step"] <= 0
    assert client.post(f"{path}/cancel").status_code == 409


def _uuid(training_id: str) -> str:
    digits = training_id.removeprefix("train_")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _drawn(client: httpx.Client, request: dict[str, Any]) -> bytes:
    created = client.post("/api/v1/tasks/generation", json=request).json()
    done = until(
        lambda: (
            (seen := client.get(f"/api/v1/tasks/{created['id']}").json())["status"] in {"completed", "failed"} and seen
        ),
        "picture",
    )
    assert done["status"] == "completed", done["error"]
    return httpx.get(done["output"]["images"][0]["url"], timeout=PATIENCE).content
