"""LTX-Video on diffusers: clips from an image and a prompt, in three stages."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import LTXConditionPipeline
from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.resize import at_size
from compute.pipelines.acceleration.attention import set_attention
from compute.pipelines.acceleration.offload import EncoderOffload
from compute.pipelines.acceleration.placement import pick_device, pick_dtype, place_weights
from compute.pipelines.acceleration.streams import Pace, Ready, finish
from compute.pipelines.config import ModelConfig
from compute.pipelines.finite import FiniteCheck
from compute.pipelines.loading.parts import load_parts, with_most_room
from compute.pipelines.loading.weights import local_folder
from compute.pipelines.ltx.denoise import Clip, Conditioning, LtxDenoiser
from compute.pipelines.ltx.vae import LtxVae
from compute.pipelines.memory import reporting_out_of_memory
from compute.pipelines.native import HasNativeSizes, OwnSizes, own_sizes
from compute.pipelines.parts import Parts
from compute.pipelines.quiet import no_progress_bars
from compute.worker.protocol import OnStep, VideoRequest

__all__ = ["LtxVideoModel", "load_ltx_video", "prepare_ltx_video"]

_GRID = 32
"""Pixels between two latents; in time it is 8 frames."""
_FRAMES = 8
_SLOWEST = 12
"""The least frames per second that the model was trained with; a slower clip takes every n-th frame of a faster one."""
_IMAGE_NOISE = 0.15
"""LTXConditionPipeline's own `image_cond_noise_scale`."""
_DECODING = 2**62
"""Distinguishes the seed of the decoder's noise from the seeds of other clips."""
_TOKENS = 256
"""Tokens of a prompt; the longest that LTX-Video was trained with."""
_MASKED_ATTENTION = ("native", "cudnn", "xformers")
"""Kernels that can leave out the padding of a prompt."""


def load_ltx_video(config: ModelConfig, source: str | Path) -> "LtxVideoModel":
    """Load LTX-Video (0.9.5 or newer) from a local folder or a Hugging Face repository and place it on its device.

    Raises what `prepare_ltx_video` raises.
    """
    return prepare_ltx_video(config, source)()


def prepare_ltx_video(config: ModelConfig, source: str | Path) -> Callable[[], "LtxVideoModel"]:
    """Load LTX-Video into host memory; calling the result, once, places it on its device.

    Raises:
        OSError: the files are missing, damaged or cannot be fetched.
        ValueError: the settings do not fit this machine or this family, or the model is older than 0.9.5.
    """
    no_progress_bars()
    _check_settings(config)
    device = pick_device(config)
    parts = load_parts(source, dtype=pick_dtype(config, device), revision=config.revision)
    if parts["scheduler"].config.use_dynamic_shifting:
        raise ValueError(f"{source} has the schedule of LTX-Video before 0.9.5; use 0.9.5 or newer")
    sizes = own_sizes(config, local_folder(source, config.revision))
    return partial(_activate, config, parts, sizes, device)


def _activate(config: ModelConfig, parts: dict[str, Any], sizes: OwnSizes, visible: torch.device) -> "LtxVideoModel":
    pipeline = LTXConditionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    _place(pipeline, config, with_most_room(visible))
    return LtxVideoModel(config, pipeline, sizes)


@dataclass(frozen=True, slots=True)
class LtxPrepared:
    """A request with everything that can be known before the device is free. `noise` is its generator's state."""

    request: VideoRequest
    clip: Clip
    given: Conditioning
    noise: torch.Tensor
    ready: Ready


@dataclass(frozen=True, slots=True)
class LtxLatents:
    """Denoised latents (1, channels, latent frames, height / 32, width / 32)."""

    request: VideoRequest
    latents: torch.Tensor
    ready: Ready


class LtxVideoModel(HasNativeSizes):
    """A loaded LTX-Video; a `StagedModel` that takes a `VideoRequest` and generates a list of RGB frames.

    As in `FluxModel` every part has one user at a time: the text encoder in `prepare`, the transformer in `denoise`,
    the VAE in `decode` and for the image in `prepare`. With offloading all the stages take turns.
    """

    def __init__(self, config: ModelConfig, pipeline: Any, sizes: OwnSizes) -> None:
        super().__init__(sizes)
        self._config = config
        self._finite = FiniteCheck(config.model)
        self._pipeline = pipeline
        self._vae = LtxVae(pipeline)
        self._denoiser = LtxDenoiser(pipeline)
        self._device = pipeline._execution_device
        self._prompt = lru_cache(maxsize=config.prompt_cache)(_prompt_encoder(pipeline, config, self._device))
        self._parts = Parts(pipeline, offloads=config.offload != "none")

    @property
    def name(self) -> str:
        return self._config.model

    def modules(self) -> Iterator[torch.nn.Module]:
        """Its parts that have weights."""
        return self._parts.modules()

    def generate(self, request: VideoRequest, on_step: OnStep) -> list[Image.Image]:
        """Run all three stages. The same request gives the same pixels, whatever ran before or at the same time.

        The first frame is the request's image, as far as the model can show it. The negative prompt acts if
        `guidance_scale` is above 1, at twice the time per step.

        Raises:
            Interrupted: whatever `on_step` raises passes through, and the model stays usable.
            InvalidInput: a value of the request is out of range.
            OutOfMemory: the device has too little memory.
        """
        return self.decode(self.denoise(self.prepare(request), on_step))

    def prepare(self, request: VideoRequest) -> LtxPrepared:
        _check(request)
        clip = _clip(request)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        with reporting_out_of_memory(request), torch.no_grad(), self._parts.ahead.active():
            with self._parts.text_encoders():
                prompt, mask = self._prompts(request)
            noise = self._denoiser.noise(clip, generator).to(self._device)
            with self._parts.vae():
                start = self._vae.encode(request.image, clip.width, clip.height, generator).to(self._device)
            given = Conditioning(start, noise, prompt, mask, request.guidance_scale, _image_noise(request.motion))
            ready = Ready.after_this(start, noise, prompt, mask)
            return LtxPrepared(request, clip, given, generator.get_state(), ready)

    def denoise(self, prepared: LtxPrepared, on_step: OnStep) -> LtxLatents:
        request, pace = prepared.request, Pace(self._device)
        generator = torch.Generator("cpu").set_state(prepared.noise)

        def after_step(done: int) -> None:
            pace.step()
            on_step(done, request.steps)

        with reporting_out_of_memory(request), self._parts.transformer():
            prepared.ready.wait()
            latents = self._denoiser.denoise(prepared.clip, prepared.given, request.steps, generator, after_step)
            finish(self._device)
            self._finite.latents(latents)
            return LtxLatents(request, latents, Ready.after_this(latents))

    def decode(self, latents: LtxLatents) -> list[Image.Image]:
        """Decode exactly the requested frames, at exactly the requested size."""
        request = latents.request
        generator = torch.Generator("cpu").manual_seed((request.seed + _DECODING) % 2**63)
        with (
            reporting_out_of_memory(request),
            torch.no_grad(),
            self._parts.behind.active(),
            self._parts.vae(),
        ):
            latents.ready.wait()
            pixels = self._vae.decode(latents.latents, generator)
            self._finite.pixels(pixels)
            decoded = self._vae.frames(pixels)
        kept = decoded[:: _every(request.fps)][: request.frames]
        # The image was stretched to the grid by up to 31 pixels; this reverses it.
        return [at_size(Image.fromarray(frame.numpy()), (request.width, request.height)) for frame in kept]

    def _prompts(self, request: VideoRequest) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoded prompts and the mask of valid tokens; with guidance the negative prompt comes first."""
        prompts = [request.prompt]
        if request.guidance_scale > 1:
            prompts.insert(0, request.negative_prompt or "")
        states, masks = zip(*(self._prompt(prompt) for prompt in prompts), strict=True)
        return torch.cat(states), torch.cat(masks)


def _check_settings(config: ModelConfig) -> None:
    """Refuse settings that this family does not support, instead of ignoring them."""
    for setting, off in (("quantization", "none"), ("compile", "off"), ("step_cache", "off")):
        if getattr(config, setting) != off:
            raise ValueError(f"model.{setting}: ltx-video runs without it; use {off}")
    if config.attention not in _MASKED_ATTENTION:
        raise ValueError(f"model.attention: ltx-video needs one of {', '.join(_MASKED_ATTENTION)}")


def _place(pipeline: Any, config: ModelConfig, device: torch.device) -> None:
    set_attention(pipeline.transformer, config.attention)
    if config.vae_tile is not None:
        tile, stride = config.vae_tile, config.vae_tile * 7 // 8 // _GRID * _GRID
        pipeline.vae.enable_tiling(tile, tile, tile_sample_stride_height=stride, tile_sample_stride_width=stride)
    place_weights(pipeline, config, device)


def _prompt_encoder(
    pipeline: Any, config: ModelConfig, device: torch.device
) -> Callable[[str], tuple[torch.Tensor, torch.Tensor]]:
    """The function that encodes a prompt to T5 states (1, tokens, width) and the mask of valid tokens (1, tokens)."""
    tokens = min(config.max_sequence_length, _TOKENS)
    visiting = (
        EncoderOffload([pipeline.text_encoder], device).on_device if config.text_encoders == "host" else nullcontext
    )

    def encode(prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad(), visiting():
            states, mask, _, _ = pipeline.encode_prompt(
                prompt, do_classifier_free_guidance=False, max_sequence_length=tokens, device=device
            )
        return states, mask

    return encode


def _check(request: VideoRequest) -> None:
    if request.steps < 1:
        raise InvalidInput(f"`steps` must be at least 1, not {request.steps}.", field="steps")
    for field in ("frames", "fps", "width", "height"):
        if getattr(request, field) < 1:
            raise InvalidInput(f"{field} must be at least 1, not {getattr(request, field)}", field=field)
    if not 0 <= request.motion <= 1:
        raise InvalidInput(f"`motion` must be between 0 and 1, not {request.motion}.", field="motion_bucket_id")


def _clip(request: VideoRequest) -> Clip:
    """The clip to generate, from which the request is cut: 8n + 1 frames on a grid of 32 pixels."""
    every = _every(request.fps)
    needed = (request.frames - 1) * every + 1
    return Clip(
        frames=_FRAMES * max(1, -(-(needed - 1) // _FRAMES)) + 1,
        fps=request.fps * every,
        width=-(-request.width // _GRID) * _GRID,
        height=-(-request.height // _GRID) * _GRID,
    )


def _every(fps: int) -> int:
    return -(-_SLOWEST // fps)


def _image_noise(motion: float) -> float:
    """Noise on the image during denoising: the noisier the image, the more the clip moves.

    LTX-Video has no parameter for motion, and this is the nearest one: diffusers adds the noise "to help with motion",
    and says of Stable Video Diffusion, where motion buckets come from, that more of it means more motion. It is linear:
    0 shows the image unchanged, 0.5 is the pipeline's own amount, 1 twice that.
    """
    return 2 * motion * _IMAGE_NOISE
