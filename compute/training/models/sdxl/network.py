"""SDXL's UNet in training: denoising diffusion, as in common training scripts."""

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from compute.training.models.base import Tensors
from compute.training.models.sdxl.noise import ForwardProcess, load_scheduler, time_ids
from compute.training.spec import TrainingSpec

__all__ = ["SdxlDenoiser", "load_sdxl_denoiser"]

_LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")


def load_sdxl_denoiser(folder: Path, spec: TrainingSpec, *, device: torch.device, dtype: torch.dtype) -> "SdxlDenoiser":
    """Load the folder's UNet to the device.

    Raises:
        InvalidInput: the folder's scheduler is for another kind of model.
        OSError: a file is missing or damaged.
    """
    scheduler = load_scheduler(folder, spec.prediction)
    unet = UNet2DConditionModel.from_pretrained(
        folder / "unet", dtype=dtype, use_safetensors=True, local_files_only=True
    )
    return SdxlDenoiser(unet.to(device), scheduler, spec)


class SdxlDenoiser:
    """Implements `Denoiser`."""

    lora_targets: Sequence[str] = _LORA_TARGETS

    def __init__(self, unet: Any, scheduler: Any, spec: TrainingSpec) -> None:
        self.module = unet.train()
        self._scheduler = scheduler
        self._process = ForwardProcess.of(scheduler)
        self._spec = spec

    def loss(self, latents: torch.Tensor, batch: Tensors, random: torch.Generator) -> torch.Tensor:
        device = latents.device
        latents = latents.float()
        noise = torch.randn(latents.shape, generator=random, device=device)
        steps = torch.randint(self._process.steps, (latents.shape[0],), generator=random, device=device)
        predicted = self._predict(self._process.mix(latents, noise, steps), steps, batch)
        target = self._process.target(latents, noise, steps)
        errors = (predicted.float() - target).square().flatten(1).mean(dim=1)
        if self._spec.weighting == "min_snr":
            return errors * self._process.min_snr_weights(steps, self._spec.min_snr_gamma)
        return errors

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
        """See `Denoiser.denoise`. With a guidance scale above 1, `negative` is the prompt to guide away from.

        Raises:
            ValueError: it is missing then.
        """
        device, scale = self.module.device, spec.samples.guidance_scale
        guided = scale > 1.0
        if guided and negative is None:
            raise ValueError("classifier-free guidance needs the empty prompt")
        width, height = size
        random = torch.Generator("cpu").manual_seed(seed)
        shape = (1, self.module.config.in_channels, height // 8, width // 8)
        batch = _batch([negative, prompt] if negative and guided else [prompt], size, device)
        scheduler = _started(self._scheduler, spec.samples.steps, device)
        latents: torch.Tensor = torch.randn(shape, generator=random).to(device) * scheduler.init_noise_sigma
        options = {"generator": random} if "generator" in inspect.signature(scheduler.step).parameters else {}
        for step in scheduler.timesteps:
            given = scheduler.scale_model_input(latents, step).expand(2 if guided else 1, -1, -1, -1)
            predicted = self._predict(given, step, batch).float()
            if guided:
                unprompted, prompted = predicted.chunk(2)
                predicted = unprompted + scale * (prompted - unprompted)
            latents = scheduler.step(predicted, step, latents, return_dict=False, **options)[0]
        return latents

    def _predict(self, noisy: torch.Tensor, steps: torch.Tensor, batch: Tensors) -> torch.Tensor:
        dtype = self.module.dtype
        predicted: torch.Tensor = self.module(
            noisy.to(dtype),
            steps,
            encoder_hidden_states=batch["prompt_embeds"].to(dtype),
            # Large whole numbers are not exact in bfloat16.
            added_cond_kwargs={"text_embeds": batch["pooled"].to(dtype), "time_ids": batch["time_ids"].float()},
            return_dict=False,
        )[0]
        return predicted


def _started(scheduler: Any, steps: int, device: torch.device) -> Any:
    """A scheduler at the beginning of a run; a new one each time, because schedulers keep their position."""
    started = type(scheduler).from_config(scheduler.config)
    with warnings.catch_warnings():
        # diffusers' schedulers pass tensors to NumPy in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        started.set_timesteps(steps, device=device)
    return started


def _batch(prompts: Sequence[Tensors], size: tuple[int, int], device: torch.device) -> Tensors:
    """The conditions of one image under several prompts: uncropped, at its own size."""
    known = time_ids(size, (0, 0), size)
    rows = [{"prompt_embeds": one["prompt_embeds"], "pooled": one["pooled"], "time_ids": known} for one in prompts]
    return {name: torch.stack([row[name].to(device) for row in rows]) for name in rows[0]}
