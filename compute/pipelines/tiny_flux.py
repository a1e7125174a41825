"""A FLUX.1-dev of a few MB: the real classes, small dimensions, random weights that answer to every input."""

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from compute.pipelines.quiet import no_progress_bars
from compute.pipelines.tiny_text import clip_text_encoder, clip_tokenizer, t5_encoder, t5_tokenizer
from compute.pipelines.tiny_vae import tiny_vae

__all__ = ["save_tiny_flux"]

_SEED = 20240801
_LATENT_CHANNELS = 16
_TEXT_WIDTH = 32


def save_tiny_flux(folder: Path) -> None:
    """Write the model into `folder`; the same bytes every time."""
    no_progress_bars()
    random = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        _pipeline(random).save_pretrained(folder)


def _pipeline(random: torch.Generator) -> FluxPipeline:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
        vae=tiny_vae(_LATENT_CHANNELS, random),
        text_encoder=clip_text_encoder(clip, _TEXT_WIDTH, random),
        tokenizer=clip,
        text_encoder_2=t5_encoder(t5, _TEXT_WIDTH, random),
        tokenizer_2=t5,
        transformer=_transformer(random),
    )


def _transformer(random: torch.Generator) -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        in_channels=4 * _LATENT_CHANNELS,
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
    return model.eval()
