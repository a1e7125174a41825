"""Refuses latents and pixels that are not finite: clamped to pixels they would look like an image."""

from collections.abc import Sequence

import torch

from compute.errors import InvalidInput, TaskFailed
from compute.worker.protocol import LoraSelection

__all__ = ["FiniteCheck", "is_finite"]


class FiniteCheck:
    """Checks the output of one model, and distinguishes a LoRA's fault from the model's own."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._sound = False

    def latents(self, values: torch.Tensor, loras: Sequence[LoraSelection] = ()) -> None:
        """Refuse latents that are not finite.

        Raises:
            InvalidInput: LoRAs caused them, on a model with finite output before.
            TaskFailed: the model caused them; or the cause is unknown, because this is its first output.
        """
        if not is_finite(values):
            raise self._fault("latents", loras)

    def pixels(self, values: torch.Tensor, loras: Sequence[LoraSelection] = ()) -> None:
        """The same for pixels that are not clamped yet. Raises what `latents` raises."""
        if not is_finite(values):
            raise self._fault("pixels", loras)
        self._sound = True

    def _fault(self, what: str, loras: Sequence[LoraSelection]) -> InvalidInput | TaskFailed:
        named = ", ".join(f"{lora.field} (weight {lora.weight:g})" for lora in loras)
        if loras and not self._sound:
            return TaskFailed(
                f"With {named} the model {self._model} generates {what} that are not finite, and it has generated "
                "nothing else yet: the LoRA's numbers may be too large for it, or its own weights are damaged. Lower "
                "the weight, or try without the LoRA."
            )
        if loras:
            return InvalidInput(
                f"With {named} the model generates {what} that are not finite: the LoRA's numbers are too large for "
                "it. Lower the weight, or leave the LoRA out.",
                field=loras[0].field,
            )
        return TaskFailed(
            f"The model {self._model} generates {what} that are not finite. Its weights are damaged, or too large for "
            "its number format: fetch the model again, or set dtype to bfloat16 or float32 in serve_config.yaml."
        )


def is_finite(values: torch.Tensor) -> bool:
    """Whether there is neither NaN nor an infinite number."""
    return bool(torch.isfinite(values).all())
