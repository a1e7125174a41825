"""Evaluates a model's prompt adherence on combinations of garment, colour and background that were held out of
training."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from diffusers import FluxPipeline
from PIL import Image

from tools.demo_model.classifier import classify
from tools.demo_model.scenes import Scene, random_scenes

__all__ = ["Adherence", "evaluate", "held_out_prompts", "sheet"]

_STEPS = 20
_GUIDANCE = 3.5
_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Adherence:
    """Shares of images, from 0 to 1: with the right garment, colour and background, and with all three."""

    garment: float
    color: float
    background: float
    all: float


def held_out_prompts(count: int, seed: int = 0) -> list[tuple[Scene, str]]:
    """Return scenes that are in no training, and prompts for them."""
    chosen = islice(random_scenes(seed, count, held_out=True), count)
    return [(scene, f"{_named(scene)} on a {scene.background} background") for scene in chosen]


def evaluate(
    folder: Path, *, count: int, side: int, device: torch.device, steps: int = _STEPS
) -> tuple[Adherence, list[Image.Image]]:
    """Generate `count` held-out prompts at `side` pixels with the model in a folder, and classify the images."""
    pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True).to(device)
    pipeline.set_progress_bar_config(disable=True)
    wanted = held_out_prompts(count)
    images: list[Image.Image] = []
    for start in range(0, count, _COLUMNS):
        images += pipeline(
            [prompt for _, prompt in wanted[start : start + _COLUMNS]],
            width=side,
            height=side,
            num_inference_steps=steps,
            guidance_scale=_GUIDANCE,
            max_sequence_length=pipeline.tokenizer_2.model_max_length,
            generator=torch.Generator("cpu").manual_seed(start),
        ).images
    return _judged([scene for scene, _ in wanted], images), images


def sheet(images: Sequence[Image.Image]) -> Image.Image:
    """Arrange the images in rows of eight."""
    side = images[0].width
    rows = -(-len(images) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * side, rows * side), "white")
    for index, picture in enumerate(images):
        page.paste(picture, (index % _COLUMNS * side, index // _COLUMNS * side))
    return page


def _named(scene: Scene) -> str:
    phrase = f"{scene.color} {scene.garment}"
    if scene.garment.endswith("s"):
        return phrase
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _judged(wanted: Sequence[Scene], images: Sequence[Image.Image]) -> Adherence:
    seen = [classify(picture) for picture in images]
    hits = [
        (one.garment == scene.garment, one.color == scene.color, one.background == scene.background)
        for scene, one in zip(wanted, seen, strict=True)
    ]
    count = len(hits)
    garment, color, background = (sum(hit[place] for hit in hits) / count for place in range(3))
    return Adherence(garment, color, background, sum(all(hit) for hit in hits) / count)
