"""FLUX's pictures and captions are read as diffusers' own pipeline reads them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from compute.training.models.base import Encoders
from compute.training.models.flux import FAMILY
from tests.unit.training.loop.rig import CAPTIONS, CPU, Bench, pictures


@pytest.fixture(scope="module")
def pipeline(bench: Bench) -> FluxPipeline:
    return FluxPipeline.from_pretrained(bench.model, transformer=None, use_safetensors=True)


@pytest.fixture(scope="module")
def shown() -> torch.Tensor:
    """A picture, (3, 64, 64) from -1 to 1."""
    return torch.from_numpy(np.array(pictures()[1])).permute(2, 0, 1) / 127.5 - 1.0


def test_latents_are_scaled_as_the_network_reads_them(
    encoders: Encoders, pipeline: FluxPipeline, shown: torch.Tensor
) -> None:
    vae = pipeline.vae
    with torch.no_grad():
        raw = vae.encode(shown[None]).latent_dist
    assert (vae.config.shift_factor, vae.config.scaling_factor) != (0.0, 1.0)
    found = encoders.encode_image(shown)
    expected = (raw.mean[0] - vae.config.shift_factor) * vae.config.scaling_factor
    torch.testing.assert_close(found["mean"], expected)
    torch.testing.assert_close(found["std"], raw.std[0] * vae.config.scaling_factor)


@pytest.mark.parametrize("text", CAPTIONS)
def test_captions_are_read_as_by_the_pipeline(encoders: Encoders, pipeline: FluxPipeline, text: str) -> None:
    with torch.no_grad():
        embeds, pooled, _ = pipeline.encode_prompt(text, None, max_sequence_length=16)
    found = encoders.encode_prompt(text)
    torch.testing.assert_close(found, {"prompt_embeds": embeds[0], "pooled": pooled[0]})


def test_what_it_is_decoded_to_is_what_the_vae_makes_of_it(
    bench: Bench, encoders: Encoders, pipeline: FluxPipeline, shown: torch.Tensor
) -> None:
    with torch.no_grad():
        raw = pipeline.vae.encode(shown[None]).latent_dist.mean
        expected = pipeline.image_processor.postprocess(pipeline.vae.decode(raw).sample, output_type="pil")[0]
    found = FAMILY.decode(bench.model, encoders.encode_image(shown)["mean"][None], device=CPU)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_a_model_without_a_vae_is_missing(bench: Bench, tmp_path: Path) -> None:
    for part in bench.model.iterdir():
        if part.name != "vae":
            (tmp_path / part.name).symlink_to(part)
    with pytest.raises(OSError, match="vae"):
        FAMILY.load_encoders(tmp_path, device=CPU, dtype=torch.float32)
