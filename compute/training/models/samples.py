"""A sample of a training as a picture, whatever the family."""

from typing import Any

import torch
from PIL import Image

from compute.errors import TaskFailed
from compute.pipelines.finite import is_finite
from compute.schemas.enums import ErrorCategory

__all__ = ["sample_picture"]


def sample_picture(decoded: torch.Tensor, processor: Any) -> Image.Image:
    """The RGB picture of what a VAE decoded, about from -1 to 1: (1, 3, height, width).

    Raises:
        TaskFailed: the numbers are not finite.
    """
    if not is_finite(decoded):
        raise TaskFailed(
            "A sample's pixels are not finite: the training has diverged, and its learning rate is probably too high.",
            category=ErrorCategory.INVALID_INPUT,
        )
    picture: Image.Image = processor.postprocess(decoded.float().cpu(), output_type="pil")[0]
    return picture
