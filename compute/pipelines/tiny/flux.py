"""FLUX.1-dev, Kontext and Fill in a few MB: the real classes, small sizes, weights that respond to every input."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)

from compute.pipelines.native import NativeSize, state_native_size
from compute.pipelines.quiet import no_progress_bars
from compute.pipelines.tiny.text import clip_text_encoder, clip_tokenizer, t5_encoder, t5_tokenizer
from compute.pipelines.tiny.vae import tiny_vae

__all__ = ["flux_scheduler", "save_tiny_flux", "save_tiny_flux_fill", "save_tiny_flux_kontext"]

_SEED = 20240801
_LATENT_CHANNELS = 16
_PATCH_CHANNELS = 4 * _LATENT_CHANNELS
_FILL_CHANNELS = 2 * _PATCH_CHANNELS + 4 * 8 * 8
"""The input channels of a patch in FLUX.1 Fill: its latents, the masked image, and the mask of its 16 x 16 pixels."""
_TEXT_WIDTH = 32
_NATIVE = NativeSize(most_pixels=256 * 256)
"""Random weights generate noise, which is as good at a small size."""


def save_tiny_flux(folder: Path) -> None:
    """Write the model into `folder`; the same bytes every time."""
    _save(FluxPipeline, folder, seed=_SEED)


def save_tiny_flux_kontext(folder: Path) -> None:
    """Write a FLUX.1-Kontext-dev into `folder`: a model built like FLUX.1-dev, with other weights.

    Its attention is sharper: its input images affect the result only through attention.
    """
    _save(FluxKontextPipeline, folder, seed=_SEED + 1, attention_gain=2.0)
    state_native_size(folder, _NATIVE)


def save_tiny_flux_fill(folder: Path) -> None:
    """Write a FLUX.1-Fill-dev into `folder`."""
    _save(FluxFillPipeline, folder, seed=_SEED + 2, in_channels=_FILL_CHANNELS)
    state_native_size(folder, _NATIVE)


def _save(
    pipeline_class: Any, folder: Path, *, seed: int, in_channels: int = _PATCH_CHANNELS, attention_gain: float = 1.0
) -> None:
    no_progress_bars()
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline_class(**_parts(random, in_channels, attention_gain)).save_pretrained(folder)


def _parts(random: torch.Generator, in_channels: int, attention_gain: float) -> dict[str, Any]:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    return {
        "scheduler": flux_scheduler(),
        "vae": tiny_vae(_LATENT_CHANNELS, random),
        "text_encoder": clip_text_encoder(clip, _TEXT_WIDTH, random),
        "tokenizer": clip,
        "text_encoder_2": t5_encoder(t5, _TEXT_WIDTH, random),
        "tokenizer_2": t5,
        "transformer": _transformer(random, in_channels, attention_gain),
    }


def flux_scheduler(base_shift: float = 0.5) -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1-dev's scheduler: more noise for larger images. `base_shift` is that of an image of 256 pixels a side."""
    return FlowMatchEulerDiscreteScheduler(
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=base_shift,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def _transformer(random: torch.Generator, in_channels: int, attention_gain: float) -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        in_channels=in_channels,
        out_channels=_PATCH_CHANNELS,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=_TEXT_WIDTH,
        pooled_projection_dim=_TEXT_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, module.in_features**-0.5, generator=random)
                module.bias.zero_()
        for name, weight in model.named_parameters():
            if ".norm_q." in name or ".norm_k." in name:
                weight.fill_(attention_gain)
    return model.eval()
