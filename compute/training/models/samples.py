"""Converts a decoded sample to an image, for every family."""

from typing import Any

import torch
from PIL import Image

from compute.errors import TaskFailed
from compute.pipelines.finite import is_finite
from compute.schemas.enums import ErrorCategory

__all__ = ["sample_image"]


def sample_image(decoded: torch.Tensor, processor: Any) -> Image.Image:
    """Return the RGB image of a VAE's output, about from -1 to 1: (1, 3, height, width).

    Raises:
        TaskFailed: the numbers are not finite.
    """
    if not is_finite(decoded):
        raise TaskFailed(
            "A sample's pixels are not finite: the training has diverged, and its learning rate is probably too high.",
            category=ErrorCategory.INVALID_INPUT,
        )
    image: Image.Image = processor.postprocess(decoded.float().cpu(), output_type="pil")[0]
    return image
