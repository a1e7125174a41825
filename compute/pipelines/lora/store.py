"""Cache of a replica's LoRAs: the most recently used ones in main memory, and fewer of them on the device as well."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

import torch
from safetensors import SafetensorError

from compute.errors import InvalidInput
from compute.lora.check import ModelCard, check_lora_file
from compute.lora.layouts import NotALora
from compute.pipelines.lora.buffers import FlatLora, RowLayout
from compute.pipelines.lora.file import LoraFile, TextPart, read_lora
from compute.worker.protocol import LoraSelection

__all__ = ["UNFIT", "LoraStore", "LoraWeights", "unfit"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Errors of reading a file, or fitting it into a model, that are the file's fault.
UNFIT = (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AssertionError, NotImplementedError)


def unfit(field: str, error: Exception) -> InvalidInput:
    """The error for a LoRA that passed the header's check and still cannot be applied."""
    if isinstance(error, NotALora):
        return InvalidInput(str(error), field=field)
    return InvalidInput(f"The LoRA cannot be applied to this model: {error}", field=field)


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """A LoRA in main memory: `flat` if the buffers can take it, otherwise `other`; optionally a part for CLIP."""

    flat: FlatLora | None
    other: LoraFile | None
    text: TextPart | None


class LoraStore:
    """Reads LoRAs once and keeps them. Safe for concurrent use.

    For a device with memory of its own the rows are in pinned memory, and those used last on the device, too.
    """

    def __init__(
        self,
        card: ModelCard,
        layout: RowLayout,
        *,
        max_rank: int,
        dtype: torch.dtype,
        device: torch.device,
        capacity: int,
        device_capacity: int,
    ) -> None:
        """LoRAs up to `max_rank` are converted to rows.

        `capacity` LoRAs stay in main memory, `device_capacity` on the device; a request may use more.
        """
        self._card = card
        self._layout = layout
        self._max_rank = max_rank
        self._dtype = dtype
        self._device = device
        self._host: _Kept[LoraWeights] = _Kept(capacity)
        self._on_device: _Kept[FlatLora] = _Kept(device_capacity if device.type == "cuda" else 0)

    @property
    def names(self) -> tuple[str, ...]:
        """The LoRAs in main memory, the least recently used first."""
        return self._host.names

    def get(self, selection: LoraSelection) -> LoraWeights:
        """The LoRA in main memory, read if it is not there yet; concurrent threads read it once.

        Raises:
            InvalidInput: the file is damaged or does not fit the model.
        """
        return self._host.get(selection.name, lambda: self._read(selection))

    def nearest(self, name: str, flat: FlatLora) -> FlatLora:
        """The device's copy if there is one, otherwise `flat` itself."""
        kept = self._on_device.peek(name)
        if kept is None:
            return flat
        for rows in (kept.down, kept.up):
            # Copied by another stream than the one that reads it.
            rows.record_stream(torch.cuda.current_stream(self._device))
        return kept

    def stage(self, selections: Sequence[LoraSelection]) -> None:
        """Read all, and copy to the device what fits there, concurrently with its other work.

        Raises:
            InvalidInput: a file is damaged or does not fit the model.
        """
        weights = {selection.name: self.get(selection) for selection in selections}
        flats = {name: weight.flat for name, weight in weights.items() if weight.flat is not None}
        for name in list(flats)[: self._on_device.capacity]:
            self._copy_to_device(name, flats[name])

    def _copy_to_device(self, name: str, flat: FlatLora) -> None:
        def copy() -> FlatLora:
            stream = torch.cuda.Stream(self._device)
            with torch.cuda.stream(stream):
                there = flat.to(self._device)
            stream.synchronize()
            return there

        try:
            self._on_device.get(name, copy)
        except torch.OutOfMemoryError:
            logger.info("No room on the device for LoRA %s; it is copied from main memory at each use.", name)

    def _read(self, selection: LoraSelection) -> LoraWeights:
        check_lora_file(selection.path, self._card, field=selection.field)
        try:
            file = read_lora(selection.path, self._card)
        except UNFIT as error:
            raise unfit(selection.field, error) from error
        if file.extra or file.rank > self._max_rank:
            return LoraWeights(None, file, file.text)
        try:
            flat = self._layout.flatten(file.pairs, dtype=self._dtype, pinned=self._device.type == "cuda")
        except ValueError as error:
            raise unfit(selection.field, error) from error
        return LoraWeights(flat, None, file.text)


class _Kept(Generic[T]):
    """The most recently used values; a value that is being made is awaited, not made twice."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = Lock()
        self._values: OrderedDict[str, Future[T]] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(name for name, future in self._values.items() if future.done())

    def peek(self, name: str) -> T | None:
        """The value if it is complete; does not wait."""
        with self._lock:
            future = self._values.get(name)
            if future is None or not future.done():
                return None
            self._values.move_to_end(name)
            return future.result()

    def get(self, name: str, make: Callable[[], T]) -> T:
        """The value, made by this thread or another. Raises only errors of this thread's own `make`."""
        while True:
            with self._lock:
                future = self._values.get(name)
                mine = future is None
                if future is None:
                    future = self._values[name] = Future()
                self._values.move_to_end(name)
            if mine:
                return self._make(name, future, make)
            if future.exception() is None:
                return future.result()

    def _make(self, name: str, future: Future[T], make: Callable[[], T]) -> T:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._values[name]
            future.set_exception(error)
            raise
        future.set_result(value)
        with self._lock:
            idle = [one for one, other in self._values.items() if other.done()]
            for one in idle[: max(0, len(idle) - self.capacity)]:
                del self._values[one]
        return value
