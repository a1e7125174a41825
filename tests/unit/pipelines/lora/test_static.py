"""The rank buffers compute what PEFT computes, leave the base alone, and remember nothing."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compute.errors import InvalidInput
from compute.pipelines.lora.buffers import Slot
from compute.pipelines.lora.linear import LoraLinear
from compute.worker.protocol import LoraSelection
from tests.unit.pipelines.lora.rig import RANK, Rig, load_pipeline, make_plain, run, static_loras, write

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def rig(tiny_folder: Path) -> Rig:
    pipeline = load_pipeline(tiny_folder)
    return Rig(pipeline, static_loras(pipeline), load_pipeline(tiny_folder))


@pytest.fixture(scope="module")
def four(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoraSelection, ...]:
    folder = tmp_path_factory.mktemp("four")
    chosen: list[tuple[int, float, float | None]] = [(4, 0.8, None), (16, -0.5, 8.0), (8, 1.3, 16.0), (3, 0.25, 1.0)]
    return tuple(
        make_plain(folder / f"{index}.safetensors", rig.card, rank=rank, weight=weight, alpha=alpha, seed=index)
        for index, (rank, weight, alpha) in enumerate(chosen)
    )


def fingerprint(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def weighted(selections: tuple[LoraSelection, ...], *weights: float) -> tuple[LoraSelection, ...]:
    return tuple(
        LoraSelection(one.name, one.path, weight, one.field) for one, weight in zip(selections, weights, strict=True)
    )


def buffers(rig: Rig) -> tuple[torch.Tensor, torch.Tensor]:
    return rig.loras._buffers._down, rig.loras._buffers._up


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_loras_gives_what_peft_gives(rig: Rig, four: tuple[LoraSelection, ...], count: int) -> None:
    with rig.peft(four[:count]) as peft:
        expected = peft()
    assert (expected - rig.base()).abs().max() > 0.1
    assert (rig.forward(four[:count]) - expected).abs().max() <= TOLERANCE
    assert not rig.loras.on_peft


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.0, 0.7), (0.0, 0.0), (-0.3, 2.5)])
def test_negative_and_zero_weights_are_those_of_peft(
    rig: Rig, four: tuple[LoraSelection, ...], weights: tuple[float, float]
) -> None:
    chosen = weighted(four[:2], *weights)
    with rig.peft(chosen) as peft:
        assert (rig.forward(chosen) - peft()).abs().max() <= TOLERANCE


def test_without_loras_the_base_is_there_to_the_last_bit(rig: Rig, four: tuple[LoraSelection, ...]) -> None:
    rig.forward(four)
    assert torch.equal(rig.forward(()), rig.base())
    assert torch.equal(rig.forward(weighted(four[:1], 0.0)), rig.base())


def test_the_models_state_is_that_of_a_model_without_buffers(rig: Rig) -> None:
    assert fingerprint(rig.pipeline.transformer) == fingerprint(rig.plain.transformer)
    linears = [module for module in rig.pipeline.transformer.modules() if isinstance(module, torch.nn.Linear)]
    assert {type(module) for module in linears} == {LoraLinear}


def test_a_thousand_switches_change_neither_the_base_nor_the_addresses(
    rig: Rig, four: tuple[LoraSelection, ...]
) -> None:
    before = fingerprint(rig.pipeline.transformer)
    layer = rig.pipeline.transformer.transformer_blocks[0].attn.to_q
    addresses = (layer.lora_down.data_ptr(), layer.lora_up.data_ptr())
    expected = rig.forward(four)
    for number in range(1000):
        start = number % len(four)
        rig.loras.apply(weighted(four[start:], *[0.1 + number % 7] * (len(four) - start)))
    assert fingerprint(rig.pipeline.transformer) == before
    assert (layer.lora_down.data_ptr(), layer.lora_up.data_ptr()) == addresses
    assert torch.equal(rig.forward(four), expected)
    assert torch.equal(rig.forward(()), rig.base())


def test_the_order_of_the_slots_changes_no_bit(rig: Rig, four: tuple[LoraSelection, ...]) -> None:
    assert torch.equal(rig.forward(four), rig.forward(four[::-1]))


def test_two_slots_with_the_same_lora_add_up(rig: Rig, four: tuple[LoraSelection, ...]) -> None:
    twice = weighted((four[0], four[0]), 0.25, 0.5)
    assert torch.equal(rig.forward(twice), rig.forward(weighted(four[:1], 0.75)))
    assert torch.equal(rig.forward(weighted((four[0], four[0]), 0.5, -0.5)), rig.base())


def test_rows_without_a_lora_are_zero_whatever_was_in_them(rig: Rig, four: tuple[LoraSelection, ...]) -> None:
    rig.loras.apply(four)
    rig.loras.apply(four[3:])
    for rows in buffers(rig):
        assert rows[:3].any()
        assert not rows[3:].any()
    rig.loras.apply(())
    assert not any(rows.any() for rows in buffers(rig))


def test_other_weights_of_the_same_loras_touch_the_up_rows_alone(rig: Rig, four: tuple[LoraSelection, ...]) -> None:
    rig.loras.apply(four[:2])
    down, up = buffers(rig)
    # A mark that only a copy would remove.
    down[0, 0] = up[0, 0] = up[5, 0] = 77.0
    rig.loras.apply(weighted(four[:2], 0.8, 0.9))
    assert (down[0, 0], up[0, 0]) == (77.0, 77.0)
    assert up[5, 0] != 77.0
    rig.loras.apply(())


def test_a_set_that_fills_every_rank_fits(rig: Rig, tmp_path: Path) -> None:
    whole = make_plain(tmp_path / "whole.safetensors", rig.card, rank=RANK)
    with rig.peft((whole,)) as peft:
        assert (rig.forward((whole,)) - peft()).abs().max() <= TOLERANCE
    assert not rig.loras.on_peft


def test_layers_of_different_ranks_in_one_file(rig: Rig, four: tuple[LoraSelection, ...], tmp_path: Path) -> None:
    wide, narrow = load_file(four[1].path), load_file(four[0].path)
    mixed = {name: (narrow if "single" in name else wide)[name] for name in narrow if "alpha" not in name}
    selection = write(tmp_path / "mixed.safetensors", mixed, 0.6)
    with rig.peft((selection,)) as peft:
        assert (rig.forward((selection,)) - peft()).abs().max() <= TOLERANCE


def test_numbers_that_are_not_finite_are_refused_and_leave_no_trace(
    rig: Rig, four: tuple[LoraSelection, ...], tmp_path: Path
) -> None:
    tensors = load_file(four[0].path)
    tensors["transformer.x_embedder.lora_A.weight"][0, 0] = float("nan")
    broken = write(tmp_path / "nan.safetensors", tensors)
    expected = rig.forward(four[:2])
    with pytest.raises(InvalidInput, match="not finite") as caught:
        rig.loras.apply((*four[:2], broken))
    assert caught.value.field == "field_nan"
    assert "nan" not in rig.loras.loaded
    assert torch.equal(rig.forward(four[:2]), expected)


def test_a_copy_that_fails_halfway_is_made_good_by_the_next(rig: Rig, four: tuple[LoraSelection, ...]) -> None:
    expected = rig.forward(four[:2])
    flats: Any = [rig.loras._store.get(one).flat for one in four]
    torn = replace(flats[2], up=flats[2].up[:, :-1])
    with pytest.raises(RuntimeError):
        rig.loras._buffers.fill([Slot("2", 1.0, torn), Slot("1", 1.0, flats[1])])
    assert torch.equal(rig.forward(()), rig.base())
    assert torch.equal(rig.forward(four[:2]), expected)


def test_the_base_may_be_quantised(tiny_folder: Path, four: tuple[LoraSelection, ...]) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    plain, pipeline = load_pipeline(tiny_folder), load_pipeline(tiny_folder)
    for one in (plain, pipeline):
        torchao.quantize_(one.transformer, torchao.Int8WeightOnlyConfig())
    rig = Rig(pipeline, static_loras(pipeline), plain)
    assert torch.equal(rig.forward(()), rig.base())
    rig.loras.apply(four[:2])
    layer = pipeline.transformer.transformer_blocks[0].attn.to_q
    x = torch.randn(1, 7, layer.in_features, generator=torch.Generator().manual_seed(1))
    change = x @ layer.lora_down.T @ layer.lora_up
    assert change.abs().max() > 0.1
    base = plain.transformer.transformer_blocks[0].attn.to_q(x)
    assert (layer(x) - (base + change)).abs().max() <= TOLERANCE
    assert run(pipeline.transformer).isfinite().all()
