"""Uses the family of docs/howto/add-a-model-family.md, where that is installed: it draws, the same again, and stops."""

from dataclasses import replace
from pathlib import Path

import yaml

from compute.errors import Interrupted
from compute.pipelines import ModelConfig, load
from compute.worker.protocol import GenerateRequest
from tests.unit.docs.blocks import blocks_of

REQUEST = GenerateRequest(
    prompt="a red dress", width=64, height=48, steps=3, guidance_scale=5.0, seed=1, negative_prompt="blue"
)
CHANGES = {"prompt": "a blue coat", "seed": 2, "steps": 4, "guidance_scale": 1.0, "negative_prompt": "a dress"}


def main() -> None:
    [served] = [block for block in blocks_of("docs/howto/add-a-model-family.md") if block.language == "yaml"]
    assert ModelConfig.model_validate(yaml.safe_load(served.text)["model"]).family == "sd15"

    model = load(ModelConfig(model="tiny-sd15", family="sd15"), Path("models"))
    seen: list[tuple[int, int]] = []
    first = model.generate(REQUEST, lambda done, of: seen.append((done, of)))
    assert first.size == (64, 48)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for field, value in CHANGES.items():
        other = model.generate(replace(REQUEST, **{field: value}), lambda _done, _of: None)
        assert other.tobytes() != first.tobytes(), field

    def stop(_done: int, _of: int) -> None:
        raise Interrupted("enough")

    try:
        model.generate(REQUEST, stop)
    except Interrupted:
        again = model.generate(REQUEST, lambda _done, _of: None)
    assert again.tobytes() == first.tobytes()
