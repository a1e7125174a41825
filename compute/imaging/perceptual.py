"""LPIPS and DISTS in plain torch, with weights from local files. Imports torch.

Both compare features of VGG16 (Simonyan, Zisserman 2014). The files are those that torchvision and piq would fetch,
so that they can be installed by hand; nothing is downloaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

__all__ = ["PerceptualMetrics", "load_metrics"]

_STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Convolutions of VGG16 in the numbers of torchvision's state dict; pooling stands between the groups."""
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_STABLE = 1e-6

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class PerceptualMetrics:
    """Weights of both metrics. `convolutions` are (weight, bias) by stage; the others are as `load_metrics` reads."""

    convolutions: tuple[tuple[Pair, ...], ...]
    lpips: tuple[torch.Tensor, ...]
    alpha: tuple[torch.Tensor, ...]
    beta: tuple[torch.Tensor, ...]

    @torch.inference_mode()
    def distances(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[float, float]:
        """LPIPS and DISTS of two RGB images (height, width, 3) of one size; 0 for the same image.

        Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (2018); Ding et al.,
        "Image quality assessment: unifying structure and texture similarity" (2020).
        """
        device = self.lpips[0].device
        both = torch.from_numpy(np.stack([first, second])).to(device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in (_MEAN, _STD))
        scaled = (both - mean) / std
        lpips = sum(self._lpips_of(stage, features) for stage, features in enumerate(self._features(scaled, _max_pool)))
        likeness = self._likeness_of(0, both)
        for stage, features in enumerate(self._features(scaled, _l2_pool), start=1):
            likeness += self._likeness_of(stage, features)
        return float(lpips), 1.0 - float(likeness)

    def _features(self, images: torch.Tensor, pool: Any) -> Iterator[torch.Tensor]:
        """Yield the features of VGG16 at the end of each stage."""
        for number, stage in enumerate(self.convolutions):
            images = pool(images) if number else images
            for weight, bias in stage:
                images = functional.relu(functional.conv2d(images, weight, bias, padding=1))
            yield images

    def _lpips_of(self, stage: int, features: torch.Tensor) -> torch.Tensor:
        """Squared differences of unit-length features, weighted by channel, averaged over positions."""
        unit = features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
        return ((unit[0] - unit[1]).square() * self.lpips[stage]).sum(dim=0).mean()

    def _likeness_of(self, stage: int, features: torch.Tensor) -> torch.Tensor:
        """SSIM's two terms on whole feature maps: means measure texture, covariance structure."""
        mean = features.mean(dim=(2, 3))
        variance = features.var(dim=(2, 3), correction=0)
        covariance = (features[0] * features[1]).mean(dim=(1, 2)) - mean[0] * mean[1]
        texture = (2 * mean[0] * mean[1] + _STABLE) / (mean[0].square() + mean[1].square() + _STABLE)
        structure = (2 * covariance + _STABLE) / (variance[0] + variance[1] + _STABLE)
        return (self.alpha[stage] * texture + self.beta[stage] * structure).sum()


def load_metrics(vgg: Path, lpips: Path, dists: Path) -> PerceptualMetrics:
    """Read the weights, without unpickling code, onto torch's fastest device.

    Args:
        vgg: torchvision's VGG16 state dict; the classifier in it is not needed.
        lpips: Five tensors (1, channels, 1, 1), the channel weights of the five stages.
        dists: `alpha` and `beta`, each (1, 3 + 64 + 128 + 256 + 512 + 512, 1, 1): of the image and the stages.

    Raises:
        ValueError: a file is damaged, or has other contents.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features, linear, both = (_read(path, device) for path in (vgg, lpips, dists))
    channels = (3, 64, 128, 256, 512, 512)
    try:
        total = both["alpha"].sum() + both["beta"].sum()
        alpha, beta = ((both[name] / total).flatten().split(channels) for name in ("alpha", "beta"))
        convolutions = tuple(
            tuple((features[f"features.{layer}.weight"], features[f"features.{layer}.bias"]) for layer in stage)
            for stage in _STAGES
        )
        weights = tuple(linear[stage].view(-1, 1, 1) for stage in range(len(_STAGES)))
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"The weights in {vgg.parent.name} are not those of LPIPS and DISTS: {error}") from error
    return PerceptualMetrics(convolutions, weights, alpha, beta)


def _read(path: Path, device: torch.device) -> Any:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds; all mean the same here
        raise ValueError(f"{path.name} is damaged, or holds more than weights: {error}") from error


def _max_pool(features: torch.Tensor) -> torch.Tensor:
    return functional.max_pool2d(features, kernel_size=2, stride=2)


def _l2_pool(features: torch.Tensor) -> torch.Tensor:
    """DISTS's pooling: the root of squares under a Hann window of 3 x 3, which does not alias."""
    channels = features.shape[1]
    window = torch.tensor([0.5, 1.0, 0.5], device=features.device, dtype=features.dtype)
    kernel = torch.outer(window, window)
    kernel = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    squares = functional.conv2d(features.square(), kernel, stride=2, padding=1, groups=channels)
    return (squares + 1e-12).sqrt()
