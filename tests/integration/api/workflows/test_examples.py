"""The examples are run, and do what their comments say."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

import compute
from compute.worker.protocol import GenerateRequest
from tests.integration.api.loras.lora_bytes import lora
from tests.integration.api.workflows.conftest import SubjectPainter, by_id, statuses, wait_for
from tests.patience import PATIENCE

EXAMPLES = Path(compute.__file__).parent.parent / "examples"


@dataclass
class PoorPainter(SubjectPainter):
    """Draws nothing for some prompts until the seeds are high enough."""

    word: str = " "
    good_from: int = 0

    def decode(self, request: GenerateRequest) -> Image.Image:
        if request.seed < self.good_from and self.word in request.prompt:
            return Image.new("RGB", (request.width, request.height), "white")
        return super().decode(request)


@pytest.fixture
def painter() -> PoorPainter:
    return PoorPainter()


async def begin(api: httpx.AsyncClient, name: str, **given: Any) -> str:
    body = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    body["input"] = body.get("input", {}) | given
    answer = await api.post("/workflows/", params={"start": True}, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def ended(api: httpx.AsyncClient, workflow_id: str) -> dict[str, Any]:
    found = await wait_for(api, workflow_id, "COMPLETED", "FAILED")
    assert found["status"] == "COMPLETED", found["errors"]
    return found


async def test_a_batch_of_good_pictures_is_drawn_once(
    api: httpx.AsyncClient, worker: object, engine: None, painter: PoorPainter
) -> None:
    found = await ended(api, await begin(api, "catalogue-batch"))
    assert [name for name, status in statuses(found).items() if status == "COMPLETED"] == ["draw", "cut-out", "shape"]
    assert len(painter.requests) == 3
    assert len(found["final_step_result"]["outputs"]) == 3


async def test_a_batch_with_a_bad_picture_is_drawn_again(
    api: httpx.AsyncClient, worker: object, engine: None, painter: PoorPainter
) -> None:
    painter.word, painter.good_from = "handbag", 1000
    found = await ended(api, await begin(api, "catalogue-batch"))
    assert [name for name, status in statuses(found).items() if status == "SKIPPED"] == ["draw-simply"]
    assert [one["index"] for one in by_id(found)["cut-out"]["result"]["failed"]] == [1]
    assert len(found["final_step_result"]["outputs"]) == 3


async def test_a_batch_without_any_good_picture_gets_a_simple_one(
    api: httpx.AsyncClient, worker: object, engine: None, painter: PoorPainter
) -> None:
    painter.good_from = 2000
    found = await ended(api, await begin(api, "catalogue-batch"))
    assert statuses(found) == {
        "draw": "COMPLETED",
        "cut-out": "FAILED",
        "draw-again": "SKIPPED",
        "draw-simply": "COMPLETED",
        "cut-out-again": "COMPLETED",
        "shape": "COMPLETED",
    }
    assert len(found["final_step_result"]["outputs"]) == 1


async def test_a_batch_that_no_attempt_helps_keeps_its_first_pictures(
    api: httpx.AsyncClient, worker: object, engine: None, painter: PoorPainter
) -> None:
    painter.good_from = 9999
    found = await ended(api, await begin(api, "catalogue-batch"))
    assert by_id(found)["cut-out-again"]["status"] == "FAILED"
    assert len(found["final_step_result"]["outputs"]) == 3


async def test_a_lora_may_come_while_its_step_waits(
    api: httpx.AsyncClient, worker: object, engine: None, painter: PoorPainter
) -> None:
    workflow_id = await begin(api, "lora-then-generate", lora="identities/anna.safetensors")
    await wait_for_approval(api, workflow_id, "with-lora")
    assert [len(request.loras) for request in painter.requests] == [0]
    data = {"entity_type": "SUBJECT"}
    uploaded = await api.post("/lora/upload", files={"file": ("anna.safetensors", lora())}, data=data)
    assert uploaded.json()["partial_path"] == "identities/anna.safetensors"
    assert (await api.post(f"/workflows/{workflow_id}/steps/with-lora/approve")).status_code == 200
    await ended(api, workflow_id)
    assert [len(request.loras) for request in painter.requests] == [0, 1]


async def test_the_short_way_draws_four_and_cuts_four_out(api: httpx.AsyncClient, worker: object, engine: None) -> None:
    workflow_id = await begin(api, "product-to-model")
    found = await wait_for(api, workflow_id, "completed", "failed")
    assert [len(step["output"]["images"]) for step in found["steps"]] == [4, 4, 4]


async def wait_for_approval(api: httpx.AsyncClient, workflow_id: str, step_id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not by_id((await api.get(f"/workflows/{workflow_id}")).json())[step_id]["awaits_approval"]:
            await asyncio.sleep(0.03)
