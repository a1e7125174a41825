"""Faults that only show when inputs are looked for: told together, and nothing is kept of what is refused."""

import base64
from typing import Any

import httpx

from compute.settings import Settings
from compute.storage.factory import open_store
from tests.integration.api.images.test_storage import picture

SMALL = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1}
INLINE = base64.b64encode(picture()).decode()
SCRIPT = "http://10.0.0.1/hook"


async def locs(api: httpx.AsyncClient, path: str, body: dict[str, Any]) -> set[tuple[str | int, ...]]:
    answer = await api.post(path, json=body)
    assert answer.status_code == 422, answer.text
    return {tuple(fault["loc"][1:]) for fault in answer.json()["detail"]}


async def test_faults_of_many_tasks(api: httpx.AsyncClient, settings: Settings) -> None:
    tasks = [
        SMALL | {"reference_image_data": INLINE},
        SMALL | {"reference_image_url": "refs/none.png"},
        SMALL | {"width": 72},
        SMALL | {"style_model_path": "styles/none.safetensors", "webhook_url": SCRIPT},
    ]
    found = await locs(api, "/tasks/bulk", {"tasks": tasks})
    assert found == {
        ("tasks", 1, "reference_image_url"),
        ("tasks", 2, "width"),
        ("tasks", 3, "style_model_path"),
        ("tasks", 3, "webhook_url"),
    }
    assert await open_store(settings).list("", 10) == []


async def test_faults_of_a_training(api: httpx.AsyncClient, settings: Settings) -> None:
    sources = [INLINE, "refs/none.png", "loras/styles/a.png", SCRIPT]
    body = {"trigger_word": "zx", "source_images": sources, "webhook_url": SCRIPT}
    found = await locs(api, "/training/", body)
    assert found == {("webhook_url",), *(("source_images", index) for index in (1, 2, 3))}
    assert await open_store(settings).list("", 10) == []


async def test_faults_of_the_first_steps_of_a_workflow(api: httpx.AsyncClient, settings: Settings) -> None:
    wrong = [{"reference_image_url": "refs/none.png"}, {"style_model_path": "styles/none.safetensors"}]
    configs = [{"reference_image_data": INLINE}, *wrong]
    steps = [{"id": f"s{n}", "task_type": "GENERATION", "config": SMALL | one} for n, one in enumerate(configs)]
    found = await locs(api, "/workflows/", {"name": "w", "steps": steps})
    assert found == {("steps", 1, "config", "reference_image_url"), ("steps", 2, "config", "style_model_path")}
    assert await open_store(settings).list("", 10) == []
