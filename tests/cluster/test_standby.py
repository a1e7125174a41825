"""A standby stands in for a replica that died: the next tasks need not wait for a whole replica to start."""

import os
import re
import signal

import psutil
import pytest

from tests.cluster.conftest import Cluster, until


def running(deployment: str) -> int:
    from ray import serve

    deployments = serve.status().applications["compute"].deployments
    return deployments[deployment].replica_states.get("RUNNING", 0)


def pid_of(deployment: str) -> int:
    """The process of a deployment's only replica."""
    title = re.compile(rf"ray::ServeReplica:compute:{deployment}\b")
    (pid,) = (child.pid for child in psutil.Process().children(recursive=True) if title.match("".join(child.cmdline())))
    return pid


@pytest.fixture
def spare(cluster: Cluster) -> Cluster:
    """The application, once the pool of one replica and one standby has both."""
    until(lambda: running("Spare") == running("SpareStandby") == 1, "standby")
    until(cluster.is_ready, "readiness")
    return cluster


def test_a_standby_takes_the_next_task_when_the_only_replica_is_killed(spare: Cluster) -> None:
    queue = {"queue_name": "spare", "seed": 1}
    expected = spare.draw(**queue)
    long = spare.post(**queue, width=256, height=256, steps=200)["id"]
    until(lambda: spare.get(long)["progress"] > 2, "progress")
    waiting = spare.post(**queue)["id"]
    until(lambda: spare.get(waiting)["status"] == "QUEUED", "the next task in the reserve")

    os.kill(pid_of("Spare"), signal.SIGKILL)

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
