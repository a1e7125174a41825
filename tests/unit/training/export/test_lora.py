"""A trained LoRA as a file: diffusers, ComfyUI and our own pipelines make of it what was trained."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from compute.errors import InvalidInput, TaskFailed
from compute.lora.check import check_lora_file
from compute.lora.model_card import ModelCard
from compute.pipelines import ModelConfig
from compute.pipelines.flux.model import FluxModel, load_flux
from compute.pipelines.tiny.build import build_tiny_flux
from compute.pipelines.tiny.sdxl import save_tiny_sdxl
from compute.schemas.enums import ErrorCategory
from compute.training.export.lora import Dtype, export_lora
from compute.training.spec import TrainingSpec
from compute.worker.protocol import LoraSelection
from tests.unit.pipelines.conftest import BASE, silent
from tests.unit.pipelines.lora.rig import load_pipeline, run
from tests.unit.training.export.adapters import Adapter, adapt, pair, spec_of

DATE = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
SCALES = [(4, None), (4, 8), (8, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-flux"
    build_tiny_flux(folder)
    return folder


@pytest.fixture(scope="module")
def ours(folder: Path) -> FluxModel:
    return load_flux(ModelConfig(device="cpu"), folder)


@dataclass
class Trained:
    """A network with a LoRA of all its layers, and what it draws."""

    spec: TrainingSpec
    adapter: Adapter
    pipeline: Any
    step: torch.Tensor
    picture: np.ndarray

    @property
    def card(self) -> ModelCard:
        return ModelCard.from_config(self.pipeline.transformer.config)

    def file(self, folder: Path, dtype: Dtype = "fp32") -> Path:
        file = folder / "red-dress.safetensors"
        export_lora(self.adapter, file, self.spec, steps=10, date=DATE, dtype=dtype)
        return file


@pytest.fixture(scope="module", params=SCALES, ids=lambda value: f"rank {value[0]}, alpha {value[1]}")
def trained(folder: Path, request: pytest.FixtureRequest) -> Trained:
    rank, alpha = request.param
    return train(folder, spec_of(rank=rank, alpha=alpha))


def train(folder: Path, spec: TrainingSpec) -> Trained:
    pipeline = load_pipeline(folder)
    card = ModelCard.from_config(pipeline.transformer.config)
    adapter = adapt(pipeline.transformer, spec, list(card.linears()))
    return Trained(spec, adapter, pipeline, run(pipeline.transformer), picture(pipeline))


def picture(pipeline: Any) -> np.ndarray:
    """The base request as diffusers draws it; pixels as int, (64, 64, 3)."""
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt=BASE.prompt,
        width=BASE.width,
        height=BASE.height,
        num_inference_steps=BASE.steps,
        guidance_scale=BASE.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(BASE.seed),
    ).images
    return np.asarray(images[0]).astype(int)


def drawn(model: FluxModel, *files: Path) -> np.ndarray:
    """The same by our own pipeline, with these LoRAs."""
    loras = tuple(LoraSelection(hashlib.sha256(file.read_bytes()).hexdigest(), file, 1.0) for file in files)
    return np.asarray(model.generate(replace(BASE, loras=loras), silent)).astype(int)


def with_diffusers(folder: Path, file: Path) -> Any:
    pipeline = load_pipeline(folder)
    pipeline.load_lora_weights(file.parent, weight_name=file.name, use_safetensors=True)
    return pipeline


def test_diffusers_draws_with_the_file_what_was_trained(folder: Path, trained: Trained, tmp_path: Path) -> None:
    pipeline = with_diffusers(folder, trained.file(tmp_path))
    assert pipeline.transformer.peft_config.keys() == {"default_0"}
    assert (run(pipeline.transformer) - trained.step).abs().max() <= 1e-5
    assert np.abs(picture(pipeline) - trained.picture).max() <= 1


def test_our_own_pipeline_draws_with_the_file_what_was_trained(
    ours: FluxModel, trained: Trained, tmp_path: Path
) -> None:
    file = trained.file(tmp_path)
    assert np.abs(drawn(ours, file) - trained.picture).max() <= 1
    assert np.abs(drawn(ours) - trained.picture).mean() > 2, "the LoRA must be seen, or this proves nothing"


@pytest.mark.parametrize(("dtype", "most"), [("bf16", 0.01), ("fp16", 0.002)])
def test_the_smaller_formats_lose_little(folder: Path, tmp_path: Path, dtype: Dtype, most: float) -> None:
    trained = train(folder, spec_of(rank=8, alpha=3))
    file = trained.file(tmp_path, dtype)
    pipeline = load_pipeline(folder)
    base = run(pipeline.transformer)
    tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    pipeline.load_lora_weights(tensors)
    lost = (run(pipeline.transformer) - trained.step).norm() / (trained.step - base).norm()
    assert lost < most


# ComfyUI takes a FLUX LoRA's tensors by a table: `transformer.` and diffusers' name of the layer, to the layer of the
# original code and the rows of it. It merges `(lora_B @ lora_A) * alpha / rank`, where alpha is a tensor of the file
# or, as here, none, which counts as the rank. What the table does not have is reported as not loaded.


@dataclass(frozen=True)
class Place:
    """Rows [begin, begin + rows) of a layer of the original code."""

    layer: str
    begin: int
    rows: int
    swapped: bool = False


def comfyui_places(card: ModelCard) -> Iterator[tuple[str, Place]]:
    d = card.inner_dim
    for index in range(card.num_layers):
        block, there = f"transformer.transformer_blocks.{index}", f"double_blocks.{index}"
        for part, name in enumerate(("to_q", "to_k", "to_v")):
            yield f"{block}.attn.{name}", Place(f"{there}.img_attn.qkv", part * d, d)
        for part, name in enumerate(("add_q_proj", "add_k_proj", "add_v_proj")):
            yield f"{block}.attn.{name}", Place(f"{there}.txt_attn.qkv", part * d, d)
        yield f"{block}.attn.to_out.0", Place(f"{there}.img_attn.proj", 0, d)
        yield f"{block}.attn.to_add_out", Place(f"{there}.txt_attn.proj", 0, d)
        for ours, stream in (("", "img"), ("_context", "txt")):
            yield f"{block}.norm1{ours}.linear", Place(f"{there}.{stream}_mod.lin", 0, 6 * d)
            yield f"{block}.ff{ours}.net.0.proj", Place(f"{there}.{stream}_mlp.0", 0, 4 * d)
            yield f"{block}.ff{ours}.net.2", Place(f"{there}.{stream}_mlp.2", 0, d)
    for index in range(card.num_single_layers):
        block, there = f"transformer.single_transformer_blocks.{index}", f"single_blocks.{index}"
        for part, name in enumerate(("to_q", "to_k", "to_v")):
            yield f"{block}.attn.{name}", Place(f"{there}.linear1", part * d, d)
        yield f"{block}.proj_mlp", Place(f"{there}.linear1", 3 * d, 4 * d)
        yield f"{block}.proj_out", Place(f"{there}.linear2", 0, d)
        yield f"{block}.norm.linear", Place(f"{there}.modulation.lin", 0, 3 * d)
    yield "transformer.x_embedder", Place("img_in", 0, d)
    yield "transformer.context_embedder", Place("txt_in", 0, d)
    for kind, name in (("timestep", "time_in"), ("text", "vector_in"), ("guidance", "guidance_in")):
        for number, layer in ((1, "in_layer"), (2, "out_layer")):
            yield f"transformer.time_text_embed.{kind}_embedder.linear_{number}", Place(f"{name}.{layer}", 0, d)
    yield "transformer.norm_out.linear", Place("final_layer.adaLN_modulation.1", 0, 2 * d, swapped=True)
    yield "transformer.proj_out", Place("final_layer.linear", 0, card.in_channels)


def test_comfyui_merges_what_was_trained(trained: Trained, tmp_path: Path) -> None:
    card, tensors = trained.card, load_file(trained.file(tmp_path))
    shapes = card.linears_named("original")
    merged = {name: torch.zeros(outside, inside) for name, (inside, outside) in shapes.items()}
    expected = {name: torch.zeros_like(weight) for name, weight in merged.items()}
    unread = set(tensors)
    for key, place in comfyui_places(card):
        names = [f"{key}.lora_A.weight", f"{key}.lora_B.weight"]
        unread -= set(names)
        change = tensors[names[1]] @ tensors[names[0]]
        layer = trained.pipeline.transformer.get_submodule(key.removeprefix("transformer."))
        rows = slice(place.begin, place.begin + place.rows)
        for weight, value in ((merged, change), (expected, layer.get_delta_weight("default").detach())):
            weight[place.layer][rows] += value.roll(value.shape[0] // 2, 0) if place.swapped else value
    assert not unread
    for name, weight in merged.items():
        torch.testing.assert_close(weight, expected[name])
        assert weight.any()


def test_comfyui_knows_every_layer_of_the_full_size_model() -> None:
    card = ModelCard(3072, 4096, 768, 64, 19, 38, guidance_embeds=True)
    table = dict(comfyui_places(card))
    assert table.keys() == {f"transformer.{name}" for name in card.linears()}
    shapes = card.linears_named("original")
    filled = dict.fromkeys(shapes, 0)
    for place in table.values():
        filled[place.layer] += place.rows
    assert filled == {name: outside for name, (_, outside) in shapes.items()}


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "red-dress.safetensors"
    spec = spec_of(rank=4, alpha=6, trigger_word="Ünikat 模型")
    export_lora(pair(), file, spec, steps=1234, date=DATE)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        dtypes = {opened.get_tensor(name).dtype for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    assert dtypes == {torch.bfloat16}
    data = file.read_bytes()
    content = data[8 + int.from_bytes(data[:8], "little") :]
    expected = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "flux-1-dev/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "red-dress",
        "modelspec.date": "2026-03-01T12:30:05Z",
        "modelspec.resolution": "64x64",
        "modelspec.trigger_phrase": "Ünikat 模型",
        "modelspec.hash_sha256": f"0x{hashlib.sha256(content).hexdigest()}",
        "ss_output_name": "red-dress",
        "ss_base_model_version": "flux1",
        "ss_network_dim": "4",
        "ss_network_alpha": "4",
        "ss_steps": "1234",
        "ss_learning_rate": "0.0001",
        "compute.training": str(spec.id),
        "compute.alpha": "6",
    }
    assert {name: metadata[name] for name in expected} == expected
    options = json.loads(metadata["lora_adapter_metadata"])
    assert options == {
        "transformer.lora_alpha": 4,
        "transformer.r": 4,
        "transformer.target_modules": ["transformer_blocks.0.attn.to_q"],
    }


def test_a_schnell_lora_is_not_called_a_dev_lora(tmp_path: Path) -> None:
    spec = spec_of()
    schnell = spec.model.model_copy(update={"source": "black-forest-labs/FLUX.1-schnell"})
    export_lora(pair(), tmp_path / "one", spec.model_copy(update={"model": schnell}), steps=1, date=DATE)
    with safe_open(tmp_path / "one", framework="pt") as opened:
        assert opened.metadata()["modelspec.architecture"] == "flux-1-schnell/lora"


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    layers = pair() | pair(layer="transformer_blocks.1.attn.to_k")
    spellings: list[Adapter] = [
        layers,
        dict(reversed(layers.items())),
        {f"base_model.model.{name}": tensor for name, tensor in layers.items()},
        {name.replace(".weight", ".default.weight"): tensor for name, tensor in layers.items()},
        {name: tensor.T.contiguous().T.requires_grad_() for name, tensor in layers.items()},
    ]
    files = [tmp_path / str(number) for number in range(len(spellings))]
    for file, adapter in zip(files, spellings, strict=True):
        export_lora(adapter, file, spec_of(), steps=10, date=DATE)
    assert len({file.read_bytes() for file in files}) == 1
    export_lora(pair(value=0.25), files[0], spec_of(), steps=10, date=DATE)
    assert files[0].read_bytes() != files[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == files, "nothing half-written stays"


NAN, INF, LARGE = float("nan"), float("inf"), 1e30
Q = "transformer_blocks.0.attn.to_q"


@pytest.mark.parametrize(
    ("adapter", "dtype", "words"),
    [
        (pair(value=NAN), "bf16", f"in transformer.{Q}.lora_A.weight that are not finite"),
        (pair(value=INF), "fp16", "not finite"),
        (pair(value=LARGE), "fp16", "too large for fp16"),
        (pair(rank=8), "bf16", "no pair of rank 4"),
        ({name: half for name, half in pair().items() if "lora_A" in name}, "bf16", "no pair of rank 4"),
        (pair() | {f"{Q}.lora_magnitude_vector.weight": torch.ones(64)}, "bf16", "no half of a low-rank pair"),
        ({}, "bf16", "no layers"),
    ],
    ids=["nan", "infinite", "too large", "rank", "half", "dora", "empty"],
)
def test_what_is_no_lora_is_refused(adapter: Adapter, dtype: Dtype, words: str, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match=words) as caught:
        export_lora(adapter, tmp_path / "one.safetensors", spec_of(), steps=10, date=DATE, dtype=dtype)
    assert caught.value.category is ErrorCategory.INTERNAL
    assert not list(tmp_path.iterdir())


def test_a_family_without_a_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="no layout for the LoRAs of ltx-video"):
        export_lora(pair(), tmp_path / "one", spec_of("ltx-video"), steps=1, date=DATE)


UNET_LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def test_an_sdxl_lora_has_kohyas_names_and_no_flux_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    export_lora(pair(layer=UNET_LAYER), file, spec_of("sdxl", alpha=2, prediction="v_prediction"), steps=1, date=DATE)
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    tensors = load_file(file)
    assert tensors.keys() == {f"{name}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert (tensors[f"{name}.alpha"].item(), tensors[f"{name}.lora_up.weight"].unique().item()) == (4, 0.25)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    assert "lora_adapter_metadata" not in metadata
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert (metadata["modelspec.prediction_type"], metadata["ss_base_model_version"]) == ("v", "sdxl_base_v1-0")
    assert check_lora_file(file, None, field="file", any_model=True).layout == "kohya_unet"
    with pytest.raises(InvalidInput, match="made for another model"):
        check_lora_file(file, None, field="lora")
    with pytest.raises(TaskFailed, match="does not fit the layout of sdxl"):
        export_lora(pair(layer="conv_in"), file, spec_of("sdxl"), steps=1, date=DATE)


@pytest.mark.parametrize("alpha", [None, 3])
def test_diffusers_draws_with_an_sdxl_file_what_was_trained(tmp_path: Path, alpha: int | None) -> None:
    save_tiny_sdxl(tmp_path / "model")
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path / "model", use_safetensors=True)
    spec = spec_of("sdxl", rank=4, alpha=alpha)
    base = predicted(pipeline.unet)
    adapter = adapt(pipeline.unet, spec, ["to_q", "to_k", "to_v", "to_out.0"])
    trained = predicted(pipeline.unet)
    pipeline.unload_lora_weights()
    export_lora(adapter, tmp_path / "one.safetensors", spec, steps=1, date=DATE, dtype="fp32")
    pipeline.load_lora_weights(tmp_path, weight_name="one.safetensors", use_safetensors=True)
    torch.testing.assert_close(predicted(pipeline.unet), trained, rtol=1e-4, atol=1e-5)
    assert (trained - base).std() > 0.05 * base.std()


def predicted(unet: Any) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    sizes = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    with torch.no_grad():
        noise: torch.Tensor = unet(
            torch.randn(1, 4, 16, 16, generator=random),
            torch.tensor([500]),
            encoder_hidden_states=torch.randn(1, 8, unet.config.cross_attention_dim, generator=random),
            added_cond_kwargs={
                "text_embeds": torch.randn(1, sizes, generator=random),
                "time_ids": torch.full((1, 6), 64.0),
            },
            return_dict=False,
        )[0]
    return noise
