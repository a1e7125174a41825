"""The demo model's VAE: FLUX.1's layout with 1.7 million weights, trained on illustrations."""

import logging
import time
from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

__all__ = ["make_vae", "train_decoder", "train_vae"]

_log = logging.getLogger(__name__)
_WIDTHS = (16, 32, 64, 96)
_LATENT_CHANNELS = 16
_KL_WEIGHT = 1e-6
_EDGE_WEIGHT = 0.5
_LATENT_NOISE = 0.05
"""Noise on latents of unit variance."""
_CERTAIN = -30.0
"""Logarithm of a variance of practically zero."""


def make_vae() -> AutoencoderKL:
    """Return an untrained VAE: factor 8, 16 latent channels, no attention."""
    return AutoencoderKL(
        block_out_channels=_WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=_LATENT_CHANNELS,
        sample_size=128,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def train_vae(
    vae: AutoencoderKL,
    images: Sequence[torch.Tensor],
    *,
    steps: int,
    batch_size: int,
    crop: int,
    device: torch.device,
    seed: int,
    learning_rate: float = 2e-3,
) -> float:
    """Train on crops of images, then scale the latents to unit variance. Returns the mean error of the last steps.

    The training samples from the posterior, which keeps channels free that few pixels depend on; the finished encoder
    returns the posterior's mean, so that a transformer need not learn noise.

    Args:
        images: Groups of images of one size, each (images, 3, height, width), uint8.
        steps: Optimizer steps.
        batch_size: Crops of a step.
        crop: Side of a crop, in pixels.
    """
    random = torch.Generator(device).manual_seed(seed)
    images = [group.to(device) for group in images]
    vae.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.05)
    errors: list[torch.Tensor] = []
    began = time.perf_counter()
    for step in range(steps):
        pixels = _crops(images, batch_size, crop, random).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=_computes_in_bf16(device)):
            found = vae.encode(pixels).latent_dist
            noise = torch.randn(found.mean.shape, generator=random, device=device)
            decoded = vae.decode(found.mean + found.std * noise).sample
        decoded = decoded.float()
        error = functional.l1_loss(decoded, pixels)
        loss = error + _EDGE_WEIGHT * _edges(decoded, pixels) + _KL_WEIGHT * found.kl().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        errors.append(error.detach())
        if (step + 1) % 500 == 0:
            mean = torch.stack(errors[-100:]).mean().item()
            _log.info("VAE step %d: L1 %.4f, %.0f s", step + 1, mean, time.perf_counter() - began)
    vae.eval()
    _fix_spread(vae)
    _normalise(vae, _crops(images, 256, crop, random))
    return torch.stack(errors[-100:]).mean().item()


def _crops(images: Sequence[torch.Tensor], count: int, side: int, random: torch.Generator) -> torch.Tensor:
    """Return random crops as floats from -1 to 1, all from one group, so that they are a single copy."""
    device = random.device
    which, down, right = torch.rand(3, generator=random, device=device).tolist()
    group = images[int(which * len(images))]
    chosen = torch.randint(len(group), (count,), generator=random, device=device)
    height, width = group.shape[-2:]
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    return group[:, :, top : top + side, left : left + side][chosen].float() / 127.5 - 1.0


def _computes_in_bf16(device: torch.device) -> bool:
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def _edges(drawn: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the error of differences between neighbouring pixels, which penalises blurred edges."""
    across = functional.l1_loss(drawn.diff(dim=-1), wanted.diff(dim=-1))
    return across + functional.l1_loss(drawn.diff(dim=-2), wanted.diff(dim=-2))


def train_decoder(
    vae: AutoencoderKL,
    images: Sequence[torch.Tensor],
    *,
    steps: int,
    batch_size: int,
    crop: int,
    device: torch.device,
    seed: int,
    learning_rate: float = 1e-3,
) -> float:
    """Train the decoder alone, so that the latents stay those of the transformer. Returns the mean error of the last
    steps.

    The arguments are those of `train_vae`. The training adds a little noise to the latents, because generated ones are
    never exact.
    """
    random = torch.Generator(device).manual_seed(seed)
    images = [group.to(device) for group in images]
    vae.to(device, memory_format=torch.channels_last).train().encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.05)
    errors: list[torch.Tensor] = []
    for _ in range(steps):
        pixels = _crops(images, batch_size, crop, random).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=_computes_in_bf16(device)):
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.mean.float()
            noise = torch.randn(latents.shape, generator=random, device=device)
            decoded = vae.decode(latents + noise * (_LATENT_NOISE / vae.config.scaling_factor)).sample
        decoded = decoded.float()
        error = functional.l1_loss(decoded, pixels)
        optimizer.zero_grad(set_to_none=True)
        (error + _EDGE_WEIGHT * _edges(decoded, pixels)).backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        errors.append(error.detach())
    vae.eval()
    return torch.stack(errors[-100:]).mean().item()


@torch.no_grad()
def _fix_spread(vae: AutoencoderKL) -> None:
    vae.encoder.conv_out.weight[_LATENT_CHANNELS:] = 0.0
    vae.encoder.conv_out.bias[_LATENT_CHANNELS:] = _CERTAIN


@torch.no_grad()
def _normalise(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(pixels, 32)])
    shift, spread = latents.mean().item(), latents.std().item()
    vae.register_to_config(scaling_factor=round(1.0 / spread, 6), shift_factor=round(shift, 6))
