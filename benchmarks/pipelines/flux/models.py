"""Models for `benchmarks.pipelines.flux.speed`: the FLUX.1-dev architecture with random weights, made on the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

__all__ = ["LARGE", "SMALL", "Scale", "new_pipeline", "new_transformer", "same_weights"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Size of the model and its task. FLUX.1-dev is `LARGE`; `SMALL` fits two cores.

    Attributes:
        transformer: Differences from diffusers' defaults for `FluxTransformer2DModel`, which are FLUX.1-dev's.
        vae_channels: Channels of the VAE's four levels.
        text_tokens: Length of the encoded prompt.
        side: Pixels of the square image.
        steps: Denoising steps.
    """

    transformer: dict[str, Any]
    vae_channels: tuple[int, int, int, int]
    dtype: torch.dtype
    text_tokens: int
    side: int
    steps: int

    @property
    def image_tokens(self) -> int:
        return (self.side // 16) ** 2


LARGE = Scale({"guidance_embeds": True}, (128, 256, 512, 512), torch.bfloat16, text_tokens=512, side=1024, steps=28)
SMALL = Scale(
    {
        "guidance_embeds": True,
        "num_layers": 2,
        "num_single_layers": 4,
        "attention_head_dim": 32,
        "num_attention_heads": 8,
        "joint_attention_dim": 128,
        "pooled_projection_dim": 64,
        "axes_dims_rope": (8, 12, 12),
    },
    (16, 16, 16, 16),
    torch.float32,
    text_tokens=64,
    side=256,
    steps=28,
)


def new_transformer(scale: Scale, device: torch.device) -> Any:
    """Return a transformer with random weights of unit gain, so that signals neither vanish nor explode in the
    blocks."""
    with torch.device("meta"), _numbers_in(scale.dtype):
        model = FluxTransformer2DModel(**scale.transformer)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    random = torch.Generator(device).manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.normal_(0.0, module.in_features**-0.5, generator=random)
            module.bias.zero_()
        elif type(module).__name__ == "RMSNorm":
            module.weight.fill_(1.0)
    return model


@contextmanager
def _numbers_in(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def same_weights(model: Any) -> Any:
    """Return another model with the same tensors: it takes no memory, and changes to its layers do not affect the
    original."""
    with torch.device("meta"):
        twin = FluxTransformer2DModel.from_config(model.config)
    twin.load_state_dict(model.state_dict(), assign=True)
    return twin.eval().requires_grad_(False)


def new_pipeline(transformer: Any, scale: Scale, device: torch.device) -> Any:
    """Return a diffusers pipeline without text encoders: prompts are passed encoded."""
    with torch.device(device), _numbers_in(scale.dtype):
        vae = AutoencoderKL(
            block_out_channels=scale.vae_channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            norm_num_groups=min(32, scale.vae_channels[0]),
            latent_channels=16,
            sample_size=1024,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    pipeline = FluxPipeline(
        scheduler=scheduler,
        vae=vae.eval().requires_grad_(False),
        transformer=transformer,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
