"""A layer's change as two matrices."""

from dataclasses import dataclass

import torch

__all__ = ["Pair"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One layer's update as a product: `down` (rank, in), `up` (out, rank); alpha/rank is multiplied into `up`."""

    down: torch.Tensor
    up: torch.Tensor

    @property
    def rank(self) -> int:
        return self.down.shape[0]
