"""Bounds a LoRA's change of a layer, before the model is touched.

Files contain finite numbers (see lora/numbers.py), but their products need not be: two halves of 30,000 each overflow
in float16, and an alpha of 10³⁰ everywhere.
"""

import math
from collections.abc import Mapping

import torch

from compute.lora.layouts import LoraMethod, NotALora
from compute.pipelines.lora.pair import Pair

__all__ = ["MOST_CHANGE", "check_changes"]

MOST_CHANGE = 2.0**15
"""The largest allowed change of a weight: half of float16's range, and some 100,000 times any weight of a model."""

_BLOCK = 2**20
"""Numbers that are converted at a time."""
_SURE = 1e-30, 1e38
"""Between these bounds, sums of squares in float32 are accurate enough."""

Tensors = Mapping[str, torch.Tensor]


def check_changes(method: LoraMethod, pairs: Mapping[str, Pair], extra: Tensors) -> None:
    """Check the changes of a file, alphas multiplied in, at a LoRA's weight of 1.

    The bound of a product is that of Cauchy and Schwarz: the longest row times the longest column. It is reached if
    both point in one direction, so no valid file comes near it.

    Raises:
        NotALora: a layer may change by more than MOST_CHANGE; the message names it.
    """
    for layer, pair in pairs.items():
        _check(layer, _product(pair.up, pair.down))
    for name, tensor in extra.items():
        layer, _, part = name.rpartition(".")
        if method is LoraMethod.LOHA and part == "hada_w1_a":
            factors = [_product(extra[f"{layer}.hada_w{i}_a"], extra[f"{layer}.hada_w{i}_b"]) for i in (1, 2)]
            _check(layer, factors[0] * factors[1])
        elif method is LoraMethod.LOKR and part in {"lokr_w1", "lokr_w1_a"}:
            _check(layer, _factor(layer, extra, 1) * _factor(layer, extra, 2))
        elif method is LoraMethod.DORA:
            _check(layer, _largest(tensor))


def _check(layer: str, change: float) -> None:
    if not change <= MOST_CHANGE:
        raise NotALora(
            f"it changes the layer `{layer}` by numbers that are far too large; its alpha or weights are wrong"
        )


def _factor(layer: str, extra: Tensors, index: int) -> float:
    whole = extra.get(f"{layer}.lokr_w{index}")
    if whole is not None:
        return _largest(whole)
    return _product(extra[f"{layer}.lokr_w{index}_a"], extra[f"{layer}.lokr_w{index}_b"])


def _product(up: torch.Tensor, down: torch.Tensor) -> float:
    """The bound of any element of `up` times `down`."""
    return _longest(up, dim=1) * _longest(down, dim=0)


def _longest(matrix: torch.Tensor, dim: int) -> float:
    """The length of the longest row (`dim` 1) or column (0)."""
    # Float32 takes a fifth of the time of float64, and is as accurate if squares are in its range.
    squares = _most_squares(matrix, dim, torch.float32)
    if not _SURE[0] < squares < _SURE[1]:
        squares = _most_squares(matrix, dim, torch.float64)
    return math.sqrt(squares)


def _most_squares(matrix: torch.Tensor, dim: int, dtype: torch.dtype) -> float:
    blocks = matrix.split(max(1, _BLOCK // max(1, matrix.shape[1])))
    sums = [block.to(dtype).square().sum(dim) for block in blocks]
    return float((torch.cat(sums) if dim else torch.stack(sums).sum(0)).max())


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max())
