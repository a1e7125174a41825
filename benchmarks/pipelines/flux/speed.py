"""Speed of FLUX.1 with each setting, compared with plain diffusers: `python -m benchmarks.pipelines.flux.speed`.

With a CUDA device: the full-size FLUX.1-dev (19 + 38 blocks, 12 billion parameters, random weights in bfloat16 made on
the device, nothing is downloaded), one image of 1024x1024 in 28 steps from an encoded prompt to pixels. Needs about
60 GiB of device memory and under ten minutes, most of which is compiling.
Without one: a model of some MB on the CPU, to check that every arm runs. ITS FIGURES ARE NOT GPU FIGURES.

The arms take turns on the same weights: plain diffusers in eager mode, `lossless` (compiled, the fastest exact
attention kernels), `fp8` on top of that, and `fp8, cached` with the step cache at `balanced` on top of that. Random
weights do not change the duration of a step or the steps that the cache reuses. They tell nothing about image quality:
the cosine between final latents only detects a broken arm.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, get_args

import torch

from benchmarks.harness import arguments, interleave, machine, median, print_table, ratio, say, spread
from benchmarks.pipelines.flux.loras import report_loras
from benchmarks.pipelines.flux.models import LARGE, SMALL, Scale, new_pipeline, new_transformer, same_weights
from compute.pipelines.acceleration.attention import check_attention, set_attention
from compute.pipelines.acceleration.compilation import CompiledBlocks, example_inputs
from compute.pipelines.acceleration.quantization import check_fp8, to_fp8
from compute.pipelines.acceleration.step_cache import StepCache
from compute.pipelines.config import Attention, Compile, ModelConfig

_EXACT: tuple[Attention, ...] = ("native", "cudnn", "flash", "flash_3", "xformers")
_TARGETS = {"lossless": "1.8x", "fp8": "2.6x", "fp8, cached": "4.5x"}
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Arm:
    """A pipeline in one configuration, and the context in which it generates an image."""

    pipeline: Any
    around: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True, slots=True)
class Bench:
    """Shared parts of all arms."""

    scale: Scale
    device: torch.device
    prompt: dict[str, torch.Tensor]

    def generate(self, arm: Arm, *, steps: int | None = None, output: str = "pil") -> Any:
        """Generate one image, the same every time; returns when the device has finished."""
        with arm.around():
            images = arm.pipeline(
                **self.prompt,
                width=self.scale.side,
                height=self.scale.side,
                num_inference_steps=steps or self.scale.steps,
                generator=torch.Generator("cpu").manual_seed(1),
                output_type=output,
            ).images
        synchronize(self.device)
        return images

    def seconds(self, arm: Arm) -> float:
        began = time.perf_counter()
        self.generate(arm)
        return time.perf_counter() - began


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--mode", default="default", choices=get_args(Compile), help="of torch.compile (default)")
    parser.add_argument("--small", action="store_true", help="use the small model, also on a GPU")
    options = parser.parse_args()
    say(machine())
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    if gpu:
        say(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    else:
        say("NO GPU HERE: a small model on the CPU shows that every arm runs. These are not GPU figures.")
    # Every arm compiles the same two functions with other layers in them.
    torch._dynamo.config.recompile_limit = 64
    scale = SMALL if options.small or not gpu else LARGE
    run(Bench(scale, device, encoded_prompt(scale, device)), options)


def run(bench: Bench, options: argparse.Namespace) -> None:
    began = time.perf_counter()
    transformer = new_transformer(bench.scale, bench.device)
    say(f"{sum(p.numel() for p in transformer.parameters()) / 1e9:.2f} billion parameters on {bench.device}")
    attention = fastest_attention(bench)
    config = ModelConfig(compile=options.mode, attention=attention)
    arms = build_arms(bench, transformer, config)
    for name, arm in arms.items():
        compiling = time.perf_counter()
        bench.generate(arm, steps=2)
        say(f"  {name}: first image after {time.perf_counter() - compiling:.1f} s")
    times = interleave(
        {name: lambda arm=arm: bench.seconds(arm) for name, arm in arms.items()},  # type: ignore[misc]
        1 if options.quick else options.rounds,
    )
    report_arms(bench, arms, times)
    if not options.quick:
        report_loras(transformer, bench.scale, bench.device, config)
    say(f"\n{time.perf_counter() - began:.0f} s in all" + ("" if bench.device.type == "cuda" else ", not GPU figures"))


def encoded_prompt(scale: Scale, device: torch.device) -> dict[str, torch.Tensor]:
    random = torch.Generator("cpu").manual_seed(2)
    widths = scale.transformer
    states = torch.randn(1, scale.text_tokens, widths.get("joint_attention_dim", 4096), generator=random)
    pooled = torch.randn(1, widths.get("pooled_projection_dim", 768), generator=random)
    return {
        "prompt_embeds": states.to(device=device, dtype=scale.dtype),
        "pooled_prompt_embeds": pooled.to(device=device, dtype=scale.dtype),
    }


def build_arms(bench: Bench, transformer: Any, config: ModelConfig) -> dict[str, Arm]:
    """Return the arms that this device can run; print why others cannot."""
    # Named explicitly: setting kernels on one model makes them every other model's default.
    transformer.set_attention_backend("native")
    plain = new_pipeline(transformer, bench.scale, bench.device)
    arms = {"plain diffusers": Arm(plain), "lossless": Arm(with_transformer(plain, tuned(bench, transformer, config)))}
    cached = "fp8, cached"
    try:
        check_fp8(bench.device, bench.scale.dtype)
    except ValueError as reason:
        say(f"no fp8 here: {reason}")
        cached = "cached, no fp8"
    else:
        config = config.model_copy(update={"quantization": "fp8"})
        arms["fp8"] = Arm(with_transformer(plain, tuned(bench, transformer, config)))
    reusing = tuned(bench, transformer, config)
    cache = StepCache(reusing, "balanced")
    arms[cached] = Arm(with_transformer(plain, reusing), lambda: cache.request(steps=bench.scale.steps))
    return arms


def tuned(bench: Bench, transformer: Any, config: ModelConfig) -> Any:
    """Return a model with the same weights and our settings, applied in the same order as in a replica."""
    model = same_weights(transformer)
    set_attention(model, config.attention)
    if config.quantization == "fp8":
        to_fp8(model, bench.device)
    CompiledBlocks(model, config)
    return model


def with_transformer(pipeline: Any, transformer: Any) -> Any:
    twin = type(pipeline)(**{**pipeline.components, "transformer": transformer})
    twin.set_progress_bar_config(disable=True)
    return twin


def fastest_attention(bench: Bench) -> Attention:
    """Return the fastest of the exact attention kernels, measured on a model of two blocks."""
    scale = bench.scale
    model = new_transformer(
        Scale({**scale.transformer, "num_layers": 1, "num_single_layers": 1}, *_rest(scale)), bench.device
    )
    inputs = example_inputs(
        model, image_tokens=scale.image_tokens, text_tokens=scale.text_tokens, device=bench.device, dtype=scale.dtype
    )
    found: dict[Attention, float] = {}
    for attention in _EXACT:
        try:
            check_attention(attention, bench.device, scale.dtype)
            set_attention(model, attention)
            with torch.no_grad():
                found[attention] = median([forward_seconds(model, inputs, bench.device) for _ in range(6)][1:])
        except (ValueError, RuntimeError, ImportError) as reason:
            say(f"  attention {attention}: {str(reason).splitlines()[0][:110]}")
    print_table("two blocks", ["attention", "ms"], [[name, f"{took * 1000:.2f}"] for name, took in found.items()])
    return min(found, key=lambda name: found[name])


def _rest(scale: Scale) -> tuple[Any, ...]:
    return (scale.vae_channels, scale.dtype, scale.text_tokens, scale.side, scale.steps)


def forward_seconds(model: Any, inputs: dict[str, Any], device: torch.device) -> float:
    began = time.perf_counter()
    model(**inputs)
    synchronize(device)
    return time.perf_counter() - began


def report_arms(bench: Bench, arms: dict[str, Arm], times: dict[str, list[float]]) -> None:
    plain = times["plain diffusers"]
    latents = {name: bench.generate(arm, output="latent").flatten().float() for name, arm in arms.items()}
    rows = []
    for name, arm in arms.items():
        with peak_memory(bench.device) as peak:
            bench.generate(arm)
        cosine = torch.cosine_similarity(latents[name], latents["plain diffusers"], dim=0).item()
        speed = ratio([1 / seconds for seconds in times[name]], [1 / seconds for seconds in plain])
        rows.append(
            [name, spread(times[name], 3), speed, _TARGETS.get(name, ""), busy(bench, arm), peak(), f"{cosine:.4f}"]
        )
    size = f"{bench.scale.side}x{bench.scale.side}, {bench.scale.steps} steps"
    print_table(size, ["arm", "s/image", "speed", "target", "busy", "peak GiB", "cosine"], rows)


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], str]]:
    """Measure the peak device memory inside the block, including the weights of every arm."""
    if device.type != "cuda":
        yield lambda: "-"
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield lambda: f"{torch.cuda.max_memory_allocated(device) / _GIB:.1f}"


def busy(bench: Bench, arm: Arm) -> str:
    """Return the share of one image's time in which a kernel ran on the device, from prompt to pixels."""
    if bench.device.type != "cuda":
        return "-"
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        bench.generate(arm)
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type.name == "CUDA" and not event.is_user_annotation
    )
    return f"{covered(spans):.1%}"


def covered(spans: list[tuple[float, float]]) -> float:
    """The share of the time from the first start to the last end that lies inside a span; spans sorted by start."""
    if not spans:
        return 0.0
    taken, reached = 0.0, spans[0][0]
    for start, end in spans:
        taken += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return taken / (reached - spans[0][0])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
