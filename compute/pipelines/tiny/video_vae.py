"""The tiny video VAE. Random weights would encode nothing, so its weights are set to reduce a clip and enlarge it.

As in `tiny_vae` each colour is a pair of channels (+x, -x), because silu(x) - silu(-x) = x, with a constant pair that
keeps the norms from stretching the contrast. In space the downsamplers average 2x2 and the upsamplers repeat. In time
they keep every second frame and interpolate linearly, so that decoding an encoded clip returns frames 0, 8, 16, … as
blocks of 32 x 32 pixels in their average colour, and linear transitions between them.
"""

from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo

__all__ = ["tiny_ltx_vae"]

_COLOURS = 3
_PAIRS = _COLOURS + 1
_WIDTH = 2 * _PAIRS
_PATCH = 4
_CONSTANT = 4.0
_RMS = (2 * _CONSTANT**2 / _WIDTH) ** 0.5
"""Approximately the divisor of a norm: the colours are small compared with the constant."""
_CONTRAST = 0.7
_MEAN, _SPREAD = 0.05, 0.5
"""Statistics of the latents, which the pipelines read from the model."""
_LOG_VARIANCE = -12.0


def tiny_ltx_vae(latent_channels: int, random: torch.Generator) -> AutoencoderKLLTXVideo:
    """An AutoencoderKLLTXVideo of factor 32 in space and 8 in time, whose decoder takes a timestep.

    Args:
        latent_channels: 128 in LTX-Video.
        random: Source of the rotation that spreads the colours over the latents, and of the small weights around it.
    """
    vae = AutoencoderKLLTXVideo(
        latent_channels=latent_channels,
        block_out_channels=(_WIDTH,) * 4,
        decoder_block_out_channels=(_WIDTH,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        patch_size=_PATCH,
        timestep_conditioning=True,
    )
    rotation = torch.linalg.qr(torch.randn(latent_channels, _COLOURS, generator=random)).Q.T
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        vae.decoder.timestep_scale_multiplier.fill_(1000.0)
        vae.latents_mean.fill_(_MEAN)
        vae.latents_std.fill_(_SPREAD)
        _quiet_blocks(vae, random)
        _set_encoder(vae.encoder, rotation * (_SPREAD / _CONTRAST))
        _set_decoder(vae.decoder, rotation * (_CONTRAST / _SPREAD))
    return vae.eval()


def _quiet_blocks(vae: AutoencoderKLLTXVideo, random: torch.Generator) -> None:
    """Residual blocks that add next to nothing, so that they run and matter without blurring."""
    for name, module in vae.named_modules():
        if ".resnets." in name and isinstance(module, torch.nn.Conv3d):
            module.weight.normal_(0.0, 0.01, generator=random)


def _set_encoder(encoder: Any, to_latents: torch.Tensor) -> None:
    _write_pairs(encoder.conv_in, _patches().T / _PATCH**2)
    for block in encoder.down_blocks[:-1]:
        weight = block.downsamplers[0].conv.weight
        for channel in range(_WIDTH):
            weight[channel, channel, -1, 1:, 1:] = 0.25
    _read_pairs(encoder.conv_out, to_latents.T * _RMS)
    latent_channels = to_latents.shape[1]
    encoder.conv_out.conv.bias[:latent_channels] = _MEAN
    encoder.conv_out.conv.bias[latent_channels:] = _LOG_VARIANCE


def _set_decoder(decoder: Any, to_colours: torch.Tensor) -> None:
    _write_pairs(decoder.conv_in, to_colours)
    sums = to_colours.sum(dim=1) * _MEAN
    decoder.conv_in.conv.bias[: 2 * _COLOURS] = torch.stack([-sums, sums], dim=1).flatten()
    for block in decoder.up_blocks[1:]:
        # Each channel becomes eight: its first four halfway from the frame before, its last four at this frame.
        weight = block.upsamplers[0].conv.conv.weight.view(_WIDTH, 2, 4, _WIDTH, 3, 3, 3)
        for channel in range(_WIDTH):
            weight[channel, 0, :, channel, :2, 1, 1] = 0.5
            weight[channel, 1, :, channel, 1, 1, 1] = 1.0
    _read_pairs(decoder.conv_out, _patches() * _RMS)


def _patches() -> torch.Tensor:
    """(patch channels, colours): the colour of each channel of a patch of pixels."""
    return torch.eye(_COLOURS).repeat_interleave(_PATCH**2, dim=0)


def _write_pairs(conv: Any, matrix: torch.Tensor) -> None:
    """Let a convolution compute the pairs (+, -) of `matrix` (colours, inputs), and the constant pair after them."""
    now = _present(conv)
    conv.conv.weight[: 2 * _COLOURS : 2, :, now, 1, 1] = matrix
    conv.conv.weight[1 : 2 * _COLOURS : 2, :, now, 1, 1] = -matrix
    conv.conv.bias[-2:] = torch.tensor([_CONSTANT, -_CONSTANT])


def _read_pairs(conv: Any, matrix: torch.Tensor) -> None:
    """Let a convolution compute `matrix` (outputs, colours) from the pairs: silu(x) - silu(-x) = x."""
    now, outputs = _present(conv), len(matrix)
    conv.conv.weight[:outputs, : 2 * _COLOURS : 2, now, 1, 1] = matrix
    conv.conv.weight[:outputs, 1 : 2 * _COLOURS : 2, now, 1, 1] = -matrix


def _present(conv: Any) -> int:
    """The index of the current frame in a kernel of three frames: the last if the convolution sees no later ones."""
    return 2 if conv.is_causal else 1
