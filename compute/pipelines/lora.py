"""LoRAs on a warm pipeline: loaded once, switched per request, never merged into the base weights.

What a request draws depends on its own LoRAs alone: files are checked before the model is touched, adapters are
summed in the order of their names, and without LoRAs the base layers run as if there had never been one.
"""

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from compute.errors import InvalidInput
from compute.pipelines.lora_file import read_state_dict
from compute.storage.loras import ModelCard, check_lora_file
from compute.tasks.protocol import LoraSelection

__all__ = ["Adapters", "LoraCache"]

TextAdapters = tuple[tuple[str, float], ...]
"""(LoRA, weight) of those that change a text encoder: encoded prompts are only reusable among equals."""


class Adapters(Protocol):
    """How a pipeline applies LoRAs; the implementation may change, this does not."""

    def apply(self, selections: Sequence[LoraSelection]) -> TextAdapters:
        """Make exactly these LoRAs act on every later run.

        Raises:
            InvalidInput: a file is damaged or does not fit; the pipeline is as usable as before.
        """
        ...


# What diffusers, PEFT and safetensors raise about a file that they cannot fit into the model.
_UNFIT = (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AssertionError, NotImplementedError)


class LoraCache:
    """LoRAs as PEFT adapters of a diffusers pipeline, the least recently used unloaded first.

    Pipelines that share the transformer share the adapters. Not safe for concurrent use.
    """

    def __init__(self, pipeline: Any, card: ModelCard, *, capacity: int) -> None:
        """`capacity` LoRAs stay loaded between requests; one request may use more, for its own duration."""
        self._pipeline = pipeline
        self._card = card
        self._capacity = capacity
        self._adapters: OrderedDict[str, str] = OrderedDict()
        self._in_text_encoder: set[str] = set()
        self._numbers = count()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the LoRAs on the replica, the least recently used first."""
        return tuple(self._adapters)

    def apply(self, selections: Sequence[LoraSelection]) -> TextAdapters:
        weights = self._weights(selections)
        self._make_room(weights)
        for selection in selections:
            if selection.name in weights:
                self._ensure(selection)
        self._activate(weights)
        return tuple((name, weight) for name, weight in weights.items() if name in self._in_text_encoder)

    def _weights(self, selections: Sequence[LoraSelection]) -> dict[str, float]:
        """The weight of each LoRA, in the order of their names; slots that name the same one add up."""
        weights: dict[str, float] = {}
        for selection in selections:
            if selection.name not in self._adapters:
                check_lora_file(selection.path, self._card, field=selection.field)
            weights[selection.name] = weights.get(selection.name, 0.0) + selection.weight
        return {name: weight for name, weight in sorted(weights.items()) if weight}

    def _make_room(self, wanted: Mapping[str, float]) -> None:
        missing = sum(name not in self._adapters for name in wanted)
        surplus = len(self._adapters) + missing - self._capacity
        idle = [name for name in self._adapters if name not in wanted]
        self._unload([self._adapters.pop(name) for name in idle[: max(0, surplus)]])

    def _ensure(self, selection: LoraSelection) -> None:
        if selection.name not in self._adapters:
            # Adapter names of one length: diffusers' clean-up compares them as substrings.
            adapter = f"lora{next(self._numbers):08d}"
            self._load(selection, adapter)
            self._adapters[selection.name] = adapter
        self._adapters.move_to_end(selection.name)

    def _load(self, selection: LoraSelection, adapter: str) -> None:
        try:
            state_dict = read_state_dict(selection.path)
            with warnings.catch_warnings():
                # PEFT takes a second adapter for a mistake; here it is the point.
                warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
                self._pipeline.load_lora_weights(state_dict, adapter_name=adapter)
            present = self._pipeline.get_list_adapters()
            if not any(adapter in adapters for adapters in present.values()):
                raise ValueError("none of its layers belongs to this model")
        except torch.OutOfMemoryError:
            self._unload([adapter])
            raise
        except _UNFIT as error:
            self._unload([adapter])
            raise InvalidInput(
                f"{selection.field}: the LoRA cannot be applied to this model: {error}", field=selection.field
            ) from error
        if adapter in present.get("text_encoder", ()):
            self._in_text_encoder.add(selection.name)

    def _unload(self, adapters: list[str]) -> None:
        if not adapters:
            return
        # PEFT would switch to some other adapter, with a warning, if an active one vanished.
        self._set_active([], [])
        self._pipeline.delete_adapters(adapters)
        self._in_text_encoder &= set(self._adapters)

    def _activate(self, weights: Mapping[str, float]) -> None:
        if not weights:
            self._pipeline.disable_lora()
            return
        self._set_active([self._adapters[name] for name in weights], list(weights.values()))
        self._pipeline.enable_lora()

    def _set_active(self, adapters: list[str], weights: list[float]) -> None:
        from diffusers.utils import set_weights_and_activate_adapters

        for component in ("transformer", "text_encoder"):
            set_weights_and_activate_adapters(getattr(self._pipeline, component), adapters, weights)
