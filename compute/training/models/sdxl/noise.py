"""The forward process of denoising diffusion: adds noise to images, and defines the network's target.

At step t of the schedule an image x0 and noise e are mixed, x = sqrt(a) x0 + sqrt(1 - a) e, where a falls from 1
towards 0 (arXiv:2006.11239). The network predicts e, or the velocity v = sqrt(a) e - sqrt(1 - a) x0 (arXiv:2202.00512).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from diffusers import DDPMScheduler

from compute.errors import InvalidInput

__all__ = ["ForwardProcess", "Prediction", "load_scheduler", "time_ids"]

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, slots=True)
class ForwardProcess:
    """The noise schedule of a network's training.

    Attributes:
        alphas: The share a of the image in the mixture's variance, by step, (steps,), float32. The last one is 0
            if the schedule was rescaled to end in pure noise (zero terminal SNR, arXiv:2305.08891).
        prediction: The target of the network.
    """

    alphas: torch.Tensor
    prediction: Prediction

    @classmethod
    def of(cls, scheduler: Any) -> "ForwardProcess":
        """Return the process that a scheduler of `load_scheduler` reverses."""
        # Samplers replace the 0 at the end, because they divide by it; this process does not.
        exact = DDPMScheduler.from_config(scheduler.config)
        return cls(exact.alphas_cumprod.float(), scheduler.config.prediction_type)

    @property
    def steps(self) -> int:
        return len(self.alphas)

    def mix(self, images: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Add noise to images, each at its own step: (n, channels, height, width) twice, and (n,)."""
        share = self._shares(steps, images)
        return share.sqrt() * images + (1.0 - share).sqrt() * noise

    def target(self, images: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Return the network's target for the result of `mix`."""
        if self.prediction == "epsilon":
            return noise
        share = self._shares(steps, images)
        return share.sqrt() * noise - (1.0 - share).sqrt() * images

    def min_snr_weights(self, steps: torch.Tensor, gamma: float) -> torch.Tensor:
        """Return the min-SNR weights of the squared errors, which balance the steps (arXiv:2303.09556), (n,), float32.

        In terms of the predicted image the weight is min(SNR, gamma). An error of e is SNR times smaller there, one
        of v SNR + 1 times. In pure noise, where SNR is 0, the weight is 1 for e, and 0 for v.
        """
        share = self.alphas.to(steps.device)[steps]
        snr = share / (1.0 - share)
        if self.prediction == "epsilon":
            return (gamma / snr).clamp(max=1.0)
        return snr.clamp(max=gamma) / (snr + 1.0)

    def _shares(self, steps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return self.alphas.to(like.device)[steps].view(-1, *[1] * (like.dim() - 1))


def load_scheduler(folder: Path, prediction: Literal["auto"] | Prediction = "auto") -> Any:
    """Load the sampler of a diffusers folder, for a network that predicts `prediction`.

    Raises:
        InvalidInput: it reverses another kind of process.
        OSError: its file is missing or damaged.
    """
    config = DDPMScheduler.load_config(folder / "scheduler", local_files_only=True)
    name = config.get("_class_name")
    kind: Any = getattr(diffusers, str(name), None)
    known = isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)
    if not known:
        raise InvalidInput(f"The model's scheduler is `{name}`, which is none of diffusers'.", field="base_model")
    chosen = {} if prediction == "auto" else {"prediction_type": prediction}
    scheduler: Any = kind.from_config(config, **chosen)
    continuous = scheduler.config.get("timestep_type") == "continuous"
    if not hasattr(scheduler, "alphas_cumprod") or continuous:
        raise InvalidInput(f"A model of this family has a schedule of steps; {name} has none here.", field="base_model")
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise InvalidInput(
            f"The model predicts `{scheduler.config.prediction_type}`; only epsilon and v_prediction can be trained.",
            field="base_model",
        )
    return scheduler


def time_ids(original: tuple[int, int], crop_top_left: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """Return SDXL's six size conditions of an image, (6,), float32: heights before widths, as in its own training.

    `original` and `target` are (width, height) in pixels, as everywhere else; `crop_top_left` is (top, left).
    """
    return torch.tensor([*reversed(original), *crop_top_left, *reversed(target)], dtype=torch.float32)
