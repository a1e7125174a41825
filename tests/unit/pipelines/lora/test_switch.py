"""LoRAs on a warm pipeline: each request sees its own, whatever ran before."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from compute.errors import InvalidInput
from compute.pipelines import ModelConfig, load
from compute.pipelines.flux.model import FluxModel
from compute.worker.protocol import GenerateRequest, LoraSelection

Draw = Callable[..., np.ndarray]
MakeLora = Callable[..., LoraSelection]
VISIBLE = 2.0


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def adapters(flux: FluxModel) -> set[str]:
    """Names of all adapters that are in the layers, half-loaded ones included."""
    parts = (flux.pipeline.transformer, flux.pipeline.text_encoder)
    return {name for part in parts for module in part.modules() for name in getattr(module, "lora_A", {})}


@pytest.fixture
def four(make_lora: MakeLora) -> tuple[LoraSelection, ...]:
    return tuple(make_lora(seed, weight) for seed, weight in ((1, 1.0), (2, 0.7), (3, 0.5), (4, -0.4)))


@pytest.fixture
def unfit(flux: FluxModel, draw: Draw, make_lora: MakeLora) -> Iterator[Callable[[LoraSelection], InvalidInput]]:
    """Refusing a LoRA must leave no trace: neither an adapter nor a changed pixel."""
    good = make_lora(1)
    plain, adapted, there = draw(), draw(loras=(good,)), adapters(flux)

    def refused(selection: LoraSelection) -> InvalidInput:
        with pytest.raises(InvalidInput) as caught:
            draw(loras=(good, selection))
        return caught.value

    yield refused
    assert adapters(flux) <= there
    assert np.array_equal(adapted, draw(loras=(good,)))
    assert np.array_equal(plain, draw())


def test_each_of_four_changes_the_picture(draw: Draw, four: tuple[LoraSelection, ...]) -> None:
    together = draw(loras=four)
    assert distance(together, draw()) > VISIBLE
    for left_out in four:
        assert distance(together, draw(loras=tuple(one for one in four if one is not left_out))) > VISIBLE


def test_the_weight_matters_and_weight_zero_is_no_lora(draw: Draw, make_lora: MakeLora) -> None:
    plain, full = draw(), draw(loras=(make_lora(1),))
    assert 0 < distance(plain, draw(loras=(make_lora(1, 0.2),))) < distance(plain, full)
    assert np.array_equal(plain, draw(loras=(make_lora(1, 0.0),)))


def test_what_ran_before_changes_no_byte(draw: Draw, four: tuple[LoraSelection, ...]) -> None:
    sets: list[tuple[LoraSelection, ...]] = [(), four[:1], four[1:3], four]
    expected = [draw(loras=chosen) for chosen in sets]
    for order in list(permutations(range(len(sets))))[::5]:
        for index in order:
            assert np.array_equal(expected[index], draw(loras=sets[index]))


def test_the_order_of_the_slots_changes_no_byte(models_root: Path, four: tuple[LoraSelection, ...]) -> None:
    # In bfloat16 the order of a sum shows; float32 would hide it behind 8-bit pixels.
    model = load(ModelConfig(device="cpu", dtype="bfloat16"), models_root)
    request = GenerateRequest(prompt="x", width=64, height=64, steps=2, guidance_scale=3.5, seed=1)
    one, other = (
        np.asarray(model.generate(replace(request, loras=loras), lambda done, total: None))
        for loras in (four, four[::-1])
    )
    assert np.array_equal(one, other)


def test_two_slots_with_the_same_lora_add_up(draw: Draw, make_lora: MakeLora) -> None:
    assert np.array_equal(draw(loras=(make_lora(1, 0.25), make_lora(1, 0.5))), draw(loras=(make_lora(1, 0.75),)))


def test_image_to_image_applies_the_same_adapters(
    draw: Draw, make_lora: MakeLora, picture: Any, flux: FluxModel
) -> None:
    chosen = (make_lora(1),)
    draw(loras=chosen)
    there = adapters(flux)
    changed = draw(loras=chosen, image=picture, strength=0.8)
    assert distance(changed, draw(image=picture, strength=0.8)) > VISIBLE
    assert adapters(flux) == there


def test_the_least_recently_used_falls_out_and_comes_back_the_same(
    draw: Draw, make_lora: MakeLora, flux: FluxModel
) -> None:
    many = [make_lora(seed) for seed in range(20, 27)]
    expected = [draw(loras=(one,)) for one in many]
    for one, before in zip(many, expected, strict=True):
        assert np.array_equal(before, draw(loras=(one,)))
    assert not adapters(flux)


def test_a_lora_of_another_rank_fits_beside(draw: Draw, make_lora: MakeLora) -> None:
    wide = make_lora(31, rank=16)
    assert distance(draw(loras=(make_lora(1), wide)), draw(loras=(make_lora(1),))) > VISIBLE


def damaged(selection: LoraSelection, path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> LoraSelection:
    tensors = load_file(selection.path)
    change(tensors)
    save_file(tensors, path)
    return replace(selection, name=path.name, path=path, field="slot_2")


def test_a_truncated_file_is_refused(unfit: Any, make_lora: MakeLora, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(make_lora(2).path.read_bytes()[:-100])
    error = unfit(LoraSelection("cut", path, 1.0, "slot_2"))
    assert error.field == "slot_2"
    assert "cut off" in error.detail


def test_a_pickle_is_refused_unread(unfit: Any, tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    torch.save({"transformer.x_embedder.lora_A.weight": torch.zeros(1, 64)}, path)
    assert "safetensors" in unfit(LoraSelection("evil", path, 1.0, "slot_2")).detail


def test_a_missing_file_is_refused(unfit: Any, tmp_path: Path) -> None:
    assert unfit(LoraSelection("gone", tmp_path / "gone", 1.0, "slot_2")).field == "slot_2"


def test_wider_layers_are_refused_although_diffusers_would_widen_the_model(
    unfit: Any, make_lora: MakeLora, tmp_path: Path
) -> None:
    def widen(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.x_embedder.lora_A.weight"] = torch.ones(4, 128)
        tensors["transformer.x_embedder.lora_B.weight"] = torch.ones(64, 4)

    error = unfit(damaged(make_lora(2), tmp_path / "control.safetensors", widen))
    assert "128→64 in the LoRA and 64→64 in the model" in error.detail


def test_unknown_layers_are_refused_although_diffusers_would_skip_them(
    unfit: Any, make_lora: MakeLora, tmp_path: Path
) -> None:
    def deepen(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".transformer_blocks.1." in name]:
            tensors[name.replace("_blocks.1.", "_blocks.18.")] = tensors.pop(name)

    assert "no layer" in unfit(damaged(make_lora(2), tmp_path / "deep.safetensors", deepen)).detail


def test_a_text_encoder_part_that_does_not_fit_leaves_no_half_loaded_adapter(
    unfit: Any, make_lora: MakeLora, tmp_path: Path
) -> None:
    def add_wrong_text_layers(tensors: dict[str, torch.Tensor]) -> None:
        name = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.ones(4, 7)
        tensors[f"{name}.lora_B.weight"] = torch.ones(9, 4)

    error = unfit(damaged(make_lora(2), tmp_path / "text.safetensors", add_wrong_text_layers))
    assert error.field == "slot_2"


def test_a_text_encoder_part_acts_and_its_prompts_are_not_reused_without_it(
    draw: Draw, make_lora: MakeLora, tmp_path: Path
) -> None:
    def add_text_layers(tensors: dict[str, torch.Tensor]) -> None:
        random = torch.Generator().manual_seed(5)
        for layer in range(2):
            name = f"text_encoder.text_model.encoder.layers.{layer}.self_attn.v_proj"
            tensors[f"{name}.lora_A.weight"] = torch.randn(4, 32, generator=random)
            tensors[f"{name}.lora_B.weight"] = torch.randn(32, 4, generator=random)

    both = damaged(make_lora(2), tmp_path / "both.safetensors", add_text_layers)
    plain, image_part = draw(), draw(loras=(make_lora(2),))
    changed = draw(loras=(both,))
    assert distance(changed, image_part) > VISIBLE
    assert np.array_equal(plain, draw())
    assert np.array_equal(image_part, draw(loras=(make_lora(2),)))
    assert np.array_equal(changed, draw(loras=(both,)))


def renamed(selection: LoraSelection, path: Path, rename: Callable[[str], str], **extra: torch.Tensor) -> LoraSelection:
    save_file({rename(name): tensor for name, tensor in load_file(selection.path).items()} | extra, path)
    return LoraSelection(path.name, path, 1.0)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("transformer.", "base_model.model.", 1),
        lambda name: name.replace("transformer.", "", 1),
        lambda name: name.replace("transformer.", "base_model.model.", 1).replace(".weight", ".default.weight"),
        lambda name: name.replace("lora_A", "lora_down").replace("lora_B", "lora_up"),
    ],
    ids=["peft", "bare", "peft-default", "lora_down"],
)
def test_other_spellings_of_the_same_lora_draw_the_same(
    draw: Draw, make_lora: MakeLora, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    original = make_lora(2)
    assert np.array_equal(
        draw(loras=(original,)), draw(loras=(renamed(original, tmp_path / "other.safetensors", rename),))
    )


def as_original(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The output projections of the double blocks, by the names of the original FLUX code."""
    found = {}
    for name, tensor in tensors.items():
        if name.split(".lora_")[0].endswith("to_out.0") and ".transformer_blocks." in name:
            index, half = name.split(".")[2], "lora_down" if "lora_A" in name else "lora_up"
            found[f"double_blocks.{index}.img_attn.proj.{half}.weight"] = tensor
    return found


def kohya_name(name: str) -> str:
    layer, _, half = name.partition(".lora_")
    return f"lora_unet_{layer.replace('.', '_')}.lora_{half}"


@pytest.mark.parametrize("layout", ["kohya", "comfyui", "comfyui-peft"])
def test_kohya_and_comfyui_files_draw_as_diffusers_files_do(
    draw: Draw, make_lora: MakeLora, tmp_path: Path, layout: str
) -> None:
    tensors = load_file(make_lora(2).path)
    original = as_original(tensors)
    kept = {name: tensor for name, tensor in tensors.items() if "to_out.0" in name}
    save_file(kept, tmp_path / "diffusers.safetensors")
    spell: dict[str, Callable[[str], str]] = {
        "kohya": kohya_name,
        "comfyui": lambda name: f"diffusion_model.{name}",
        "comfyui-peft": lambda name: f"diffusion_model.{name}".replace("_down", "_A").replace("_up", "_B"),
    }
    save_file({spell[layout](name): tensor for name, tensor in original.items()}, tmp_path / "other.safetensors")
    expected = draw(loras=(LoraSelection(f"kept-{layout}", tmp_path / "diffusers.safetensors", 1.0),))
    assert distance(expected, draw()) > 0.5
    assert np.array_equal(expected, draw(loras=(LoraSelection(layout, tmp_path / "other.safetensors", 1.0),)))


def test_the_alpha_that_diffusers_stores_beside_the_weights_scales_them(
    draw: Draw, make_lora: MakeLora, tmp_path: Path
) -> None:
    tensors = load_file(make_lora(2).path)
    path = tmp_path / "alpha.safetensors"
    # The second option would let PEFT rewrite the base weights, if it were obeyed.
    options = '{"transformer.lora_alpha": 2, "transformer.r": 4, "transformer.init_lora_weights": "pissa"}'
    save_file(tensors, path, metadata={"lora_adapter_metadata": options})
    plain = draw()
    assert np.array_equal(draw(loras=(LoraSelection("alpha", path, 1.0),)), draw(loras=(make_lora(2, 0.5),)))
    assert np.array_equal(plain, draw())
