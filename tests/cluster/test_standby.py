"""A standby stands in for a replica that died: the next tasks need not wait for a whole replica to start."""

import pytest

from tests.cluster.conftest import Cluster, replica, until


def running(deployment: str) -> int:
    from ray import serve

    deployments = serve.status().applications["compute"].deployments
    return deployments[deployment].replica_states.get("RUNNING", 0)


@pytest.fixture
def spare(cluster: Cluster) -> Cluster:
    """The application, once the pool of one replica and one standby has both."""
    until(lambda: running("Spare") == running("SpareStandby") == 1, "standby")
    until(cluster.is_ready, "readiness")
    return cluster


def test_a_standby_takes_the_next_task_when_the_only_replica_is_killed(spare: Cluster) -> None:
    queue = {"queue_name": "spare", "seed": 1}
    expected = spare.draw(**queue)

    def killed_in_time() -> tuple[str, str] | None:
        long = spare.post(**queue, width=256, height=256, steps=200)["id"]
        until(lambda: spare.get(long)["progress"] > 2, "progress")
        waiting = spare.post(**queue)["id"]
        until(lambda: spare.get(waiting)["status"] != "PENDING", "the next task in the reserve")

        def too_late() -> bool:
            return not spare.runs(long) or spare.get(waiting)["status"] != "QUEUED"

        return (long, waiting) if spare.kill(replica("Spare"), unless=too_late) else None

    long, waiting = until(killed_in_time, "kill of the only replica while it draws")

    task = spare.wait(waiting, "COMPLETED", "FAILED")
    assert task["status"] == "COMPLETED", task["errors"]
    assert task["executor_instance"].startswith("SpareStandby#")
    assert task["retry_count"] == 0, "it had not begun"
    assert spare.picture(task) == expected
    assert spare.is_ready(), "a task runs at once"

    interrupted = spare.wait(long, "COMPLETED", "FAILED")
    assert (interrupted["status"], interrupted["retry_count"]) == ("COMPLETED", 1), interrupted["errors"]

    def is_back() -> bool:
        after = spare.wait(spare.post(**queue)["id"], "COMPLETED", "FAILED")
        return str(after["executor_instance"]).startswith("Spare#")

    until(is_back, "task of a replica of the pool's own")
