"""kill -9 whatever you like: what was accepted ends exactly once."""

import time
from datetime import datetime

import pytest

from tests.cluster.conftest import Cluster, replica, until
from tests.cluster.witness import witnessing

LONG = {"width": 512, "height": 512, "steps": 60}


def run_steadily(cluster: Cluster) -> str:
    """A long task that has made some progress."""
    task_id = cluster.post(**LONG, seed=1)["id"]
    until(lambda: cluster.get(task_id)["progress"] > 5, "progress")
    return task_id


@pytest.mark.parametrize("deployment", ["Flux", "Dispatcher"])
def test_a_killed_process_costs_time_but_no_task(cluster: Cluster, deployment: str) -> None:
    expected = cluster.draw(seed=1)

    def killed_in_time() -> tuple[str, str] | None:
        running, waiting = run_steadily(cluster), cluster.post(seed=1)["id"]
        done = cluster.kill(replica(deployment), unless=lambda: not cluster.runs(running))
        return (running, waiting) if done else None

    running, waiting = until(killed_in_time, f"kill of {deployment} during a task")
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
    cluster.kill(replica("Ingress"))
    until(cluster.is_ready, "readiness")
    task = cluster.wait(running, "COMPLETED", "FAILED")
    assert (task["status"], task["retry_count"]) == ("COMPLETED", 0)


def test_cancel_stops_a_running_task_long_before_its_end(cluster: Cluster) -> None:
    """The next task waits on the replica already, so the gap between the two is what the cancelled one still took."""
    running = cluster.post(width=2048, height=2048, steps=200, seed=1)["id"]
    until(lambda: cluster.get(running)["progress"] >= 1, "progress")
    waiting = cluster.post(steps=1)["id"]
    until(lambda: cluster.get(waiting)["status"] == "QUEUED", "the next task in the reserve")
    first, began = cluster.get(running)["progress"], time.monotonic()
    until(lambda: cluster.get(running)["progress"] >= first + 2, "four more steps")
    seconds_per_percent = (time.monotonic() - began) / (cluster.get(running)["progress"] - first)

    cancelled = cluster.client.post(f"/tasks/{running}/cancel").json()
    assert cancelled["status"] == "CANCELLED"
    next_task = cluster.wait(waiting, "COMPLETED")
    gap = datetime.fromisoformat(next_task["started_at"]) - datetime.fromisoformat(cancelled["completed_at"])
    assert cluster.get(running)["status"] == "CANCELLED"
    # A step or two, and what the word may need through a busy machine.
    left_alone = (100 - cancelled["progress"]) * seconds_per_percent
    assert gap.total_seconds() < left_alone / 2


def test_what_clients_and_receivers_see_keeps_every_promise_while_everything_is_killed(cluster: Cluster) -> None:
    with witnessing(cluster) as witness:
        for victim in ("Flux", "Dispatcher", "Ingress"):
            running = witness.begin(**LONG, seed=1)
            waiting = [witness.submit(seed=seed) for seed in range(3)]
            cluster.kill(replica(victim))
            witness.cancel(waiting[0])
            for task_id in (running, *waiting):
                witness.look(task_id)
        witness.until_all_is_said()
    until(cluster.is_ready, "readiness")
