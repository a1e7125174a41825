"""A replica refuses numbers that would make black pictures before its model is touched, whatever way a LoRA takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compute.errors import InvalidInput
from compute.lora.check import check_lora_file
from compute.worker.protocol import LoraSelection
from tests.unit.pipelines.lora.rig import Rig, Tensors, load_pipeline, static_loras, write

LAYER = "transformer_blocks.0.attn.to_q"
CLIP = "text_encoder.text_model.encoder.layers.0.self_attn.v_proj"


@pytest.fixture(scope="module")
def rig(tiny_folder: Path) -> Rig:
    pipeline = load_pipeline(tiny_folder)
    return Rig(pipeline, static_loras(pipeline), load_pipeline(tiny_folder))


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def parts(kind: str) -> Tensors:
    """The tensors of one layer of 64 by 64, without a prefix."""
    match kind:
        case "LoRA" | "large LoRA":
            rank = 4 if kind == "LoRA" else 60
            return {"lora_A.weight": drawn(rank, 64), "lora_B.weight": drawn(64, rank), "alpha": torch.tensor(4.0)}
        case "DoRA":
            return parts("LoRA") | {"lora_magnitude_vector": drawn(64).abs() + 1}
        case "LoHa":
            halves = {f"hada_w{i}_{half}": (64, 4) if half == "a" else (4, 64) for i in (1, 2) for half in "ab"}
            return {name: drawn(*shape, seed=n) for n, (name, shape) in enumerate(halves.items())} | {
                "alpha": torch.tensor(4.0)
            }
        case "LoKr":
            return {"lokr_w1": drawn(4, 4), "lokr_w2": drawn(16, 16), "alpha": torch.tensor(1e10)}
        case _:
            return {
                "lokr_w1": drawn(4, 4),
                "lokr_w2_a": drawn(16, 2),
                "lokr_w2_b": drawn(2, 16),
                "alpha": torch.tensor(2.0),
            }


KINDS = ["LoRA", "large LoRA", "DoRA", "LoHa", "LoKr", "LoKr of three"]
EACH = [(kind, part) for kind in KINDS for part in parts(kind)]


def named(tensors: Tensors) -> Tensors:
    return {f"transformer.{LAYER}.{name}": tensor for name, tensor in tensors.items()}


def assert_refused(rig: Rig, selection: LoraSelection, words: str) -> None:
    """By every way in; and the model is as it was."""
    rig.loras.apply(())
    for ask in (rig.loras.apply, rig.loras.prefetch, rig.encode_with):
        with pytest.raises(InvalidInput, match=words) as caught:
            ask((selection,))
        assert caught.value.field == selection.field
    assert not rig.loras.on_peft
    assert selection.name not in rig.loras.loaded
    assert torch.equal(rig.forward(()), rig.base())


@pytest.mark.parametrize("kind", KINDS)
def test_sound_ones_act(rig: Rig, kind: str, tmp_path: Path) -> None:
    changed = rig.forward((write(tmp_path / f"sound-{kind}.safetensors", named(parts(kind))),))
    assert torch.isfinite(changed).all()
    assert (changed - rig.base()).abs().max() > 1e-4


@pytest.mark.parametrize(("kind", "part"), EACH)
def test_one_number_that_is_none(rig: Rig, kind: str, part: str, tmp_path: Path) -> None:
    tensors = parts(kind)
    tensors[part].view(-1)[0] = float("nan")
    assert_refused(rig, write(tmp_path / "broken.safetensors", named(tensors)), f"{part}.* not finite")


def huge(tensors: Tensors, *names: str) -> Tensors:
    return tensors | {name: torch.full_like(tensors[name], 3e4) for name in names}


@pytest.mark.parametrize(
    "tensors",
    [
        huge(parts("LoRA"), "lora_A.weight", "lora_B.weight"),
        huge(parts("large LoRA"), "lora_A.weight", "lora_B.weight"),
        parts("LoRA") | {"alpha": torch.tensor(1e30)},
        parts("LoRA") | {"alpha": torch.tensor(-1e30)},
        parts("DoRA") | {"lora_magnitude_vector": torch.full((64,), 1e9)},
        huge(parts("DoRA"), "lora_A.weight", "lora_B.weight"),
        huge(parts("LoHa"), "hada_w1_a", "hada_w2_b"),
        parts("LoHa") | {"alpha": torch.tensor(1e30)},
        huge(parts("LoKr"), "lokr_w1", "lokr_w2"),
        huge(parts("LoKr of three"), "lokr_w1", "lokr_w2_a"),
        parts("LoKr of three") | {"alpha": torch.tensor(1e30)},
    ],
)
def test_finite_numbers_whose_product_is_none(rig: Rig, tensors: Tensors, tmp_path: Path) -> None:
    assert_refused(rig, write(tmp_path / "huge.safetensors", named(tensors)), "far too large")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[f"{CLIP}.lora_A.weight"].fill_(float("nan")), "not finite"),
        (lambda t: t[f"{CLIP}.lora_B.weight"].fill_(1e30), "far too large"),
    ],
)
def test_the_part_of_a_text_encoder(rig: Rig, change: Callable[[Tensors], Any], words: str, tmp_path: Path) -> None:
    tensors = named(parts("LoRA")) | {f"{CLIP}.lora_A.weight": drawn(4, 32), f"{CLIP}.lora_B.weight": drawn(32, 4)}
    change(tensors)
    assert_refused(rig, write(tmp_path / "text.safetensors", tensors), words)


@pytest.mark.parametrize("alpha", ["NaN", "Infinity", "1e999", "1e30"])
def test_an_alpha_in_the_metadata(rig: Rig, alpha: str, tmp_path: Path) -> None:
    tensors = named({name: tensor for name, tensor in parts("LoRA").items() if name != "alpha"})
    metadata = {"lora_adapter_metadata": f'{{"transformer.lora_alpha": {alpha}}}'}
    assert_refused(rig, write(tmp_path / "alpha.safetensors", tensors, **metadata), "not a finite|far too large")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_fewer_bits_do_what_they_do_in_full(rig: Rig, kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    small = {name: tensor if name == "alpha" else tensor.to(dtype) for name, tensor in parts(kind).items()}
    full = {name: tensor.float() for name, tensor in small.items()}
    few = rig.forward((write(tmp_path / f"few-{kind}.safetensors", named(small)),))
    same = rig.forward((write(tmp_path / f"full-{kind}.safetensors", named(full)),))
    assert (few - same).abs().max() <= 1e-2 * same.abs().max()


@pytest.mark.parametrize("kind", ["LoRA", "LoHa", "LoKr", "LoKr of three"])
@pytest.mark.parametrize("prefix", ["lycoris_", "lora_transformer_"])
def test_flat_names_of_lycoris_are_those_of_diffusers(rig: Rig, kind: str, prefix: str, tmp_path: Path) -> None:
    spelled = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    flat = {
        f"{prefix}{LAYER.replace('.', '_')}.{spelled.get(name, name)}": tensor for name, tensor in parts(kind).items()
    }
    one = write(tmp_path / f"{prefix}{kind}.safetensors", flat)
    other = write(tmp_path / f"diffusers-{kind}.safetensors", named(parts(kind)))
    assert check_lora_file(one.path, rig.card, field="x").layers == 1
    assert (rig.forward((one,)) - rig.forward((other,))).abs().max() <= 1e-5
