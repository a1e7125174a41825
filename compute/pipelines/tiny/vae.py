"""The tiny VAE. Random weights would encode nothing, so its weights are set to shrink an image and enlarge it.

Each colour is a pair of channels (+x, -x): silu(x) - silu(-x) = x, so the nonlinearities cancel. A constant
pair far above the colours keeps the group norms from stretching the contrast. The downsamplers average 2x2 pixels,
the upsamplers blur, and a fixed random rotation spreads the colours over all latent channels. Decoding what was
encoded gives back the image at an eighth of its sharpness, which makes img2img and its strength visible.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL

__all__ = ["tiny_vae"]

_COLOURS = 3
_PAIRS = _COLOURS + 1
_WIDTH = 2 * _PAIRS
_CONSTANT = 4.0
_RMS = (_CONSTANT**2 / _PAIRS) ** 0.5
_CONTRAST = 0.7
_FLUX_SCALING, _FLUX_SHIFT = 0.3611, 0.1159
_LOG_VARIANCE = -12.0


def tiny_vae(
    latent_channels: int,
    random: torch.Generator,
    *,
    scaling: float = _FLUX_SCALING,
    shift: float | None = _FLUX_SHIFT,
    quant_convs: bool = False,
) -> AutoencoderKL:
    """An AutoencoderKL of factor 8, by default with FLUX.1's latent scaling.

    Args:
        latent_channels: 16 in FLUX.1, 4 in Stable Diffusion XL.
        random: Source of the rotation and of the small weights around it.
        scaling: What latents are multiplied with before a network reads them.
        shift: What is subtracted from them before that.
        quant_convs: Whether the 1x1 convolutions around the latents are there, as in Stable Diffusion's; they change
            nothing.
    """
    vae = AutoencoderKL(
        block_out_channels=(_WIDTH,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=latent_channels,
        sample_size=256,
        scaling_factor=scaling,
        shift_factor=shift,
        use_quant_conv=quant_convs,
        use_post_quant_conv=quant_convs,
        mid_block_add_attention=True,
    )
    rotation = torch.linalg.qr(torch.randn(latent_channels, _COLOURS, generator=random)).Q.T
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        _quiet_blocks(vae, random)
        _set_encoder(vae.encoder, rotation / _CONTRAST / scaling, shift or 0.0)
        _set_decoder(vae.decoder, rotation * _CONTRAST * scaling, shift or 0.0)
        if quant_convs:
            torch.nn.init.dirac_(vae.quant_conv.weight)
            torch.nn.init.dirac_(vae.post_quant_conv.weight)
    return vae.eval()


def _quiet_blocks(vae: AutoencoderKL, random: torch.Generator) -> None:
    """Residual blocks and attention that add next to nothing, so that they run and matter without blurring."""
    for name, module in vae.named_modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.weight.fill_(1.0)
        elif ".resnets." in name and isinstance(module, torch.nn.Conv2d):
            module.weight.normal_(0.0, 0.02, generator=random)
        elif ".attentions." in name and isinstance(module, torch.nn.Linear):
            module.weight.normal_(0.0, 0.05, generator=random)


def _set_encoder(encoder: Any, to_latents: torch.Tensor, shift: float) -> None:
    _paired(encoder.conv_in, torch.eye(_COLOURS))
    average = torch.zeros(3, 3)
    average[:2, :2] = 0.25
    for block in encoder.down_blocks[:-1]:
        _per_channel(block.downsamplers[0].conv, average)
    encoder.conv_norm_out.weight.fill_(_RMS)
    latent_channels = to_latents.shape[1]
    _unpaired(encoder.conv_out, to_latents.T, latent_channels)
    encoder.conv_out.bias[:latent_channels] = shift
    encoder.conv_out.bias[latent_channels:] = _LOG_VARIANCE


def _set_decoder(decoder: Any, to_colours: torch.Tensor, shift: float) -> None:
    _paired(decoder.conv_in, to_colours)
    decoder.conv_in.bias[: 2 * _COLOURS] -= (decoder.conv_in.weight[: 2 * _COLOURS, :, 1, 1] * shift).sum(dim=1)
    line = torch.tensor([0.25, 0.5, 0.25])
    for block in decoder.up_blocks[:-1]:
        _per_channel(block.upsamplers[0].conv, torch.outer(line, line))
    decoder.conv_norm_out.weight.fill_(_RMS)
    _unpaired(decoder.conv_out, torch.eye(_COLOURS), _COLOURS)


def _paired(conv: Any, matrix: torch.Tensor) -> None:
    """Write `matrix` (colours, inputs) as pairs (+, -) into the middle of the kernel, and the constant pair behind."""
    conv.weight[: 2 * _COLOURS : 2, :, 1, 1] = matrix
    conv.weight[1 : 2 * _COLOURS : 2, :, 1, 1] = -matrix
    conv.bias[-2:] = torch.tensor([_CONSTANT, -_CONSTANT])


def _unpaired(conv: Any, matrix: torch.Tensor, outputs: int) -> None:
    """Write `matrix` (outputs, colours) so that it reads the pairs: silu(x) - silu(-x) = x."""
    conv.weight[:outputs, : 2 * _COLOURS : 2, 1, 1] = matrix
    conv.weight[:outputs, 1 : 2 * _COLOURS : 2, 1, 1] = -matrix


def _per_channel(conv: Any, kernel: torch.Tensor) -> None:
    for channel in range(_WIDTH):
        conv.weight[channel, channel] = kernel
