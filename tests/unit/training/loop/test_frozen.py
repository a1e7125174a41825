"""The base below a LoRA in 8 bits: half the memory, nearly the same gradients, and nothing else rounded."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compute.pipelines.acceleration.quantization import fp8_layers
from compute.training.loop.frozen import FrozenLinear, freeze_to_fp8
from tests.unit.training.loop.rig import CPU, FAMILY, Bench, Watched, learned, spec_of


@pytest.fixture(scope="module")
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(192, 96)


def test_a_layer_keeps_its_product(layer: nn.Linear) -> None:
    frozen, given = FrozenLinear(layer), torch.randn(2, 5, 192)
    expected, found = layer(given), frozen(given)
    assert (found - expected).norm() < 0.04 * expected.norm()
    assert found.dtype == torch.float32


def test_its_product_is_in_the_format_of_what_it_is_given() -> None:
    narrow = nn.Linear(192, 96, dtype=torch.bfloat16)
    given = torch.randn(3, 192).bfloat16()
    expected, found = narrow(given), FrozenLinear(narrow)(given)
    assert found.dtype == torch.bfloat16
    assert (found - expected).float().norm() < 0.04 * expected.float().norm()


def test_rows_of_any_size_are_kept_as_well(layer: nn.Linear) -> None:
    sizes = torch.logspace(-9, 6, 96).unsqueeze(1)
    uneven = nn.Linear(192, 96, bias=False)
    uneven.weight.data = layer.weight.data * sizes
    given = torch.randn(64, 192)
    expected, found = uneven(given), FrozenLinear(uneven)(given)
    assert ((found - expected).norm(dim=0) < 0.05 * expected.norm(dim=0)).all()


def test_rows_of_zeros_stay_zeros() -> None:
    empty = nn.Linear(16, 16)
    nn.init.zeros_(empty.weight)
    assert torch.equal(FrozenLinear(empty)(torch.randn(1, 16)), empty.bias.detach().unsqueeze(0))


def test_the_gradient_goes_through_and_stops_at_the_weights(layer: nn.Linear) -> None:
    frozen, direction = FrozenLinear(layer), torch.randn(3, 96)
    wide = nn.Linear(192, 96)
    wide.weight.data = frozen.weight.float() * frozen.scale
    wide.bias.data = layer.bias.data
    slopes = []
    for one in (wide, frozen):
        given = torch.ones(3, 192, requires_grad=True)
        (one(given) * direction).sum().backward()
        slopes.append(given.grad)
    torch.testing.assert_close(slopes[0], slopes[1])
    assert not any(weight.requires_grad for weight in frozen.parameters())


def test_the_backward_pass_keeps_no_wide_weight(layer: nn.Linear) -> None:
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    frozen, given = FrozenLinear(layer), torch.ones(3, 192, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        frozen(given)
    assert {tensor.dtype for tensor in kept if tensor.numel() >= layer.weight.numel()} == {torch.float8_e4m3fn}


@pytest.fixture(scope="module")
def modules(bench: Bench) -> dict[str, nn.Module]:
    """The transformer in bfloat16, and the same with its large layers frozen."""
    spec = spec_of()
    found: dict[str, nn.Module] = {
        name: FAMILY.load_denoiser(bench.model, spec, device=CPU, dtype=torch.bfloat16).module
        for name in ("wide", "frozen")
    }
    freeze_to_fp8(found["frozen"].requires_grad_(False))
    return found


def test_frozen_layers_take_half_the_memory(modules: dict[str, nn.Module]) -> None:
    names = fp8_layers(modules["wide"])
    assert len(names) > 20
    kinds = {type(modules["frozen"].get_submodule(name)) for name in names}
    assert kinds == {FrozenLinear}
    wide, frozen = (sum(_bytes(module.get_submodule(name)) for name in names) for module in modules.values())
    assert frozen < 0.54 * wide


def test_all_others_stay_as_they_are(modules: dict[str, nn.Module]) -> None:
    names = set(fp8_layers(modules["wide"]))
    for name, module in modules["wide"].named_modules():
        if isinstance(module, nn.Linear) and name not in names:
            other = modules["frozen"].get_submodule(name)
            assert type(other) is nn.Linear
            assert torch.equal(other.weight, module.weight)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_lora_learns_nearly_the_same_from_it(bench: Bench, tmp_path: Path, precision: str) -> None:
    """After one plain step the second halves, which were zeros, are the gradient."""
    asked = spec_of(optimizer="sgd", steps=1, batch_size=4, precision=precision, moves={"weight_decay": 0})
    full, frozen = (
        learned(bench.train(asked.model_copy(update={"base_precision": base})), tmp_path / base)
        for base in ("full", "fp8")
    )
    halves = [name for name in full if ".lora_B." in name]
    one, other = (torch.cat([found[name].flatten() for name in halves]) for found in (full, frozen))
    assert one.norm() > 0
    assert torch.cosine_similarity(one, other, dim=0) > 0.98
    # The first halves have not moved yet: they are as they were drawn, in 32 bits.
    for name in full.keys() - halves:
        assert torch.equal(full[name], frozen[name])
        assert not torch.equal(frozen[name], frozen[name].bfloat16().float())


def test_it_learns_as_well_as_without(bench: Bench) -> None:
    asked = spec_of(steps=12, learning_rate=3e-3)
    full = bench.train(asked).history.losses
    frozen = bench.train(asked.model_copy(update={"base_precision": "fp8"})).history.losses
    assert frozen == pytest.approx(full, rel=0.03)
    assert frozen != full


def test_adapters_are_float32_beside_8_bits(bench: Bench) -> None:
    watched = Watched()
    bench.train(spec_of(base_precision="fp8"), family=watched.family)
    formats = {name: weight.dtype for name, weight in watched.module.named_parameters()}
    assert {kind for name, kind in formats.items() if ".lora_" in name} == {torch.float32}
    assert torch.float8_e4m3fn in formats.values()


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
