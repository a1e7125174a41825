"""An LTX-Video of a few hundred kB: the real classes, small dimensions, random weights that respond to every input."""

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, LTXVideoTransformer3DModel

from compute.pipelines.native import NativeSize, state_native_size
from compute.pipelines.quiet import no_progress_bars
from compute.pipelines.tiny.text import t5_encoder, t5_tokenizer
from compute.pipelines.tiny.video_vae import tiny_ltx_vae

__all__ = ["save_tiny_ltx"]

_SEED = 20241121
_LATENT_CHANNELS = 16
_TEXT_WIDTH = 32
_HEADS, _HEAD_WIDTH = 2, 24
_NATIVE = NativeSize(most_pixels=256 * 160)
"""Random weights generate noise, which is as good at a small size."""


def save_tiny_ltx(folder: Path) -> None:
    """Write the model into `folder`; the same bytes every time."""
    no_progress_bars()
    random = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        _pipeline(random).save_pretrained(folder)
    state_native_size(folder, _NATIVE)


def _pipeline(random: torch.Generator) -> LTXConditionPipeline:
    tokenizer = t5_tokenizer()
    return LTXConditionPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny_ltx_vae(_LATENT_CHANNELS, random),
        text_encoder=t5_encoder(tokenizer, _TEXT_WIDTH, random),
        tokenizer=tokenizer,
        transformer=_transformer(random),
    )


def _transformer(random: torch.Generator) -> LTXVideoTransformer3DModel:
    width = _HEADS * _HEAD_WIDTH
    model = LTXVideoTransformer3DModel(
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        num_attention_heads=_HEADS,
        attention_head_dim=_HEAD_WIDTH,
        cross_attention_dim=width,
        num_layers=2,
        caption_channels=_TEXT_WIDTH,
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, module.in_features**-0.5, generator=random)
                module.bias.zero_()
        for name, parameter in model.named_parameters():
            if name.endswith("scale_shift_table"):
                parameter.normal_(0.0, width**-0.5, generator=random)
    return model.eval()
