"""FLUX.1 on diffusers: one warm set of weights behind text-to-image and image-to-image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from PIL import Image

from compute.errors import InvalidInput
from compute.pipelines.config import ModelConfig, check_size
from compute.pipelines.lora import Adapters, LoraCache
from compute.pipelines.memory import reporting_out_of_memory
from compute.pipelines.placement import pick_device, pick_dtype, place
from compute.pipelines.prompts import PromptCache
from compute.pipelines.quiet import no_progress_bars
from compute.storage.loras import ModelCard
from compute.tasks.protocol import GenerateRequest, OnStep

__all__ = ["FluxModel", "load_flux"]

# At or below this share of the noise no schedule of up to a thousand steps runs more than its last step; a smaller
# value would round to none, which diffusers refuses.
_LEAST_STRENGTH = 1e-3


def load_flux(config: ModelConfig, source: str | Path) -> "FluxModel":
    """Load FLUX.1 from a local folder or a Hugging Face repository and place it on its device.

    Raises:
        OSError: the files cannot be read or fetched.
        ValueError: the settings do not fit this machine.
    """
    no_progress_bars()
    device = pick_device(config)
    dtype = pick_dtype(config, device)
    txt2img = FluxPipeline.from_pretrained(source, revision=config.revision, dtype=dtype, use_safetensors=True)
    # The same parts, so hooks and adapters serve both. Not from_pipe: it casts what is shared, to float32 by default.
    img2img = FluxImg2ImgPipeline(**txt2img.components)
    for pipeline in (txt2img, img2img):
        pipeline.set_progress_bar_config(disable=True)
    place(txt2img, config, device)
    return FluxModel(config, txt2img, img2img)


class FluxModel:
    """A warm FLUX.1; an `ImageModel`.

    Not safe for concurrent use, as diffusers' pipelines are not (huggingface/diffusers#3672): one `generate` at a
    time, under the caller's lock.
    """

    def __init__(self, config: ModelConfig, txt2img: Any, img2img: Any) -> None:
        self._config = config
        self._txt2img = txt2img
        self._img2img = img2img
        card = ModelCard.from_config(txt2img.transformer.config)
        self._loras: Adapters = LoraCache(txt2img, card, capacity=config.lora_cache)
        self._prompts = PromptCache(
            txt2img, capacity=config.prompt_cache, max_sequence_length=config.max_sequence_length
        )

    @property
    def name(self) -> str:
        return self._config.model

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Image.Image:
        """Draw one RGB image; the same request gives the same bytes, whatever ran before.

        The negative prompt acts when `true_cfg_scale` is above 1, at twice the time per step. With an image, about
        steps * strength steps run, at least one; `on_step` is told their number.

        Raises:
            Interrupted: whatever `on_step` raises passes through, and the pipeline stays usable.
            InvalidInput: a size off the grid, a strength outside (0, 1], or a LoRA that does not fit.
            OutOfMemory: the device has too little memory.
        """
        _check(request, self._config.family)
        with reporting_out_of_memory(request):
            try:
                text_adapters = self._loras.apply(request.loras)
                return self._draw(request, text_adapters, on_step)
            finally:
                # A run that was stopped has not done this itself, and the img2img pipeline does not know the hooks.
                self._txt2img.maybe_free_model_hooks()

    def _draw(self, request: GenerateRequest, text_adapters: object, on_step: OnStep) -> Image.Image:
        arguments = {
            **self._conditioning(request, text_adapters),
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
            "callback_on_step_end": _step_callback(on_step),
            "callback_on_step_end_tensor_inputs": [],
        }
        if request.image is None:
            drawn: Image.Image = self._txt2img(**arguments).images[0]
        else:
            start = request.image.convert("RGB").resize((request.width, request.height), Image.Resampling.LANCZOS)
            strength = max(request.strength, _LEAST_STRENGTH)
            drawn = self._img2img(image=start, strength=strength, **arguments).images[0]
        return drawn

    def _conditioning(self, request: GenerateRequest, text_adapters: object) -> dict[str, Any]:
        positive = self._prompts.encode(request.prompt, text_adapters)
        arguments: dict[str, Any] = {"prompt_embeds": positive.prompt, "pooled_prompt_embeds": positive.pooled}
        if request.negative_prompt is not None and request.true_cfg_scale > 1:
            negative = self._prompts.encode(request.negative_prompt, text_adapters)
            arguments |= {
                "negative_prompt_embeds": negative.prompt,
                "negative_pooled_prompt_embeds": negative.pooled,
                "true_cfg_scale": request.true_cfg_scale,
            }
        return arguments


def _check(request: GenerateRequest, family: str) -> None:
    check_size(request.width, request.height, family=family)
    if request.steps < 1:
        raise InvalidInput(f"steps must be at least 1, not {request.steps}", field="steps")
    if not 0 < request.strength <= 1:
        raise InvalidInput(f"strength must be above 0 and at most 1, not {request.strength}", field="strength")


def _step_callback(on_step: OnStep) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def after_step(pipeline: Any, index: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(index + 1, pipeline.num_timesteps)
        return {}

    return after_step
