"""The rank buffers of a model: one row holds one rank of every layer, so that a LoRA is a block of rows.

    down   rows 0 … R-1, each: layer 0's inputs | layer 1's inputs | …
    up     rows 0 … R-1, each: layer 0's outputs | layer 1's outputs | …

A LoRA of rank r is r rows of both. Applying it takes two copies whatever the number of layers, and LoRAs are
concatenated along the rank by placing one below the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from compute.pipelines.lora.linear import LoraSwitch, Room
from compute.pipelines.lora.pair import Pair

__all__ = ["FlatLora", "LoraBuffers", "RowLayout", "Slot"]

# Elements: a multiple of the row alignment of matrix products (16 bytes; 128 for whole cache lines).
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Elements [begin, begin + size) of a row."""

    begin: int
    size: int

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[:, self.begin : self.begin + self.size]


class RowLayout:
    """The position of each layer in a row."""

    def __init__(self, linears: Mapping[str, tuple[int, int]]) -> None:
        """`linears`: (in_features, out_features) by name."""
        self.down, self.down_width = _spans({name: size for name, (size, _) in linears.items()})
        self.up, self.up_width = _spans({name: size for name, (_, size) in linears.items()})

    def flatten(self, pairs: Mapping[str, Pair], *, dtype: torch.dtype, pinned: bool) -> "FlatLora":
        """Convert a LoRA to rows in main memory; layers without an update and missing ranks are zero.

        Raises:
            ValueError: a number is not finite, also after rounding to `dtype`.
        """
        rank = max(pair.rank for pair in pairs.values())
        down = torch.zeros(rank, self.down_width, dtype=dtype, pin_memory=pinned)
        up = torch.zeros(rank, self.up_width, dtype=dtype, pin_memory=pinned)
        for name, pair in pairs.items():
            self.down[name].of(down)[: pair.rank].copy_(pair.down)
            self.up[name].of(up)[: pair.rank].copy_(pair.up.T)
        for rows in (down, up):
            if not torch.isfinite(rows.sum(dtype=torch.float64)):
                raise ValueError("it holds numbers that are not finite")
        return FlatLora(down, up, {name: pair.rank for name, pair in pairs.items()})

    def pairs(self, lora: "FlatLora") -> dict[str, Pair]:
        """Convert rows back to layers."""
        return {
            name: Pair(self.down[name].of(lora.down)[:rank], self.up[name].of(lora.up)[:rank].T)
            for name, rank in lora.ranks.items()
        }


def _spans(sizes: Mapping[str, int]) -> tuple[dict[str, RowSpan], int]:
    spans: dict[str, RowSpan] = {}
    end = 0
    for name, size in sizes.items():
        spans[name] = RowSpan(end, size)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return spans, end


@dataclass(frozen=True, slots=True)
class FlatLora:
    """A plain LoRA as rows: `down` (rank, all inputs), `up` (rank, all outputs), and each layer's own rank."""

    down: torch.Tensor
    up: torch.Tensor
    ranks: dict[str, int]

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def to(self, device: torch.device) -> "FlatLora":
        return FlatLora(
            self.down.to(device, non_blocking=True), self.up.to(device, non_blocking=True), dict(self.ranks)
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A LoRA to apply. Equal names mean equal content."""

    name: str
    weight: float
    lora: FlatLora


class LoraBuffers:
    """The rows that act on a model, and the LoRAs in them. Not safe for concurrent use."""

    def __init__(self, layout: RowLayout, *, rank: int, device: torch.device, dtype: torch.dtype) -> None:
        self.rank = rank
        self.switch = LoraSwitch()
        self._layout = layout
        self._down = torch.zeros(rank, layout.down_width, device=device, dtype=dtype)
        self._up = torch.zeros(rank, layout.up_width, device=device, dtype=dtype)
        self._placed: dict[str, tuple[int, float]] = {}
        self._used = 0

    def rooms(self) -> dict[str, Room]:
        """Each layer's part, as tensors that share the rows' memory."""
        # Detached from autograd's views: a view would drag its whole base into every compiled graph.
        return {
            name: Room(self._layout.down[name].of(self._down).data, self._layout.up[name].of(self._up).data)
            for name in self._layout.down
        }

    def fill(self, slots: Sequence[Slot]) -> None:
        """Apply exactly these LoRAs, in this order along the rank; only differences from before are copied.

        Raises:
            ValueError: together they have more ranks than the buffers.
        """
        total = sum(slot.lora.rank for slot in slots)
        if total > self.rank:
            raise ValueError(f"{total} ranks do not fit into {self.rank}")
        before, self._placed = self._placed, {}
        # If a copy fails halfway, everything up to the higher mark is stale.
        used, self._used = self._used, max(self._used, total)
        starts = list(accumulate((slot.lora.rank for slot in slots), initial=0))
        for slot, begin in zip(slots, starts, strict=False):
            self._put(slot, begin, before.get(slot.name))
        self._down[total:used].zero_()
        self._up[total:used].zero_()
        self._placed = {slot.name: (begin, slot.weight) for slot, begin in zip(slots, starts, strict=False)}
        self._used = total
        self.switch.active = bool(slots)

    def _put(self, slot: Slot, begin: int, before: tuple[int, float] | None) -> None:
        rows = slice(begin, begin + slot.lora.rank)
        if before is None or before[0] != begin:
            self._down[rows].copy_(slot.lora.down, non_blocking=True)
        if before != (begin, slot.weight):
            # From the original each time: scaling the buffer's content would accumulate rounding errors.
            self._up[rows].copy_(slot.lora.up, non_blocking=True).mul_(slot.weight)
