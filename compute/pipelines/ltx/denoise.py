"""The denoising of LTX-Video, outside diffusers' pipeline so that image and prompts are encoded concurrently.

The arithmetic is that of diffusers' `LTXConditionPipeline` with one image at frame 0, in the same order. The pipeline
itself encodes its conditions while it has the device. The schedule (half the steps for the first 2.5 % of the noise,
then a parabola) and the noise on the image are those of LTX-Video 0.9.5 (https://github.com/Lightricks/LTX-Video).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

__all__ = ["Clip", "Conditioning", "LtxDenoiser"]


@dataclass(frozen=True, slots=True)
class Clip:
    """The generated clip: frames (8n + 1), frames per second, and the size in pixels on the model's grid."""

    frames: int
    fps: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The conditioning of a clip.

    Attributes:
        start: The first frame as latents (1, channels, 1, height / 32, width / 32).
        noise: The initial noise: (1, channels, latent frames, height / 32, width / 32).
        prompt: T5 states (1 or 2, tokens, width); two for guidance, the negative prompt first.
        mask: The valid tokens, of the same shape without the width.
        guidance_scale: Above 1 it guides away from the negative prompt.
        image_noise: Noise put on the first frame during denoising, as a share of that on the clip.
    """

    start: torch.Tensor
    noise: torch.Tensor
    prompt: torch.Tensor
    mask: torch.Tensor
    guidance_scale: float
    image_noise: float


class LtxDenoiser:
    """Denoises latents with the transformer and the helpers of a pipeline. Not safe for concurrent use."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._transformer = pipeline.transformer
        self._ratio = (pipeline.vae_temporal_compression_ratio, pipeline.vae_spatial_compression_ratio)
        self._patch = (pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size)

    def noise(self, clip: Clip, generator: torch.Generator) -> torch.Tensor:
        """The initial noise of this clip, on the CPU."""
        shape = (1, self._transformer.config.in_channels, *self._grid(clip))
        return torch.randn(shape, generator=generator, dtype=torch.float32)

    @torch.no_grad()
    def denoise(
        self,
        clip: Clip,
        given: Conditioning,
        steps: int,
        generator: torch.Generator,
        after_step: Callable[[int], None],
    ) -> torch.Tensor:
        """Denoise to latents (1, channels, latent frames, height / 32, width / 32); the first frame is `given.start`.

        `after_step` is called with the number of steps done; its errors pass through.
        """
        device = given.noise.device
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self._pipeline.scheduler.config)
        scheduler.set_timesteps(sigmas=linear_quadratic_schedule(steps).tolist(), device=device)
        first = self._pack(torch.cat([given.start, given.noise[:, :, 1:]], dim=2))
        fixed = self._fixed(clip, device)
        coordinates = self._coordinates(clip, device)
        latents = first
        for index, timestep in enumerate(scheduler.timesteps):
            if given.image_noise > 0:
                latents = self._pipeline.add_noise_to_image_conditioning_latents(
                    timestep / 1000.0, first, latents, given.image_noise, fixed, generator
                )
            per_token = torch.min(timestep.expand(1, 1).float(), (1 - fixed) * 1000.0)
            velocity = self._velocity(latents, per_token, coordinates, given)
            moved = scheduler.step(-velocity, timestep, latents, per_token_timesteps=per_token, return_dict=False)[0]
            latents = torch.where(fixed.bool().unsqueeze(-1), latents, moved)
            after_step(index + 1)
        denoised = self._unpack(latents, clip)
        # The noise of the last step is still on the first frame, which is known exactly.
        return torch.cat([given.start, denoised[:, :, 1:]], dim=2)

    def _velocity(
        self, latents: torch.Tensor, per_token: torch.Tensor, coordinates: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        copies = given.prompt.shape[0]
        with self._transformer.cache_context("cond_uncond"):
            predicted = self._transformer(
                hidden_states=torch.cat([latents] * copies).to(given.prompt.dtype),
                encoder_hidden_states=given.prompt,
                timestep=torch.cat([per_token] * copies),
                encoder_attention_mask=given.mask,
                video_coords=torch.cat([coordinates] * copies),
                return_dict=False,
            )[0]
        if copies == 1:
            return torch.as_tensor(predicted)
        away, towards = predicted.chunk(2)
        return torch.as_tensor(away + given.guidance_scale * (towards - away))

    def _grid(self, clip: Clip) -> tuple[int, int, int]:
        temporal, spatial = self._ratio
        return (clip.frames - 1) // temporal + 1, clip.height // spatial, clip.width // spatial

    def _fixed(self, clip: Clip, device: torch.device) -> torch.Tensor:
        """(1, tokens): 1 where the token belongs to the first frame, which is given, else 0."""
        fixed = torch.zeros((1, 1, *self._grid(clip)), device=device)
        fixed[:, :, 0] = 1.0
        return self._pack(fixed)[:, :, 0]

    def _coordinates(self, clip: Clip, device: torch.device) -> torch.Tensor:
        """(1, 3, tokens): the time of each token in seconds, and its position in pixels."""
        patch, patch_t = self._patch
        ids = self._pipeline._prepare_video_ids(
            1, *self._grid(clip), patch_size=patch, patch_size_t=patch_t, device=device
        )
        temporal, spatial = self._ratio
        scaled = self._pipeline._scale_video_ids(ids, spatial, temporal, frame_index=0, device=device).float()
        scaled[:, 0] *= 1.0 / clip.fps
        return torch.as_tensor(scaled)

    def _pack(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self._pipeline._pack_latents(latents, *self._patch))

    def _unpack(self, packed: torch.Tensor, clip: Clip) -> torch.Tensor:
        return torch.as_tensor(self._pipeline._unpack_latents(packed, *self._grid(clip), *self._patch))
