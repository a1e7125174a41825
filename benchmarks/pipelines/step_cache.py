"""Savings and deviation of each level of the step cache: `python -m benchmarks.pipelines.step_cache`.

On the tiny FLUX (2 + 2 blocks, random weights). The reused steps follow from the schedule, not from the model or
the image, so the share of block calls is that of FLUX.1-dev as well. The time is not: a tiny block hardly costs more
than skipping it. Nor are the cosines between final latents: random weights are a weak stand-in for a trained model.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import arguments, interleave, machine, median, print_table, ratio, say
from compute.pipelines import ModelConfig, resolve_model
from compute.pipelines.config import StepCacheLevel
from compute.pipelines.flux.model import FluxModel, load_flux
from compute.worker.protocol import GenerateRequest

_LEVELS = get_args(StepCacheLevel)


@dataclass(frozen=True, slots=True)
class Run:
    """The cost and the result of one denoising."""

    block_calls: int
    seconds: float
    latents: torch.Tensor


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--side", type=int, default=256, help="pixels of the square image (256)")
    options = parser.parse_args()
    say(machine())
    with tempfile.TemporaryDirectory() as folder:
        source = resolve_model(ModelConfig(), Path(folder))
        models = {level: load_flux(ModelConfig(step_cache=level, lora_rank=0), source) for level in _LEVELS}
    for title, request in kinds(64 if options.quick else options.side).items():
        for steps in (20,) if options.quick else (20, 28, 50):
            report(
                f"{title}, {steps} steps", models, request | {"steps": steps}, 1 if options.quick else options.rounds
            )


def kinds(side: int) -> dict[str, dict[str, Any]]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))
    base = {"prompt": "a lighthouse", "width": side, "height": side, "guidance_scale": 3.5, "seed": 1}
    guided = {"negative_prompt": "blurry", "true_cfg_scale": 3.0}
    return {
        "text to image": base,
        "true guidance": base | guided,
        "image to image, strength 0.6": base | {"image": picture, "strength": 0.6},
    }


def report(title: str, models: dict[str, FluxModel], request: dict[str, Any], rounds: int) -> None:
    asked = GenerateRequest(**request)
    arms = {level: lambda model=model: draw(model, asked) for level, model in models.items()}
    runs = interleave(arms, rounds)
    exact = runs["off"]
    rows = []
    for level, taken in runs.items():
        calls = taken[0].block_calls
        cosine = torch.cosine_similarity(taken[0].latents, exact[0].latents, dim=0).item()
        seconds = [run.seconds for run in taken]
        rows.append(
            [
                level,
                str(calls),
                f"{1 - calls / exact[0].block_calls:.0%}",
                f"{median(seconds):.2f}",
                ratio([run.seconds for run in exact], seconds),
                f"{cosine:.4f}",
            ]
        )
    print_table(title, ["level", "block calls", "saved", "s", "speed", "cosine"], rows)


def draw(model: FluxModel, request: GenerateRequest) -> Run:
    transformer = model.pipeline.transformer
    calls: list[None] = []
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    handles = [block.attn.register_forward_hook(lambda *_: calls.append(None)) for block in blocks]
    prepared = model.prepare(request)
    began = time.perf_counter()
    latents = model.denoise(prepared, lambda *_: None).packed
    seconds = time.perf_counter() - began
    for handle in handles:
        handle.remove()
    return Run(len(calls), seconds, latents.flatten())


if __name__ == "__main__":
    main()
