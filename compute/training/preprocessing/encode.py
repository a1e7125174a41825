"""Pictures and captions to what the network reads, chunk by chunk; each chunk can be a task of its own."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from compute.training.cache import write_chunk
from compute.training.models.base import Encoders, ImageFacts

__all__ = ["encode_pictures", "encode_prompts"]


def encode_pictures(
    encoders: Encoders, pictures: Iterable[tuple[int, Image.Image, ImageFacts | None]], folder: Path, chunk: int
) -> Path:
    """Encode RGB pictures, given with their number and what they were before, and write them as one chunk."""
    entries = {number: encoders.encode_image(_pixels(picture), facts) for number, picture, facts in pictures}
    return write_chunk(folder, "images", chunk, entries)


def encode_prompts(encoders: Encoders, prompts: Sequence[tuple[int, str]], folder: Path, chunk: int) -> Path:
    """Encode captions, given with their number, and write them as one chunk."""
    return write_chunk(folder, "prompts", chunk, {number: encoders.encode_prompt(text) for number, text in prompts})


def _pixels(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1.0
