"""FLUX.1's transformer in training: flow matching, as in diffusers' own training scripts.

An image x0 and noise x1 are mixed, x = (1 - s) x0 + s x1, and the transformer learns the velocity x1 - x0 from x
and s (rectified flow, arXiv:2209.03003; the choice of s and its weight are those of Stable Diffusion 3,
arXiv:2403.03206).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3

from compute.training.models.base import Tensors
from compute.training.spec import TrainingSpec

__all__ = ["FluxDenoiser", "load_flux_denoiser"]

_LORA_TARGETS = (
    "attn.to_k",
    "attn.to_q",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_k_proj",
    "attn.add_q_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
)


def load_flux_denoiser(folder: Path, spec: TrainingSpec, *, device: torch.device, dtype: torch.dtype) -> "FluxDenoiser":
    """Load the folder's transformer to the device.

    Raises:
        OSError: a file is missing or damaged.
    """
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer", dtype=dtype, local_files_only=True)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    return FluxDenoiser(transformer.to(device), scheduler, spec)


class FluxDenoiser:
    """Implements `Denoiser`."""

    lora_targets: Sequence[str] = _LORA_TARGETS

    def __init__(self, transformer: Any, scheduler: Any, spec: TrainingSpec) -> None:
        self.module = transformer.train()
        self._scheduler = scheduler
        self._spec = spec
        self._guided = bool(transformer.config.guidance_embeds)
        if self._guided and spec.bypass_guidance_embedding:
            transformer.time_text_embed = _WithoutGuidance(transformer.time_text_embed)

    def loss(self, latents: torch.Tensor, batch: Tensors, random: torch.Generator) -> torch.Tensor:
        count = latents.shape[0]
        noise = torch.randn(latents.shape, generator=random, device=latents.device)
        sigmas = self._sigmas(count, latents, random)
        share = sigmas.view(-1, 1, 1, 1)
        noisy = (1.0 - share) * latents + share * noise
        low, high = self._spec.guidance
        guidance = low + (high - low) * torch.rand(count, generator=random, device=latents.device)
        velocity = self._velocity(noisy, sigmas, guidance, batch)
        weights = compute_loss_weighting_for_sd3(weighting_scheme=self._spec.weighting, sigmas=sigmas)
        errors = (velocity.float() - (noise - latents)).square().flatten(1).mean(dim=1)
        return weights * errors

    @torch.no_grad()
    def denoise(
        self,
        prompt: Tensors,
        spec: TrainingSpec,
        *,
        seed: int,
        size: tuple[int, int],
        negative: Tensors | None = None,
    ) -> torch.Tensor:
        device = self.module.device
        width, height = size
        channels = self.module.config.in_channels // 4
        random = torch.Generator("cpu").manual_seed(seed)
        latents = torch.randn(1, channels, height // 8, width // 8, generator=random).to(device)
        batch = {name: value.unsqueeze(0).to(device) for name, value in prompt.items()}
        guidance = torch.full((1,), spec.samples.guidance_scale, device=device)
        for sigma, following in self._schedule(spec.samples.steps, latents):
            velocity = self._velocity(latents, torch.full((1,), sigma, device=device), guidance, batch)
            latents = latents + (following - sigma) * velocity.float()
        return latents

    def _velocity(
        self, latents: torch.Tensor, sigmas: torch.Tensor, guidance: torch.Tensor, batch: Tensors
    ) -> torch.Tensor:
        count, channels, height, width = latents.shape
        dtype, device = self._input_dtype(), latents.device
        packed = FluxPipeline._pack_latents(latents, count, channels, height, width)
        text = batch["prompt_embeds"]
        predicted = self.module(
            hidden_states=packed.to(dtype),
            timestep=sigmas.to(dtype),
            guidance=guidance if self._guided else None,
            pooled_projections=batch["pooled"].to(dtype),
            encoder_hidden_states=text.to(dtype),
            txt_ids=torch.zeros(text.shape[1], 3, device=device, dtype=dtype),
            img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, device, dtype),
            return_dict=False,
        )[0]
        velocity: torch.Tensor = FluxPipeline._unpack_latents(predicted, height * 8, width * 8, 8)
        return velocity

    def _input_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.module.dtype
        return dtype

    def _sigmas(self, count: int, latents: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """The noise level of each image, in (0, 1]."""
        if self._spec.timesteps in ("logit_normal", "mode"):
            shares = compute_density_for_timestep_sampling(
                self._spec.timesteps,
                batch_size=count,
                logit_mean=0.0,
                logit_std=1.0,
                mode_scale=1.29,
                device=latents.device,
                generator=random,
            )
        else:
            shares = torch.rand(count, generator=random, device=latents.device)
        shares = shares.clamp(1e-3, 1.0)
        if self._spec.timesteps == "shifted":
            shift = math.exp(self._mu(latents))
            shares = shift / (shift + (1.0 / shares - 1.0))
        return shares

    def _mu(self, latents: torch.Tensor) -> float:
        config = self._scheduler.config
        tokens = latents.shape[-2] * latents.shape[-1] // 4
        mu: float = calculate_shift(
            tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
        )
        return mu

    def _schedule(self, steps: int, latents: torch.Tensor) -> list[tuple[float, float]]:
        sigmas = torch.linspace(1.0, 1.0 / steps, steps).tolist()
        mu = {"mu": self._mu(latents)} if self._scheduler.config.use_dynamic_shifting else {}
        self._scheduler.set_timesteps(sigmas=sigmas, device="cpu", **mu)
        points: list[float] = self._scheduler.sigmas.tolist()
        return list(pairwise(points))


class _WithoutGuidance(torch.nn.Module):
    """The embedding of time and pooled prompt, without the guidance embedding of guidance-distilled models."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.time_proj = embedding.time_proj
        self.timestep_embedder = embedding.timestep_embedder
        self.guidance_embedder = embedding.guidance_embedder
        self.text_embedder = embedding.text_embedder

    def forward(self, timestep: torch.Tensor, _guidance: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        time = self.timestep_embedder(self.time_proj(timestep).to(pooled.dtype))
        return time + self.text_embedder(pooled)
