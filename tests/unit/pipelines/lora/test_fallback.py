"""LoRAs that the rank buffers cannot hold: they go through PEFT, say so, and leave nothing behind."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file

from compute.errors import InvalidInput
from compute.lora.check import check_lora_file
from compute.lora.layouts import LoraMethod
from compute.pipelines.acceleration.compilation import CompiledBlocks
from compute.pipelines.config import ModelConfig
from compute.pipelines.lora.linear import LoraLinear
from compute.worker.protocol import LoraSelection
from tests.unit.pipelines.lora.rig import Rig, load_pipeline, make_plain, run, static_loras, write

LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_mlp", "norm.linear"]
METHODS: dict[LoraMethod, Callable[[], Any]] = {
    LoraMethod.DORA: lambda: LoraConfig(r=4, lora_alpha=4, use_dora=True, target_modules=LAYERS),
    LoraMethod.LOHA: lambda: LoHaConfig(r=4, alpha=4, target_modules=LAYERS),
    LoraMethod.LOKR: lambda: LoKrConfig(r=4, alpha=4, target_modules=LAYERS),
}


@pytest.fixture(scope="module")
def rig(tiny_folder: Path) -> Rig:
    pipeline = load_pipeline(tiny_folder)
    return Rig(pipeline, static_loras(pipeline), load_pipeline(tiny_folder))


@pytest.fixture(scope="module")
def plain(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> LoraSelection:
    return make_plain(tmp_path_factory.mktemp("plain") / "plain.safetensors", rig.card, rank=8, weight=0.7, seed=9)


@pytest.fixture(scope="module", params=list(METHODS))
def other(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LoraMethod, LoraSelection, torch.Tensor]:
    """An adapter that PEFT itself made and saved, and what its model computes."""
    transformer = load_pipeline(tiny_folder).transformer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        inject_adapter_in_model(METHODS[request.param](), transformer, adapter_name="made")
        with torch.no_grad():
            for name, parameter in transformer.named_parameters():
                if ("lora_" in name and "magnitude" not in name) or "hada_" in name or "lokr_" in name:
                    parameter.normal_(0.0, 0.3)
                elif "magnitude" in name:
                    parameter.mul_(1.5)
    saved = get_peft_model_state_dict(transformer, adapter_name="made")
    path = tmp_path_factory.mktemp("other") / f"{request.param}.safetensors"
    selection = write(path, {f"transformer.{name}": tensor for name, tensor in saved.items()})
    return request.param, selection, run(transformer)


def linears(rig: Rig) -> set[type]:
    return {type(module) for module in rig.pipeline.transformer.modules() if isinstance(module, torch.nn.Linear)}


def test_dora_loha_and_lokr_do_what_peft_does_and_say_why(
    rig: Rig, other: tuple[LoraMethod, LoraSelection, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    method, selection, expected = other
    assert check_lora_file(selection.path, rig.card, field="x").method is method
    with caplog.at_level(logging.INFO, logger="compute.pipelines.lora.switch"):
        drawn = rig.forward((selection,))
    assert f"goes through PEFT: it is a {method}" in caplog.text
    assert rig.loras.on_peft
    assert (drawn - expected).abs().max() <= 1e-5
    assert (drawn - rig.base()).abs().max() > 0.1
    assert torch.equal(rig.forward(()), rig.base())
    assert not rig.loras.on_peft
    assert linears(rig) == {LoraLinear}


def test_a_plain_lora_beside_another_kind_stays_in_the_buffers(
    rig: Rig, other: tuple[LoraMethod, LoraSelection, torch.Tensor], plain: LoraSelection
) -> None:
    _, selection, _ = other
    both = rig.forward((plain, selection))
    alone = rig.forward((plain,))
    assert torch.equal(rig.forward((selection, plain)), both)
    assert (both - alone).abs().max() > 0.1
    assert torch.equal(rig.forward((plain,)), alone)
    changed = LoraSelection(selection.name, selection.path, -selection.weight, selection.field)
    assert (rig.forward((plain, changed)) - both).abs().max() > 0.1
    assert torch.equal(rig.forward((plain, selection)), both)


def test_too_many_ranks_go_through_peft_and_say_why(
    rig: Rig, tmp_path: Path, plain: LoraSelection, caplog: pytest.LogCaptureFixture
) -> None:
    wide = [make_plain(tmp_path / f"{seed}.safetensors", rig.card, rank=24, weight=0.4, seed=seed) for seed in (1, 2)]
    with rig.peft((*wide, plain)) as peft, caplog.at_level(logging.INFO, logger="compute.pipelines.lora.switch"):
        assert (rig.forward((*wide, plain)) - peft()).abs().max() <= 1e-5
    assert "rank 24, or 56 with the others, is above lora_rank" in caplog.text
    assert rig.loras.on_peft
    with rig.peft(wide) as peft:
        assert (rig.forward(wide) - peft()).abs().max() <= 1e-5
    assert not rig.loras.on_peft


def test_without_buffers_everything_goes_through_peft(tiny_folder: Path, plain: LoraSelection, rig: Rig) -> None:
    pipeline = load_pipeline(tiny_folder)
    bare = Rig(pipeline, static_loras(pipeline, rank=0), rig.plain)
    assert linears(bare) == {torch.nn.Linear}
    assert (bare.forward((plain,)) - rig.forward((plain,))).abs().max() <= 1e-5
    assert bare.loras.on_peft


def test_the_alpha_of_a_loha_scales_it(rig: Rig, tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(2)
    tensors = {}
    for half, shape in (("a", (64, 4)), ("b", (4, 64))):
        for index in (1, 2):
            tensors[f"transformer.transformer_blocks.0.attn.to_q.hada_w{index}_{half}"] = torch.randn(
                shape, generator=random
            )
    alpha = {"transformer.transformer_blocks.0.attn.to_q.alpha": torch.tensor(2.0)}
    scaled = write(tmp_path / "scaled.safetensors", tensors | alpha, 0.5)
    same = write(tmp_path / "same.safetensors", tensors, 0.25)
    assert (rig.forward((scaled,)) - rig.forward((same,))).abs().max() <= 1e-5


def test_nothing_is_compiled_while_peft_acts(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    other: tuple[LoraMethod, LoraSelection, torch.Tensor],
) -> None:
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "restored afterwards")
    pipeline = load_pipeline(tiny_folder)
    loras = static_loras(pipeline)
    blocks = CompiledBlocks(pipeline.transformer, ModelConfig(compile="default", compile_cache=tmp_path))
    _, selection, expected = other
    loras.apply((selection,))
    assert loras.on_peft
    with blocks.as_they_are(loras.on_peft), torch.compiler.set_stance("fail_on_recompile"):
        assert (run(pipeline.transformer) - expected).abs().max() <= 1e-5
    loras.apply(())
    assert not loras.on_peft
    with (
        blocks.as_they_are(loras.on_peft),
        torch.compiler.set_stance("fail_on_recompile"),
        pytest.raises(RuntimeError, match="recompile"),
    ):
        run(pipeline.transformer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(next(name for name in t if "magnitude" in name or "w1" in name)), "DoRA|LoHa|LoKr"),
        (
            lambda t: t.update({"transformer.transformer_blocks.0.attn.to_q.oft_R": torch.zeros(1)}),
            "OFT files are not supported",
        ),
        (
            lambda t: t.update({"transformer.transformer_blocks.0.attn.to_q.dora_scale": torch.zeros(64, 1)}),
            "DoRA files of LyCORIS",
        ),
    ],
)
def test_another_kind_that_is_damaged_is_refused(
    rig: Rig,
    other: tuple[LoraMethod, LoraSelection, torch.Tensor],
    plain: LoraSelection,
    tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], Any],
    words: str,
) -> None:
    tensors = load_file(other[1].path)
    change(tensors)
    broken = write(tmp_path / "broken.safetensors", tensors)
    expected = rig.forward((plain,))
    with pytest.raises(InvalidInput, match=words) as caught:
        rig.loras.apply((plain, broken))
    assert caught.value.field == "field_broken"
    assert torch.equal(rig.forward((plain,)), expected)
    assert linears(rig) == {LoraLinear}


def test_a_lokr_that_passes_the_header_but_not_peft_leaves_no_trace(rig: Rig, tmp_path: Path) -> None:
    # Each layer's factors fit, but no single rule of PEFT's makes both divisions of 64.
    name = "transformer.transformer_blocks.{}.attn.to_q.lokr_w{}"
    tensors = {
        name.format(0, 1): torch.ones(2, 2),
        name.format(0, 2): torch.ones(32, 32),
        name.format(1, 1): torch.ones(4, 4),
        name.format(1, 2): torch.ones(16, 16),
    }
    with pytest.raises(InvalidInput, match="cannot be applied"):
        rig.loras.apply((write(tmp_path / "odd.safetensors", tensors),))
    assert not rig.loras.on_peft
    assert linears(rig) == {LoraLinear}
    assert torch.equal(rig.forward(()), rig.base())
