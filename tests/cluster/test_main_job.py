"""The job that the product is for, on the real model code, through real replicas."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from compute.pipelines.tiny.build import write_tiny_lora
from tests.cluster.conftest import Cluster
from tests.patience import PATIENCE


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def difference(first: bytes, second: bytes) -> float:
    return float(np.abs(pixels(first) - pixels(second)).mean())


@pytest.fixture(scope="module")
def loras(cluster: Cluster) -> list[str]:
    """Four LoRAs for the tiny model, where the LoRA folder is."""
    names = [f"styles/demo-{index}.safetensors" for index in range(4)]
    for index, name in enumerate(names):
        file = cluster.home / "storage" / "loras" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tiny_lora(file, cluster.home / "models" / "tiny-flux", seed=index)
    return names


def test_four_outputs_have_four_seeds_and_four_pictures(cluster: Cluster) -> None:
    created = cluster.post("/tasks/generation", num_outputs=4, seed=11)
    task = cluster.wait(created["id"], "completed")
    assert [image["seed"] for image in task["output"]["images"]] == [11, 12, 13, 14]
    pictures = [httpx.get(image["url"], timeout=PATIENCE).content for image in task["output"]["images"]]
    assert len(set(pictures)) == 4
    assert cluster.draw(seed=13) == pictures[2], "one of several is the same as it alone"


def test_the_same_request_gives_the_same_bytes(cluster: Cluster) -> None:
    assert cluster.draw(seed=1) == cluster.draw(seed=1) != cluster.draw(seed=2)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue coat"},
        {"steps": 5},
        {"guidance_scale": 12.0},
        {"negative_prompt": "blurry"},
        {"negative_prompt": "blurry", "true_cfg_scale": 8.0},
    ],
)
def test_every_parameter_changes_the_picture(cluster: Cluster, change: dict) -> None:
    base = {"seed": 5, **({"negative_prompt": "blurry"} if "true_cfg_scale" in change else {})}
    assert difference(cluster.draw(**base), cluster.draw(**base | change)) > 0.5


def test_width_and_height_are_the_pictures(cluster: Cluster) -> None:
    picture = Image.open(io.BytesIO(cluster.draw(width=96, height=48)))
    assert picture.size == (96, 48)


def test_a_reference_image_pulls_the_picture_towards_itself(cluster: Cluster, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(buffer, "PNG")
    stored = cluster.client.post("/storage/images", files={"file": ("r.png", buffer.getvalue())}).json()
    strong = cluster.draw(seed=3, steps=8, reference_image_url=stored["path"], reference_image_strength=90)
    weak = cluster.draw(seed=3, steps=8, reference_image_url=stored["path"], reference_image_strength=0.1)
    assert difference(strong, buffer.getvalue()) < difference(weak, buffer.getvalue())


def test_loras_change_the_picture_and_swapping_leaves_no_trace(cluster: Cluster, loras: list[str]) -> None:
    plain = cluster.draw(seed=9)
    slots = dict(zip(("subject", "product", "style", "product2"), loras, strict=True))
    one = {"style_model_path": loras[0], "style_lora_weight": 1.0}
    four = {f"{slot}_model_path": name for slot, name in slots.items()}
    with_one, with_four = cluster.draw(seed=9, **one), cluster.draw(seed=9, **four)
    assert difference(plain, with_one) > 0.5
    assert difference(with_one, with_four) > 0.5
    assert cluster.draw(seed=9, **one | {"style_lora_weight": 0.2}) not in {plain, with_one}
    assert cluster.draw(seed=9, **one) == with_one
    assert cluster.draw(seed=9) == plain


def test_a_lora_for_another_model_is_refused_at_the_door(cluster: Cluster) -> None:
    from safetensors.numpy import save_file

    name = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {
        f"{name}.lora_A.weight": np.zeros((4, 3072), np.float32),
        f"{name}.lora_B.weight": np.zeros((3072, 4), np.float32),
    }
    file = cluster.home / "storage" / "loras" / "styles" / "large.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)
    answer = cluster.client.post("/tasks/", json={"prompt": "x", "style_model_path": "styles/large.safetensors"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "style_model_path"]


def test_the_ingress_has_not_loaded_torch(cluster: Cluster) -> None:
    (ingress,) = cluster.pids("Ingress")
    (worker,) = cluster.pids("Flux")
    assert "libtorch" not in Path(f"/proc/{ingress}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{worker}/maps").read_text()
