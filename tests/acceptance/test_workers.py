"""Workers of a running stack: every replica is a row, and one that is killed is gone."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.acceptance.conftest import Stack
from tests.patience import PATIENCE


def until(stack: Stack, path: str, fits: Callable[[Any], bool]) -> Any:
    """The answer of a monitoring route as soon as it fits."""
    give_up = time.monotonic() + PATIENCE
    with stack.client() as api:
        while not fits(said := api.get(f"/api/v1/monitoring/{path}").raise_for_status().json()):
            assert time.monotonic() < give_up, said
            time.sleep(0.2)
    return said


def by_deployment(said: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for worker in said["workers"]:
        found.setdefault(worker["deployment"], []).append(worker)
    return found


def test_every_replica_is_a_worker_that_tells_of_itself(stack: Stack) -> None:
    said = until(
        stack, "workers", lambda said: {"Flux", "Image", "Providers", "Training"} <= by_deployment(said).keys()
    )
    for worker in said["workers"]:
        page = f"serve/applications/compute/{worker['deployment']}"
        assert worker["dashboard_url"] == f"{stack.dashboard_url}/#/{page}", worker["name"]
    workers = by_deployment(said)
    (flux,) = workers["Flux"]
    assert flux["name"].startswith("Flux-")
    assert "inference" in flux["queues"]
    assert flux["memory_mb"] > 100
    assert flux["gpu_utilization"] is None
    completed = flux["tasks_completed_total"]
    with stack.client() as api:
        body = {"task_type": "GENERATION", "prompt": "a hat", "width": 64, "height": 64, "steps": 1}
        task = api.post("/api/v1/tasks/", json=body).raise_for_status().json()
    until(stack, f"tasks/{task['id']}", lambda said: said["status"] == "COMPLETED")
    # Tasks of earlier tests that it had not told of yet may be among them.
    said = until(stack, "workers", lambda said: by_deployment(said)["Flux"][0]["tasks_completed_total"] > completed)
    (flux,) = by_deployment(said)["Flux"]
    assert flux["tasks_per_minute"] > 0
    until(stack, "stats", lambda said: said["by_status"]["COMPLETED"] > 0)
    health = until(stack, "workers/health", lambda said: said["healthy"])
    assert {"inference", "image", "training"} <= set(health["queues_with_workers"])
    assert health["queues_without_workers"] == []


def test_one_that_is_killed_is_gone_and_its_successor_is_there(stack: Stack) -> None:
    said = until(stack, "workers", lambda said: "Image" in by_deployment(said))
    (image,) = by_deployment(said)["Image"]
    os.kill(image["pid"], signal.SIGKILL)
    until(stack, "workers", lambda said: image["id"] not in {worker["id"] for worker in said["workers"]})
    said = until(stack, "workers", lambda said: "Image" in by_deployment(said))
    assert by_deployment(said)["Image"][0]["id"] != image["id"]
