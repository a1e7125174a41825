"""How much a LoRA changes a layer: bounded before the model is touched.

Files are made of finite numbers (see storage/lora_numbers.py), but their products need not be: two halves of 30,000
each overflow in float16, and an alpha of 10³⁰ everywhere.
"""

from collections.abc import Mapping

import torch

from compute.pipelines.lora_pair import Pair
from compute.storage.lora_layouts import LoraMethod, NotALora

__all__ = ["MOST_CHANGE", "check_changes"]

MOST_CHANGE = 2.0**15
"""The largest number that a change of a weight may reach: half of what float16 holds, and some 100,000 times what any
weight of a model is."""

Tensors = Mapping[str, torch.Tensor]


def check_changes(method: LoraMethod, pairs: Mapping[str, Pair], extra: Tensors) -> None:
    """Check what a file changes, alphas multiplied in, at a LoRA's weight of 1.

    The bound of a product is that of Cauchy and Schwarz: the longest row times the longest column. It is reached where
    both point in one direction, so no sound file comes near to it.

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
    """The most that a number of `up` times `down` can be."""
    rows = torch.linalg.vector_norm(up, dim=1, dtype=torch.float64).max()
    columns = torch.linalg.vector_norm(down, dim=0, dtype=torch.float64).max()
    return float(rows * columns)


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max())
