"""kill -9 whatever you like: what was accepted ends exactly once."""

import os
import signal
import time

import pytest

from tests.cluster.conftest import Cluster, until

LONG = {"width": 512, "height": 512, "steps": 60}


def kill(cluster: Cluster, deployment: str) -> None:
    (pid,) = cluster.pids(deployment)
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in cluster.pids(deployment), f"end of {deployment}")


def run_steadily(cluster: Cluster) -> str:
    """A long task that has made some progress."""
    task_id = cluster.post(**LONG, seed=1)["id"]
    until(lambda: cluster.get(task_id)["progress"] > 5, "progress")
    return task_id


@pytest.mark.parametrize("deployment", ["Flux", "Dispatcher"])
def test_a_killed_process_costs_time_but_no_task(cluster: Cluster, deployment: str) -> None:
    expected = cluster.draw(seed=1)
    running, waiting = run_steadily(cluster), cluster.post(seed=1)["id"]
    kill(cluster, deployment)
    during = cluster.post(seed=1)["id"]

    finished = cluster.wait(running, "COMPLETED", "FAILED")
    assert (finished["status"], finished["retry_count"] >= 1) == ("COMPLETED", True), finished["errors"]
    for task_id in (waiting, during):
        task = cluster.wait(task_id, "COMPLETED", "FAILED")
        assert task["status"] == "COMPLETED", task["errors"]
        assert cluster.picture(task) == expected
    until(cluster.is_ready, "readiness")


def test_a_killed_ingress_loses_no_task_and_comes_back(cluster: Cluster) -> None:
    running = run_steadily(cluster)
    kill(cluster, "Ingress")
    until(cluster.is_ready, "readiness")
    task = cluster.wait(running, "COMPLETED", "FAILED")
    assert (task["status"], task["retry_count"]) == ("COMPLETED", 0)


def test_cancel_stops_a_running_task_within_two_steps(cluster: Cluster) -> None:
    big = {"width": 768, "height": 768, "steps": 100, "seed": 1}
    task_id = cluster.post(**big)["id"]
    until(lambda: cluster.get(task_id)["progress"] >= 4, "progress")
    began = time.monotonic()
    first = cluster.get(task_id)["progress"]
    until(lambda: cluster.get(task_id)["progress"] >= first + 4, "more progress")
    seconds_per_step = (time.monotonic() - began) / (cluster.get(task_id)["progress"] - first)

    cancelled = time.monotonic()
    assert cluster.client.post(f"/tasks/{task_id}/cancel").json()["status"] == "CANCELLED"
    cluster.draw(steps=1)
    waited = time.monotonic() - cancelled
    assert cluster.get(task_id)["status"] == "CANCELLED"
    # Two steps, and a second for the next task's own way through a busy machine.
    assert waited < 2 * seconds_per_step + 1.0
