"""Numbers that are not finite never become a picture, wherever they come from."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from compute.deployments.warming.request import warm_up_request
from compute.errors import ComputeError, InvalidInput, TaskFailed
from compute.pipelines import ModelConfig, load
from compute.pipelines.families import families
from compute.pipelines.finite import FiniteCheck
from compute.pipelines.flux.model import FluxModel
from compute.pipelines.tiny.build import write_tiny_lora
from compute.schemas.enums import ErrorCategory
from compute.worker.protocol import LoraSelection, StagedModel
from tests.unit.pipelines.conftest import BASE, silent

HUGE = 1e30
"""Finite itself; what it is multiplied with is not for long."""
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2")


def test_a_weight_that_is_no_number_ends_every_draw(models_root: Path) -> None:
    """Of each family and each of its parts that a draw goes through."""
    tried = 0
    for family in families().values():
        model = load(ModelConfig(model=family.tiny_name, family=family.name, device="cpu"), models_root)
        pipeline = getattr(model, "pipeline", None) or cast("Any", model)._pipeline
        for part in PARTS:
            if getattr(pipeline, part, None) is None:
                continue
            tried += 1
            for poison in (float("nan"), float("inf")):
                with poisoned(getattr(pipeline, part), poison), pytest.raises(TaskFailed, match="not finite") as error:
                    drawn(model, family.role, prompt=f"{part} {poison}")
                assert error.value.category == ErrorCategory.INTERNAL
                assert family.tiny_name in error.value.detail
        drawn(model, family.role, prompt="sound again")
    assert tried >= 4 * 3 + 3


@pytest.mark.parametrize("peft", [False, True], ids=["static", "peft"])
def test_a_lora_whose_numbers_overflow_is_named(peft: bool, models_root: Path, tmp_path: Path) -> None:
    config = ModelConfig(device="cpu", lora_rank=0 if peft else 64)
    model = cast("FluxModel", load(config, models_root))
    before = model.generate(BASE, silent)
    lora = huge_lora(models_root / "tiny-flux", tmp_path)
    with pytest.raises(InvalidInput) as error:
        model.generate(replace(BASE, loras=(lora,)), silent)
    assert error.value.field == "product_model_path"
    assert model.generate(BASE, silent).tobytes() == before.tobytes()


@pytest.mark.parametrize(
    "proof", [(), (LoraSelection("small", Path("small.safetensors"), 1.0),)], ids=["plain", "LoRA"]
)
def test_what_only_a_lora_makes_infinite_is_its_fault(proof: tuple[LoraSelection, ...]) -> None:
    """However sound its file is: what a layer multiplies may still grow beyond all bounds."""
    check = FiniteCheck("a-model")
    lora = LoraSelection("big", Path("big.safetensors"), 2.0, field="style_model_path")
    nothing = torch.full((1, 3, 8, 8), float("nan"))
    # Nothing was drawn yet, as after a model came back to its device: either may be the cause.
    with pytest.raises(TaskFailed, match=r"style_model_path \(weight 2\) the model a-model .* or its own weights"):
        check.latents(nothing, (lora,))
    check.pixels(torch.zeros(1, 3, 8, 8), proof)
    for look in (check.latents, check.pixels):
        with pytest.raises(InvalidInput, match=r"style_model_path \(weight 2\).*not finite") as error:
            look(nothing, (lora,))
        assert error.value.field == "style_model_path"
        with pytest.raises(TaskFailed, match="a-model"):
            look(nothing)


def test_a_lora_on_a_broken_model_is_not_to_blame(models_root: Path, tmp_path: Path) -> None:
    model = cast("FluxModel", load(ModelConfig(device="cpu"), models_root))
    lora = LoraSelection("good", write_tiny_lora(tmp_path / "good.safetensors", models_root / "tiny-flux"), 1.0)
    with poisoned(model.pipeline.vae, float("nan")), pytest.raises(TaskFailed, match="tiny-flux"):
        model.generate(replace(BASE, loras=(lora,)), silent)


@pytest.mark.parametrize("start", ["image", "mask"])
def test_every_way_to_begin_is_looked_through(start: str, models_root: Path) -> None:
    model = cast("FluxModel", load(ModelConfig(device="cpu"), models_root))
    picture = Image.new("RGB", (64, 64), "teal")
    mask = Image.new("L", (64, 64), 255) if start == "mask" else None
    request = replace(BASE, image=picture, strength=0.5, mask=mask)
    with poisoned(model.pipeline.transformer, float("nan")), pytest.raises(ComputeError, match="not finite"):
        model.generate(request, silent)


def drawn(model: StagedModel, role: Any, prompt: str) -> Any:
    """Each prompt is encoded once."""
    request = replace(warm_up_request(role), prompt=prompt)
    return model.decode(model.denoise(model.prepare(request), silent))


class poisoned:  # noqa: N801 - a context manager that reads like a state
    """Inside, every weight is `value`."""

    def __init__(self, part: torch.nn.Module, value: float) -> None:
        self._weights = list(part.parameters())
        self._value = value

    def __enter__(self) -> None:
        self._before = [weight.detach().clone() for weight in self._weights]
        with torch.no_grad():
            for weight in self._weights:
                weight.fill_(self._value)

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for weight, before in zip(self._weights, self._before, strict=True):
                weight.copy_(before)


def huge_lora(model: Path, folder: Path) -> LoraSelection:
    path = write_tiny_lora(folder / "huge.safetensors", model)
    save_file({name: tensor * HUGE**0.5 for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return LoraSelection("huge", path, 2.0, field="product_model_path")
