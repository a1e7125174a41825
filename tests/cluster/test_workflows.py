"""Workflows on Ray, and kill -9 of everything that advances them."""

from typing import Any

import pytest

from tests.cluster.conftest import Cluster, replica, until

SMALL = {"prompt": "a red dress", "width": 64, "height": 64, "steps": 2, "seed": 1}
# While a call begins or ends, a process of Ray has the call's name as its title, and then again its actor's class.
RUNNER = "ray::(StepRunnerActor|step|end of workflow)"


def draw(step_id: str, *depends_on: str, **config: Any) -> dict[str, Any]:
    return {"id": step_id, "task_type": "GENERATION", "config": SMALL | config, "depends_on": list(depends_on)}


def enlarge(step_id: str, source: str) -> dict[str, Any]:
    mapping = {"from_step": source, "from_field": "result_image_paths", "to_field": "base_image_url"}
    config = {"upscale_factor": 2, "upscale_steps": 4}
    return {"id": step_id, "task_type": "REFINE", "config": config, "input_mappings": [mapping]}


def start(cluster: Cluster, *steps: dict[str, Any]) -> str:
    answer = cluster.client.post("/workflows/", json={"name": "test", "origin_instance": "tests", "steps": steps})
    assert answer.status_code == 201, answer.text
    created: str = answer.json()["id"]
    return created


def get(cluster: Cluster, workflow_id: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.client.get(f"/workflows/{workflow_id}").json()
    return found


def ended(cluster: Cluster, workflow_id: str) -> dict[str, Any]:
    def settled() -> dict[str, Any] | None:
        found = get(cluster, workflow_id)
        return found if found["status"] in ("COMPLETED", "FAILED") else None

    return until(settled, f"end of workflow {workflow_id}")


def task_count(cluster: Cluster, workflow_id: str) -> int:
    return len(cluster.client.get("/tasks/generation", params={"workflow_id": workflow_id, "limit": 1000}).json())


def test_a_list_of_pictures_goes_through_a_graph_of_calls(cluster: Cluster) -> None:
    done = ended(cluster, start(cluster, draw("draw", num_outputs=2), enlarge("enlarge", "draw")))
    assert done["status"] == "COMPLETED", done["errors"]
    assert len(done["final_step_result"]["result_image_path"]) == 2
    # The last object of the graph, by Ray's own name for it.
    assert len(bytes.fromhex(done["canvas_task_id"])) > 16


@pytest.mark.parametrize("title", [replica("Workflows"), RUNNER, "ray::ServeController"])
def test_killing_what_advances_a_workflow_costs_time_but_no_step(cluster: Cluster, title: str) -> None:
    slow = {"width": 512, "height": 512, "steps": 30}
    workflow_id = start(
        cluster, draw("a"), draw("b", "a", **slow), draw("c", "b", **slow), draw("d", "c"), draw("beside", **slow)
    )
    until(lambda: get(cluster, workflow_id)["steps"][1]["progress"] > 5, "progress of the second step")
    before = get(cluster, workflow_id)
    cluster.kill(title)

    done = ended(cluster, workflow_id)
    assert done["status"] == "COMPLETED", done["errors"]
    assert [step["status"] for step in done["steps"]] == ["COMPLETED"] * 5
    # Nobody ordered anything twice, and what ran went on.
    assert task_count(cluster, workflow_id) == 5
    assert [step["task_id"] for step in done["steps"]][:2] == [step["task_id"] for step in before["steps"]][:2]
    assert [step["retry_count"] for step in done["steps"]] == [0] * 5
    until(cluster.is_ready, "readiness")
    until(lambda: len(cluster.processes(RUNNER)) == 1, "a runner")
