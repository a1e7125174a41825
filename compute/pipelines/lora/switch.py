"""LoRAs on a loaded pipeline: read once, switched per request, never merged into the base weights.

A request's result depends on its own LoRAs alone: files are checked before the model is touched, LoRAs are summed in
the order of their names, and without LoRAs the base layers run as if there had never been one.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from compute.lora.check import ModelCard
from compute.lora.layouts import LoraMethod
from compute.pipelines.lora.buffers import LoraBuffers, RowLayout, Slot
from compute.pipelines.lora.file import LoraFile
from compute.pipelines.lora.linear import install
from compute.pipelines.lora.peft import PeftAdapter, PeftAdapters, attach_text, attach_transformer
from compute.pipelines.lora.store import LoraStore, LoraWeights
from compute.worker.protocol import LoraSelection

__all__ = ["Adapters", "StaticLoras", "TextAdapters"]

logger = logging.getLogger(__name__)

TextAdapters = tuple[tuple[str, float], ...]
"""(LoRA, weight) of the LoRAs that change a text encoder: encoded prompts are reusable only for equal values."""


class Adapters(Protocol):
    """The interface by which a pipeline applies LoRAs, independent of the implementation."""

    def prefetch(self, selections: Sequence[LoraSelection]) -> None:
        """Check the files and read them into host memory, and to the device where there is room.

        Safe to call from another thread during a run.

        Raises:
            InvalidInput: a file is damaged or does not fit.
        """
        ...

    def on_text_encoders(self, selections: Sequence[LoraSelection]) -> AbstractContextManager[TextAdapters]:
        """Within the block, apply the parts of these LoRAs that change a text encoder.

        The value distinguishes encoded prompts. The caller has exclusive use of the text encoders. Most LoRAs have no
        such part: then the value is () and nothing happens.

        Raises:
            InvalidInput: a file is damaged or does not fit; the text encoders are unchanged.
        """
        ...

    def apply(self, selections: Sequence[LoraSelection]) -> None:
        """Apply exactly these LoRAs to the transformer in every later run. The caller has exclusive use of the device.

        Raises:
            InvalidInput: a file is damaged or does not fit; the pipeline stays usable.
        """
        ...

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the LoRAs in main memory, the least recently used first."""
        ...

    @property
    def on_peft(self) -> bool:
        """Whether PEFT's layers are in the transformer now: code compiled without them must not run."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """One LoRA of a request, with the sum of its weights."""

    name: str
    weight: float
    field: str
    weights: LoraWeights


class StaticLoras:
    """`Adapters` on rank buffers of a fixed size, with PEFT for LoRAs that do not fit there.

    Plain LoRAs are copied into buffers that every linear layer of the transformer has (see buffers.py). DoRA, LoHa and
    LoKr, and plain LoRAs that need more ranks than the buffers have, become PEFT adapters while requests use them, and
    the reason is logged.
    """

    def __init__(
        self, pipeline: Any, *, rank: int, capacity: int, device_capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Give the pipeline's transformer its buffers.

        Construct it after the base weights are quantised (if at all) and before hooks for offloading are attached.

        Args:
            pipeline: A diffusers FLUX pipeline; those that share its transformer share the LoRAs.
            rank: Ranks of the buffers: the sum of the ranks of one request's LoRAs. With 0 there are none.
            capacity: LoRAs that stay in main memory.
            device_capacity: Of those, how many stay on a CUDA device as well.
            device: Where the transformer computes.
            dtype: The number format in which it computes.
        """
        transformer = pipeline.transformer
        card = ModelCard.from_config(transformer.config)
        self._layout = RowLayout(card.linears())
        self._store = LoraStore(
            card,
            self._layout,
            max_rank=rank,
            dtype=dtype,
            device=device,
            capacity=capacity,
            device_capacity=device_capacity,
        )
        self._buffers = LoraBuffers(self._layout, rank=rank, device=device, dtype=dtype)
        if rank:
            install(transformer, self._buffers.rooms(), self._buffers.switch)
        self._peft = PeftAdapters(transformer, attach_transformer(pipeline))
        self._text = PeftAdapters(pipeline.text_encoder, attach_text(pipeline))

    @property
    def loaded(self) -> tuple[str, ...]:
        return self._store.names

    @property
    def on_peft(self) -> bool:
        """Whether PEFT's layers are in the transformer now: captured graphs of it must not be replayed."""
        return bool(self._peft.loaded)

    def prefetch(self, selections: Sequence[LoraSelection]) -> None:
        self._store.stage(selections)

    @contextmanager
    def on_text_encoders(self, selections: Sequence[LoraSelection]) -> Iterator[TextAdapters]:
        parts = [
            PeftAdapter(one.name, one.weight, one.weights.text, one.field)
            for one in self._wanted(selections)
            if one.weights.text is not None
        ]
        if not parts:
            yield ()
            return
        self._text.activate(parts)
        try:
            yield tuple((part.name, part.weight) for part in parts)
        finally:
            self._text.disable()

    def apply(self, selections: Sequence[LoraSelection]) -> None:
        slots, others = self._divide(self._wanted(selections))
        self._peft.activate(others)
        self._buffers.fill(slots)

    @contextmanager
    def for_warm_up(self) -> Iterator[None]:
        """Within the block, the empty buffers act: to compile or capture the code path with LoRAs."""
        self.apply(())
        self._buffers.switch.active = self._buffers.rank > 0
        try:
            yield
        finally:
            self._buffers.switch.active = False

    def _wanted(self, selections: Sequence[LoraSelection]) -> list[_Wanted]:
        """The LoRAs in the order of their names; weights of the same LoRA add up, and weight 0 drops it."""
        found: dict[str, _Wanted] = {}
        for selection in selections:
            weights = self._store.get(selection)
            before = found[selection.name].weight if selection.name in found else 0.0
            found[selection.name] = _Wanted(selection.name, before + selection.weight, selection.field, weights)
        return [one for _, one in sorted(found.items()) if one.weight]

    def _divide(self, wanted: list[_Wanted]) -> tuple[list[Slot], list[PeftAdapter]]:
        """Divide the LoRAs into those for the buffers and those for PEFT."""
        plain = {one: one.weights.flat for one in wanted if one.weights.flat is not None}
        others = [_through_peft(one, one.weights.other) for one in wanted if one.weights.other is not None]
        total = sum(flat.rank for flat in plain.values())
        if total <= self._buffers.rank:
            near = self._store.nearest
            return [Slot(one.name, one.weight, near(one.name, flat)) for one, flat in plain.items()], others
        for one, flat in plain.items():
            others.append(_through_peft(one, LoraFile(LoraMethod.LORA, self._layout.pairs(flat)), total=total))
        return [], sorted(others, key=lambda adapter: adapter.name)


def _through_peft(one: _Wanted, file: LoraFile, *, total: int | None = None) -> PeftAdapter:
    if file.method is not LoraMethod.LORA:
        reason = f"it is a {file.method}"
    else:
        reason = f"rank {file.rank}, or {total or file.rank} with the others, is above lora_rank"
    logger.info("LoRA %s goes through PEFT: %s.", one.name, reason)
    return PeftAdapter(one.name, one.weight, file, one.field)
