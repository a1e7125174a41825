"""FLUX.1 on diffusers: one loaded set of weights for all its uses, in three stages."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline
from PIL import Image

from compute.errors import InvalidInput
from compute.pipelines.acceleration.compilation import CompiledBlocks, example_inputs
from compute.pipelines.acceleration.offload import EncoderOffload
from compute.pipelines.acceleration.placement import pick_device, pick_dtype, place
from compute.pipelines.acceleration.quantization import to_fp8
from compute.pipelines.acceleration.step_cache import StepCache
from compute.pipelines.acceleration.streams import Pace, Ready, finish
from compute.pipelines.config import ModelConfig, check_size
from compute.pipelines.finite import FiniteCheck
from compute.pipelines.flux.inputs import Blend, FluxInputs, FluxStart, TextInputs
from compute.pipelines.loading.parts import load_parts, with_most_room
from compute.pipelines.loading.weights import local_folder
from compute.pipelines.lora.switch import Adapters, StaticLoras
from compute.pipelines.memory import reporting_out_of_memory
from compute.pipelines.native import HasNativeSizes, OwnSizes, own_sizes
from compute.pipelines.parts import Parts
from compute.pipelines.prompts import PromptCache, prompt_tokens
from compute.pipelines.quiet import no_progress_bars
from compute.worker.protocol import GenerateRequest, LoraSelection, OnStep

__all__ = ["FluxModel", "load_flux", "prepare_flux"]


def load_flux(config: ModelConfig, source: str | Path) -> "FluxModel":
    """Load FLUX.1 from a local folder or a Hugging Face repository and place it on its device.

    Raises what `prepare_flux` raises.
    """
    return prepare_flux(config, source)()


def prepare_flux(
    config: ModelConfig, source: str | Path, kind: type[FluxInputs] = TextInputs
) -> Callable[[], "FluxModel"]:
    """Load FLUX.1 into host memory; calling the result, once, places it on its device.

    `kind` is the class of inputs that these weights take.

    Raises:
        OSError: the files are missing, damaged or cannot be fetched.
        ValueError: the settings do not fit this machine.
    """
    no_progress_bars()
    device = pick_device(config)
    parts = load_parts(source, dtype=pick_dtype(config, device), revision=config.revision)
    sizes = own_sizes(config, local_folder(source, config.revision))
    return partial(_activate, config, kind, parts, sizes, device)


def _activate(
    config: ModelConfig, kind: type[FluxInputs], parts: dict[str, Any], sizes: OwnSizes, visible: torch.device
) -> "FluxModel":
    device = with_most_room(visible)
    pipeline = FluxPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    inputs = kind(pipeline)
    if config.quantization == "fp8":
        to_fp8(pipeline.transformer, device)
    loras = StaticLoras(
        pipeline,
        rank=config.lora_rank,
        capacity=config.lora_cache,
        device_capacity=config.lora_device_cache,
        device=device,
        dtype=pipeline.transformer.dtype,
    )
    place(pipeline, config, device)
    model = FluxModel(config, pipeline, inputs, loras, sizes)
    if config.compile != "off":
        _compile_now(pipeline, config, loras)
    return model


def _compile_now(pipeline: Any, config: ModelConfig, loras: StaticLoras) -> None:
    """Compile the transformer's blocks, without LoRAs and with them, so that no request waits for it."""
    text_tokens = prompt_tokens(pipeline, config.max_sequence_length)
    inputs = example_inputs(
        pipeline.transformer,
        image_tokens=text_tokens + 16,  # unlike any other size, or the compiler would identify the two
        text_tokens=text_tokens,
        device=pipeline._execution_device,
        dtype=pipeline.transformer.dtype,
    )
    for loras_act in (nullcontext(), loras.for_warm_up()):
        with torch.no_grad(), loras_act:
            pipeline.transformer(**inputs)


@dataclass(frozen=True, slots=True)
class FluxPrepared:
    """A request with everything that can be known before the device is free.

    Attributes:
        conditioning: Encoded prompts, as arguments of the pipelines.
        start: Its encoded images.
        noise: State of the request's generator after the images were encoded.
    """

    request: GenerateRequest
    conditioning: dict[str, Any]
    start: FluxStart
    noise: torch.Tensor
    ready: Ready


@dataclass(frozen=True, slots=True)
class FluxLatents:
    """Denoised latents in patches (1, tokens, 4 * channels)."""

    request: GenerateRequest
    packed: torch.Tensor
    ready: Ready


class FluxModel(HasNativeSizes):
    """A loaded FLUX.1 of any kind; an `ImageModel` that `TakesLoras` and `ChoosesSize`.

    Every part has one user at a time: the text encoders in `prepare`, the transformer and the scheduler in `denoise`,
    the VAE in `decode` and for images in `prepare`. With offloading all the stages take turns.

    Attributes:
        pipeline: The diffusers pipeline that has the parts and the hooks between them.
    """

    def __init__(
        self, config: ModelConfig, pipeline: FluxPipeline, inputs: FluxInputs, loras: Adapters, sizes: OwnSizes
    ) -> None:
        super().__init__(sizes)
        self.pipeline: Any = pipeline
        self._config = config
        self._inputs = inputs
        self._loras = loras
        self._finite = FiniteCheck(config.model)
        self._blocks = CompiledBlocks(pipeline.transformer, config)
        self._step_cache = StepCache(pipeline.transformer, config.step_cache)
        self._device = pipeline._execution_device
        self._prompts = _prompt_cache(pipeline, config, self._device)
        self._parts = Parts(pipeline, offloads=config.offload != "none")

    @property
    def name(self) -> str:
        return self._config.model

    def modules(self) -> Iterator[torch.nn.Module]:
        """Its parts that have weights."""
        return self._parts.modules()

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Image.Image:
        """Run all three stages. The same request gives the same bytes, whatever ran before or at the same time.

        The negative prompt acts if `true_cfg_scale` is above 1, at twice the time per step. With an image, about
        steps * strength steps run, at least one; `on_step` gets their number. With a mask as well, only its white part
        is regenerated, on the latents' grid of 8 pixels.

        Raises:
            Interrupted: whatever `on_step` raises passes through, and the pipeline stays usable.
            InvalidInput: a size off the grid, a strength outside (0, 1], a LoRA that does not fit, or images that
                these weights do not take.
            OutOfMemory: the device has too little memory.
            TaskFailed: the result is not finite.
        """
        return self.decode(self.denoise(self.prepare(request), on_step))

    def prefetch(self, loras: Sequence[LoraSelection]) -> bool:
        self._loras.prefetch(loras)
        return {lora.name for lora in loras} <= set(self._loras.loaded)

    def prepare(self, request: GenerateRequest) -> FluxPrepared:
        _check(request, self._config.family)
        self._inputs.check(request)
        with reporting_out_of_memory(request), torch.no_grad(), self._parts.ahead.active():
            self._loras.prefetch(request.loras)
            with self._parts.text_encoders(), self._loras.on_text_encoders(request.loras) as text_adapters:
                conditioning = self._conditioning(request, text_adapters)
            generator = torch.Generator("cpu").manual_seed(request.seed)
            with self._parts.vae():
                start = self._inputs.make(request, generator)
            used = [value for value in conditioning.values() if isinstance(value, torch.Tensor)] + start.tensors()
            return FluxPrepared(request, conditioning, start, generator.get_state(), Ready.after_this(*used))

    def denoise(self, prepared: FluxPrepared, on_step: OnStep) -> FluxLatents:
        with reporting_out_of_memory(prepared.request), self._parts.transformer():
            prepared.ready.wait()
            self._loras.apply(prepared.request.loras)
            with self._blocks.as_they_are(self._loras.on_peft):
                packed = self._denoise(prepared, on_step)
            finish(self._device)
            self._finite.latents(packed, prepared.request.loras)
            return FluxLatents(prepared.request, packed, Ready.after_this(packed))

    def decode(self, latents: FluxLatents) -> Image.Image:
        request = latents.request
        with (
            reporting_out_of_memory(request),
            torch.no_grad(),
            self._parts.behind.active(),
            self._parts.vae(),
        ):
            latents.ready.wait()
            pixels = self._inputs.vae.decode(latents.packed, request.width, request.height)
            self._finite.pixels(pixels, request.loras)
            return self._inputs.vae.image(pixels)

    def _denoise(self, prepared: FluxPrepared, on_step: OnStep) -> torch.Tensor:
        request, start = prepared.request, prepared.start
        arguments = {
            **prepared.conditioning,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "generator": torch.Generator("cpu").set_state(prepared.noise),
            "callback_on_step_end": _step_callback(on_step, Pace(self._device), start.blend),
            "callback_on_step_end_tensor_inputs": ["latents"] if start.blend else [],
            "output_type": "latent",
            **start.arguments,
        }
        guided = "true_cfg_scale" in prepared.conditioning
        with self._step_cache.request(steps=request.steps, first_step=start.first_step, guided=guided):
            return torch.as_tensor(self._inputs.pipelines[start.use](**arguments).images)

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


def _prompt_cache(pipeline: Any, config: ModelConfig, device: torch.device) -> PromptCache:
    encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
    return PromptCache(
        pipeline,
        capacity=config.prompt_cache,
        max_sequence_length=config.max_sequence_length,
        encoding=EncoderOffload(encoders, device).on_device if config.text_encoders == "host" else nullcontext,
    )


def _check(request: GenerateRequest, family: str) -> None:
    check_size(request.width, request.height, family=family)
    if request.steps < 1:
        raise InvalidInput(f"`steps` must be at least 1, not {request.steps}.", field="steps")
    if not 0 < request.strength <= 1:
        raise InvalidInput(f"`strength` must be above 0 and at most 1, not {request.strength}.", field="strength")


def _step_callback(
    on_step: OnStep, pace: Pace, blend: Blend | None
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def after_step(pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        changed = {} if blend is None else {"latents": blend(index, tensors["latents"])}
        pace.step()
        on_step(index + 1, pipeline.num_timesteps)
        return changed

    return after_step
