"""A Stable Diffusion XL of a few MB: the real classes, small dimensions, random weights that respond to every input."""

from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from compute.pipelines.quiet import no_progress_bars
from compute.pipelines.tiny.text import clip_text_encoder, clip_text_encoder_with_projection, clip_tokenizer
from compute.pipelines.tiny.vae import tiny_vae

__all__ = ["save_tiny_sdxl"]

_SEED = 20230726
_LATENT_CHANNELS = 4
_SCALING = 0.13025
_TEXT_WIDTH, _TEXT_WIDTH_2 = 32, 48
_SIZE_WIDTH = 8
"""The width of the embedding of each of the six numbers for an image's size, crop and target size."""


def save_tiny_sdxl(folder: Path) -> None:
    """Write the model into `folder`; the same bytes every time."""
    no_progress_bars()
    random = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        _pipeline(random).save_pretrained(folder)


def _pipeline(random: torch.Generator) -> StableDiffusionXLPipeline:
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer()
    # As in the real one, whose second encoder was trained with another padding.
    tokenizer_2.pad_token = "!"  # noqa: S105 - a symbol
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    )
    return StableDiffusionXLPipeline(
        vae=tiny_vae(_LATENT_CHANNELS, random, scaling=_SCALING, shift=None, quant_convs=True),
        text_encoder=clip_text_encoder(tokenizer, _TEXT_WIDTH, random),
        text_encoder_2=clip_text_encoder_with_projection(tokenizer_2, _TEXT_WIDTH_2, random),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=_unet(random),
        scheduler=scheduler,
        add_watermarker=False,
    )


def _unet(random: torch.Generator) -> UNet2DConditionModel:
    model = UNet2DConditionModel(
        sample_size=16,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 2, 2),
        cross_attention_dim=_TEXT_WIDTH + _TEXT_WIDTH_2,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=_SIZE_WIDTH,
        projection_class_embeddings_input_dim=6 * _SIZE_WIDTH + _TEXT_WIDTH_2,
        norm_num_groups=8,
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, module.in_features**-0.5, generator=random)
                if module.bias is not None:
                    module.bias.zero_()
    return model.eval()
