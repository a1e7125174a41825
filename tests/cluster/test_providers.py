"""Paid work while processes are killed: everything ends, and nothing is paid for twice."""

import pytest

from tests.cluster.conftest import Cluster, replica, until
from tests.providers.standing import Standing

TASKS = 20


@pytest.mark.parametrize("victim", ["Providers", "Dispatcher"])
def test_nothing_is_sent_again_when_a_process_is_killed(cluster: Cluster, fal: Standing, victim: str) -> None:
    before = fal.submits()
    with fal.holding():
        tasks = [cluster.post(provider_type="FAL_STANDARD", seed=seed)["id"] for seed in range(TASKS)]
        # All of them were sent, and none of them is done.
        until(lambda: fal.submits() == before + TASKS, "submits")
        until(lambda: len(accepted(cluster, tasks)) == TASKS, "acceptance by the vendor")
        cluster.kill(replica(victim))
    for task_id in tasks:
        task = cluster.wait(task_id, "COMPLETED", "FAILED")
        assert (task["status"], task["retry_count"]) == ("COMPLETED", 0), task["errors"]
    assert fal.submits() == before + TASKS
    until(cluster.is_ready, "readiness")


def accepted(cluster: Cluster, tasks: list[str]) -> set[str]:
    """Those tasks whose vendor's id is durable."""
    return {task_id for task_id in tasks if cluster.vendor_id(task_id) is not None}
