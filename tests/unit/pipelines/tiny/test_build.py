"""The tiny model is a real one in everything but size."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from compute.pipelines import ModelConfig, load
from compute.pipelines.families import get_family
from compute.pipelines.tiny.build import build_tiny, build_tiny_flux, ensure_tiny, write_tiny_lora
from compute.worker.protocol import GenerateRequest


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_two_builds_are_byte_for_byte_equal(tiny_folder: Path, tmp_path: Path) -> None:
    build_tiny_flux(tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tiny_folder)


def test_builds_that_race_leave_one_whole_model(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: ensure_tiny(get_family("flux"), tmp_path), range(3)))
    assert set(folders) == {tmp_path / "tiny-flux"}
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-flux"]
    FluxPipeline.from_pretrained(tmp_path / "tiny-flux")


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny-flux").write_text("in the way")
    with pytest.raises(OSError, match="tiny-flux"):
        build_tiny(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-flux"]


def test_it_loads_as_the_real_classes(tiny_folder: Path) -> None:
    pipeline = FluxPipeline.from_pretrained(tiny_folder)
    assert isinstance(pipeline.transformer, FluxTransformer2DModel)
    assert isinstance(pipeline.vae, AutoencoderKL)
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    assert isinstance(pipeline.text_encoder_2, T5EncoderModel)
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    assert isinstance(pipeline.tokenizer_2, T5TokenizerFast)
    assert isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    assert pipeline.transformer.config.guidance_embeds
    assert pipeline.vae_scale_factor == 8
    assert sum(file.stat().st_size for file in tiny_folder.rglob("*") if file.is_file()) < 8 * 2**20


@pytest.mark.parametrize("tokenizer", ["tokenizer", "tokenizer_2"])
def test_different_prompts_have_different_tokens(tiny_folder: Path, tokenizer: str) -> None:
    tokenize = getattr(FluxPipeline.from_pretrained(tiny_folder), tokenizer)
    prompts = ["a cat", "a hat", "cat a", "a cat.", "a cat!", "Ein Käse", "Ein Kase", "кот", "ネコ", ""]
    ids = {tuple(tokenize(prompt).input_ids) for prompt in prompts}
    assert len(ids) == len(prompts)


def test_bfloat16_loads_and_draws(models_root: Path) -> None:
    model = load(ModelConfig(device="cpu", dtype="bfloat16"), models_root)
    request = GenerateRequest(prompt="x", width=64, height=64, steps=1, guidance_scale=3.5, seed=0)
    assert model.generate(request, lambda done, total: None).size == (64, 64)


def test_every_part_has_the_configured_dtype(models_root: Path) -> None:
    from compute.pipelines.flux.model import load_flux

    model = load_flux(ModelConfig(device="cpu", dtype="bfloat16"), models_root / "tiny-flux")
    parts = [model.pipeline.components[name] for name in ("transformer", "vae", "text_encoder", "text_encoder_2")]
    assert {parameter.dtype for part in parts for parameter in part.parameters()} == {torch.bfloat16}
    for use in model._inputs.pipelines.values():
        assert all(use.components[name] is part for name, part in model.pipeline.components.items())


def test_a_tiny_lora_is_the_same_file_for_the_same_seed(tiny_folder: Path, tmp_path: Path) -> None:
    one, same, other = (
        write_tiny_lora(tmp_path / f"{name}.safetensors", tiny_folder, seed=seed).read_bytes()
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same
    assert one != other


def test_a_lora_needs_a_model_to_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no FLUX transformer"):
        write_tiny_lora(tmp_path / "x.safetensors", tmp_path)
