"""The workflow of the examples, as they send it."""

import io
from typing import Any

import httpx
from PIL import Image

from tests.integration.api.workflows.conftest import wait_for


def sample(**config: Any) -> dict[str, Any]:
    """Document 1's body; `config` joins that of its first step."""
    first = {"prompt": "model wearing product", "num_outputs": 4, **config}
    return {
        "name": "product-to-model",
        "steps": [
            {"name": "generate-base", "type": "generation", "config": first},
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


async def test_the_sample_generates_enlarges_and_cuts_out_all_four_images(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, worker: object, engine: None
) -> None:
    created = await api.post("/workflows/", json=sample(width=64, height=64))
    assert created.status_code == 201, created.text
    workflow = created.json()
    assert (workflow["status"], workflow["id"][:3]) == ("pending", "wf_")
    started = await api.post(f"/workflows/{workflow['id']}/start", json={"input": {}})
    assert started.status_code == 200, started.text

    ended = await wait_for(api, workflow["id"], "completed", "failed")
    assert ended["status"] == "completed", ended
    assert [step["status"] for step in ended["steps"]] == ["completed"] * 3
    assert [len(step["output"]["images"]) for step in ended["steps"]] == [4, 4, 4]
    pictures = []
    for step in ended["steps"]:
        answer = await anonymous.get(step["output"]["images"][3]["url"])
        pictures.append(Image.open(io.BytesIO(answer.content)))
    assert [(picture.size, picture.mode) for picture in pictures] == [
        ((64, 64), "RGB"),
        ((128, 128), "RGB"),
        ((128, 128), "RGBA"),
    ]
