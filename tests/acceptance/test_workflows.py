"""The examples' workflow on the whole stack, through HTTP and on the terminal."""

import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.acceptance.conftest import ROOT, Stack
from tests.acceptance.test_main_job import SMALL, neighbour
from tests.patience import PATIENCE

SIDE = SMALL["width"]


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def finish(client: httpx.Client, workflow_id: str, seconds: float = PATIENCE) -> dict[str, Any]:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        found: dict[str, Any] = client.get(f"/api/v1/workflows/{workflow_id}").json()
        if found["status"].lower() in {"completed", "failed", "cancelled"}:
            return found
        time.sleep(0.2)
    raise TimeoutError(workflow_id)


def test_the_sample_starts_from_a_picture_and_ends_with_four_cut_outs(client: httpx.Client) -> None:
    body = {
        "name": "product-to-model",
        "steps": [
            {
                "name": "generate-base",
                "type": "generation",
                "config": {"prompt": "model wearing product", "num_outputs": 4, **SMALL},
            },
            {
                "name": "upscale",
                "type": "processing",
                "config": {"operation": "upscale", "scale": 2},
                "depends_on": ["generate-base"],
            },
            {
                "name": "background-removal",
                "type": "processing",
                "config": {"operation": "remove-background"},
                "depends_on": ["upscale"],
            },
        ],
    }
    created = client.post("/api/v1/workflows/", json=body).json()
    assert (created["status"], created["current_step"]) == ("pending", 0)
    with neighbour() as (address, _):
        given = {"input": {"image_url": f"{address}/dress.jpg"}}
        started = client.post(f"/api/v1/workflows/{created['id']}/start", json=given)
        assert started.status_code == 200, started.text
    # The picture's server is gone by now: it was fetched when the workflow was started.
    ended = finish(client, created["id"])
    assert ended["status"] == "completed", ended
    pictures = []
    for step in ended["steps"]:
        assert len(step["output"]["images"]) == 4
        answer = httpx.get(step["output"]["images"][0]["url"], timeout=PATIENCE)
        pictures.append(Image.open(io.BytesIO(answer.content)))
    assert [(picture.size, picture.mode) for picture in pictures] == [
        ((SIDE, SIDE), "RGB"),
        ((2 * SIDE, 2 * SIDE), "RGB"),
        ((2 * SIDE, 2 * SIDE), "RGBA"),
    ]
    first = client.get("/api/v1/tasks/generation", params={"workflow_id": _uuid(ended["id"])}).json()[0]
    assert first["reference_image_path"].startswith("inputs/")


def test_an_example_runs_from_the_terminal(stack: Stack) -> None:
    path = ROOT / "examples" / "product-to-model.yaml"
    ran = stack.compute("workflow", "run", str(path), "--watch", "--url", stack.url, API_KEY=stack.api_key)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "COMPLETED" in ran.stdout.upper()


def _uuid(workflow_id: str) -> str:
    digits = workflow_id.removeprefix("wf_")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
