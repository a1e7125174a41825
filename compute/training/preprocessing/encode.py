"""Encodes images and captions for the network, chunk by chunk; each chunk can be a task of its own."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from compute.training.cache import write_chunk
from compute.training.models.base import Encoders, ImageFacts

__all__ = ["encode_images", "encode_prompts"]


def encode_images(
    encoders: Encoders, images: Iterable[tuple[int, Image.Image, ImageFacts | None]], folder: Path, chunk: int
) -> Path:
    """Encode RGB images, given with their numbers and facts, and write them as one chunk."""
    entries = {number: encoders.encode_image(_pixels(image), facts) for number, image, facts in images}
    return write_chunk(folder, "images", chunk, entries)


def encode_prompts(encoders: Encoders, prompts: Sequence[tuple[int, str]], folder: Path, chunk: int) -> Path:
    """Encode captions, given with their numbers, and write them as one chunk."""
    return write_chunk(folder, "prompts", chunk, {number: encoders.encode_prompt(text) for number, text in prompts})


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1.0
