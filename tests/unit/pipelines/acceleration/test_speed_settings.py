"""Settings of speed: what is accepted, what is refused and with which words, and that fp8 and tiles stay near."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
import yaml
from diffusers import FluxTransformer2DModel
from pydantic import ValidationError
from torch import nn

from compute.pipelines import ModelConfig, load
from compute.pipelines.acceleration.attention import check_attention, set_attention
from compute.pipelines.acceleration.quantization import check_fp8, fp8_layers, to_fp8
from compute.pipelines.config import Attention
from compute.pipelines.flux.model import FluxModel
from tests.unit.pipelines.conftest import BASE, silent

CPU = torch.device("cpu")


@pytest.fixture
def transformer(tiny_folder: Path) -> Iterator[Any]:
    model = FluxTransformer2DModel.from_pretrained(tiny_folder / "transformer")
    yield model
    # diffusers also makes the kernels of one model the default of all others.
    model.set_attention_backend("native")


def test_off_and_on_mean_in_yaml_what_they_say() -> None:
    config = ModelConfig.model_validate(yaml.safe_load("{compile: off, step_cache: off}"))
    assert (config.compile, config.step_cache) == ("off", "off")
    assert ModelConfig.model_validate(yaml.safe_load("{compile: true}")).compile == "default"


def test_nothing_is_traded_for_speed_by_default() -> None:
    config = ModelConfig()
    assert (config.compile, config.quantization, config.step_cache, config.attention) == (
        "off",
        "none",
        "off",
        "native",
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"compile": "default", "offload": "sequential"}, "compile needs the weights in place"),
        ({"compile": "reduce-overhead", "offload": "model"}, "CUDA graphs"),
        ({"quantization": "fp8", "offload": "sequential"}, "quantization needs the weights in place"),
        ({"quantization": "fp8", "dtype": "float16"}, "fp8 computes beside bfloat16, not float16"),
        ({"step_cache": "turbo"}, "step_cache"),
        ({"compile": "fast"}, "compile"),
        ({"vae_tile": 100}, "vae_tile"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_names(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ModelConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization": "fp8"}, "fp8 needs a CUDA device of compute capability 8.9"),
        ({"compile": "reduce-overhead"}, "reduce-overhead .* needs a CUDA device"),
        *(({"attention": name}, f"attention: {name} needs a CUDA device") for name in get_args(Attention)[1:]),
    ],
)
def test_a_cpu_refuses_before_it_loads_what_only_a_gpu_can(
    tmp_path: Path, models_root: Path, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        load(ModelConfig.model_validate({"device": "cpu", **settings}), models_root)


@pytest.mark.parametrize(("name", "package"), [("flash", "flash-attn"), ("flash_3", "flash-attn-3"), ("sage", "sage")])
def test_missing_kernels_are_named_with_their_package(transformer: Any, name: Attention, package: str) -> None:
    with pytest.raises(ValueError, match=f"attention: {name} needs the package {package}"):
        set_attention(transformer, name)


def test_kernels_reach_every_attention_layer(transformer: Any) -> None:
    set_attention(transformer, "cudnn")
    chosen = {str(block.attn.processor._attention_backend.value) for block in transformer.transformer_blocks}
    assert chosen == {"_native_cudnn"}


def test_native_attention_is_right_everywhere() -> None:
    check_attention("native", CPU, torch.float32)


def test_fp8_takes_the_large_products_and_leaves_what_steers_them(transformer: Any) -> None:
    chosen = fp8_layers(transformer)
    layers = dict(transformer.named_modules())
    left = [name for name, layer in layers.items() if isinstance(layer, nn.Linear) and name not in chosen]
    assert len(chosen) == 2 * 12 + 2 * 5
    assert all("blocks." in name for name in chosen)
    assert all(".norm" in name or "blocks." not in name for name in left)


def test_fp8_without_its_package_names_the_extra(transformer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ValueError, match=r"install compute\[fp8\]"):
        to_fp8(transformer, CPU)


def test_fp8_refuses_a_cpu_by_name() -> None:
    with pytest.raises(ValueError, match=r"8\.9 or newer"):
        check_fp8(CPU, torch.bfloat16)


class _InFp8(nn.Module):
    """What the layer computes on a GPU with fp8, with torchao's own rounding and a CPU's product."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = _rounded(base.weight), base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(_rounded(x), self.weight, self.bias)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    from torchao.quantization import PerRow
    from torchao.quantization.quantize_.workflows.float8.float8_tensor import Float8Tensor

    rows = values.detach().to(torch.bfloat16).flatten(end_dim=-2)
    return Float8Tensor.from_hp(rows, torch.float8_e4m3fn, PerRow()).dequantize().view_as(values).to(values.dtype)


def test_latents_in_fp8_stay_near_those_in_32_bits(models_root: Path, flux: FluxModel) -> None:
    request = replace(BASE, steps=8)
    exact = flux.denoise(flux.prepare(request), silent).packed
    small = cast("FluxModel", load(ModelConfig(device="cpu", lora_rank=0), models_root))
    transformer = small.pipeline.transformer
    for name in fp8_layers(transformer):
        transformer.set_submodule(name, _InFp8(transformer.get_submodule(name)))
    near = small.denoise(small.prepare(request), silent).packed
    # Random weights are a weak stand-in for pictures.
    assert torch.cosine_similarity(near.flatten(), exact.flatten(), dim=0) > 0.99
    assert not torch.equal(near, exact)


def test_only_images_larger_than_a_tile_are_tiled(models_root: Path, flux: FluxModel) -> None:
    tiled = load(ModelConfig(device="cpu", lora_rank=0, vae_tile=256), models_root)
    small, large = replace(BASE, width=256, height=256), replace(BASE, width=512, height=256)
    whole, parts = (
        [np.asarray(model.generate(request, silent)).astype(int) for request in (small, large)]
        for model in (flux, tiled)
    )
    assert np.array_equal(whole[0], parts[0])
    assert 0 < np.abs(whole[1] - parts[1]).mean() < 12
