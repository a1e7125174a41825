"""Every type through HTTP: accepted, run, shown in both dialects, cleaned up; and what each of them refuses."""

import base64
import io
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image

from compute.schemas.enums import ProviderType, TaskType
from compute.tasks.registry import all_kinds
from tests.integration.api.conftest import Painter, wait_for
from tests.pictures import portrait, product


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


PRODUCT, PORTRAIT = data_url(product((96, 96))), data_url(portrait((96, 96)))
SMALL, BLANK = data_url(Image.new("RGB", (32, 32), "teal")), data_url(Image.new("RGB", (32, 32), "white"))

BODIES: dict[TaskType, dict[str, Any]] = {
    TaskType.GENERATION: {"prompt": "a dress", "width": 64, "height": 64, "steps": 2},
    TaskType.EDITING: {"base_image_url": SMALL, "prompt": "make it blue"},
    TaskType.REFINE: {"base_image_url": SMALL, "upscale_factor": 2, "upscale_enabled": True},
    TaskType.BACKGROUND_REMOVAL: {"input_image_paths": [PRODUCT]},
    TaskType.BACKGROUND_FIX: {"base_image": PRODUCT, "palette_image": BLANK},
    TaskType.FACE_ENHANCER: {"base_image_url": SMALL, "strength": 0.5, "preserve_identity": True},
    TaskType.DETAIL_ENHANCER: {"base_image": PRODUCT, "reference_image": PRODUCT, "detail_label": "tshirt"},
    TaskType.IMAGE_ADJUSTER: {"base_image_url": SMALL, "brightness": 0.1, "contrast": 0.05, "saturation": -0.1},
}
"""One body of each type that the test's workers can run; they have no model for clips."""


def test_every_type_is_here_but_those_that_need_another_model_or_a_provider() -> None:
    elsewhere = {name for name, kind in all_kinds().items() if kind.default_provider is not ProviderType.LOCAL}
    assert all_kinds().keys() - BODIES.keys() == {TaskType.VIDEO_GENERATION} | elsewhere


@pytest.mark.parametrize("task_type", list(BODIES))
async def test_a_task_of_every_type_runs_from_post_to_cleanup(
    api: httpx.AsyncClient, worker: Painter, anonymous: httpx.AsyncClient, task_type: TaskType
) -> None:
    accepted = await api.post("/tasks/", json={"task_type": task_type} | BODIES[task_type])
    assert accepted.status_code == 201, accepted.text
    done = await wait_for(api, accepted.json()["id"], "COMPLETED", "FAILED")
    assert done["status"] == "COMPLETED", done["errors"]
    assert done["task_type"] == task_type
    assert done["metadata"]["outputs"][0]["sha256"]
    assert done["metadata"]["versions"]["compute"]
    assert done["metadata"]["timing_ms"] >= 0
    link = done.get("result_image_url") or done["result_image_urls"][0]
    image = Image.open(io.BytesIO((await anonymous.get(link)).content))
    assert image.size == (done["metadata"]["outputs"][0]["width"], done["metadata"]["outputs"][0]["height"])

    quick = (await api.get(f"/tasks/task_{UUID(done['id']).hex}")).json()
    assert (quick["status"], quick["type"]) == ("completed", task_type.lower())
    assert len(quick["output"]["images"]) == len(done["metadata"]["outputs"])

    cleaned = await api.post(f"/tasks/{done['id']}/cleanup")
    assert cleaned.json()["deleted_files"] == len(done["metadata"]["outputs"])
    assert (await anonymous.get(link)).status_code == 404


async def test_the_same_image_sent_twice_is_stored_once(api: httpx.AsyncClient) -> None:
    for body in (BODIES[TaskType.EDITING], BODIES[TaskType.EDITING]):
        assert (await api.post("/tasks/", json={"task_type": "EDITING"} | body)).status_code == 201
    assert (await api.get("/storage/images", params={"prefix": "inputs/"})).json()["count"] == 1


@pytest.mark.parametrize(
    ("alias", "body"),
    [
        ("BACKGROUND_REMOVE", {"image_url": PRODUCT, "output_format": "webp"}),
        ("background_removal", {"input_image_paths": [PRODUCT]}),
    ],
)
async def test_other_names_of_a_type_work(api: httpx.AsyncClient, alias: str, body: dict[str, Any]) -> None:
    accepted = await api.post("/tasks/", json={"task_type": alias} | body)
    assert accepted.status_code == 201, accepted.text
    assert accepted.json()["task_type"] == "BACKGROUND_REMOVAL"


REFUSED: list[tuple[TaskType, dict[str, Any], str]] = [
    (TaskType.EDITING, {"base_image": SMALL, "prompt": "x", "strength": 1.5}, "strength"),
    (TaskType.EDITING, {"base_image": "data:image/png;base64,", "prompt": "x"}, "base_image"),
    (TaskType.EDITING, {"base_image": "aGVsbG8gd29ybGQ=", "prompt": "x"}, "base_image"),
    (TaskType.EDITING, {"prompt": "x"}, "base_image"),
    (TaskType.REFINE, {"base_image_url": SMALL, "upscale_factor": 0.5}, "upscale_factor"),
    (TaskType.REFINE, {"base_image_url": SMALL, "upscale_factor": 100}, "upscale_factor"),
    (TaskType.REFINE, {"base_image_url": SMALL, "target_width": 16000, "target_height": 16000}, "target_width"),
    (
        TaskType.REFINE,
        {"base_image_url": SMALL, "upscale_factor": 2, "active_provider_capabilities": ["OUTPUT_SIZE"]},
        "upscale_factor",
    ),
    (TaskType.VIDEO_GENERATION, {"input_image_url": SMALL, "duration": 0}, "duration"),
    (TaskType.VIDEO_GENERATION, {"input_image_url": SMALL, "duration_seconds": 61}, "duration_seconds"),
    (TaskType.VIDEO_GENERATION, {"input_image_url": SMALL, "duration": 2}, "queue_name"),
    (TaskType.BACKGROUND_REMOVAL, {"input_image_paths": []}, "input_image_paths"),
    (TaskType.BACKGROUND_REMOVAL, {"input_image_paths": [SMALL] * 1000}, "input_image_paths"),
    (
        TaskType.BACKGROUND_REMOVAL,
        {"input_image_paths": [SMALL], "provider_config": {"rembg_model": "u3net"}},
        "provider_config",
    ),
    (TaskType.BACKGROUND_FIX, {"base_image": SMALL}, "palette_image"),
    (TaskType.FACE_ENHANCER, {"input_image": SMALL, "strength": 2}, "strength"),
    (TaskType.DETAIL_ENHANCER, {"reference_image": SMALL}, "base_image"),
    (
        TaskType.IMAGE_ADJUSTER,
        {"input_image": SMALL, "aspect_ratio": 1, "target_width": 9, "target_height": 9},
        "aspect_ratio",
    ),
    (TaskType.IMAGE_ADJUSTER, {"input_image": SMALL, "target_width": 9}, "target_height"),
    (
        TaskType.IMAGE_ADJUSTER,
        {"input_image": SMALL, "aspect_ratio": 1, "margin_top": 0.6, "margin_bottom": 0.6},
        "margin_top",
    ),
    (
        TaskType.IMAGE_ADJUSTER,
        {"input_image": SMALL, "mode": "pad", "aspect_ratio": 1, "cropping_position": "top"},
        "cropping_position",
    ),
]


@pytest.mark.parametrize(("task_type", "body", "field"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_cannot_be_done_is_refused_by_the_name_of_the_field(
    api: httpx.AsyncClient, task_type: TaskType, body: dict[str, Any], field: str
) -> None:
    refused = await api.post("/tasks/", json={"task_type": task_type} | body)
    assert refused.status_code == 422, refused.text
    assert field in refused.json()["detail"][0]["loc"], refused.text
    assert (await api.get("/tasks/")).json() == []
    assert (await api.get("/storage/images")).json()["count"] == 0
