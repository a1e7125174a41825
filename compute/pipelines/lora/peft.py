"""LoRAs as PEFT adapters: for those that do not fit the rank buffers, and for text encoders.

They are slower in every respect (hundreds of milliseconds to load, Python at every layer and step), so adapters that
the current request does not use are unloaded.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn

from compute.lora.layouts import LoraMethod
from compute.pipelines.lora.file import LoraFile, TextPart
from compute.pipelines.lora.pair import Pair
from compute.pipelines.lora.store import UNFIT, unfit

__all__ = ["PeftAdapter", "PeftAdapters", "attach_text", "attach_transformer"]


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter to load, and its weight. `field` is the request's, for error messages."""

    name: str
    weight: float
    part: LoraFile | TextPart
    field: str


class PeftAdapters:
    """The adapters of one model: exactly those of the last call, in its order. Not safe for concurrent use."""

    def __init__(self, model: nn.Module, attach: Callable[[Any, str], None]) -> None:
        """`attach` loads an adapter's part into the model under the given name."""
        self._model = model
        self._attach = attach
        self._numbers = count()
        self._loaded: dict[str, str] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def activate(self, adapters: Sequence[PeftAdapter]) -> None:
        """Apply exactly these adapters. While any is loaded, code that was compiled without them must not run.

        Raises:
            InvalidInput: one does not fit; then none is loaded.
        """
        from diffusers.utils import set_adapter_layers, set_weights_and_activate_adapters

        if self._loaded.keys() != {adapter.name for adapter in adapters}:
            self.clear()
            self._load(adapters)
        if adapters:
            names = [self._loaded[adapter.name] for adapter in adapters]
            set_weights_and_activate_adapters(self._model, names, [adapter.weight for adapter in adapters])
            set_adapter_layers(self._model, enabled=True)

    def disable(self) -> None:
        """Let the model run without adapters; the next `activate` of the same adapters is quick."""
        from diffusers.utils import set_adapter_layers

        if self._loaded:
            set_adapter_layers(self._model, enabled=False)

    def clear(self) -> None:
        """Remove every adapter and restore the model's own layers."""
        from diffusers.utils import recurse_remove_peft_layers

        if not self._loaded:
            return
        recurse_remove_peft_layers(self._model)
        if hasattr(self._model, "peft_config"):
            del self._model.peft_config
        # As diffusers and transformers both mark a model that never had one.
        self._model._hf_peft_config_loaded = False  # type: ignore[assignment]
        self._loaded = {}

    def _load(self, adapters: Sequence[PeftAdapter]) -> None:
        for adapter in adapters:
            # Names of one length: diffusers compares them as substrings.
            name = f"lora{next(self._numbers):08d}"
            # Registered before it is loaded, so that a partial load is cleared as well.
            self._loaded[adapter.name] = name
            try:
                with warnings.catch_warnings():
                    # PEFT warns of a second adapter as a mistake; here it is intended.
                    warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
                    self._attach(adapter.part, name)
            except torch.OutOfMemoryError:
                self.clear()
                raise
            except UNFIT as error:
                self.clear()
                raise unfit(adapter.field, error) from error


def attach_transformer(pipeline: Any) -> Callable[[LoraFile, str], None]:
    """The function that attaches an adapter to the pipeline's transformer."""

    def attach(file: LoraFile, adapter: str) -> None:
        transformer = pipeline.transformer
        if file.method is LoraMethod.LOHA:
            _inject_loha(transformer, file.extra, adapter)
        else:
            tensors = {f"transformer.{name}": tensor for name, tensor in (_spelled(file.pairs) | file.extra).items()}
            transformer.load_lora_adapter(tensors, adapter_name=adapter, _pipeline=pipeline, low_cpu_mem_usage=True)
        if adapter not in getattr(transformer, "peft_config", {}):
            raise ValueError("none of its layers belongs to this model")

    return attach


def attach_text(pipeline: Any) -> Callable[[TextPart, str], None]:
    """The function that attaches an adapter to the pipeline's CLIP text encoder."""

    def attach(part: TextPart, adapter: str) -> None:
        pipeline.load_lora_into_text_encoder(
            part.tensors,
            part.alphas,
            pipeline.text_encoder,
            prefix="text_encoder",
            adapter_name=adapter,
            _pipeline=pipeline,
            low_cpu_mem_usage=True,
        )
        if adapter not in getattr(pipeline.text_encoder, "peft_config", {}):
            raise ValueError("none of its layers belongs to this text encoder")

    return attach


def _spelled(pairs: Mapping[str, Pair]) -> dict[str, torch.Tensor]:
    named = {}
    for layer, pair in pairs.items():
        named[f"{layer}.lora_A.weight"] = pair.down
        named[f"{layer}.lora_B.weight"] = pair.up
    return named


def _inject_loha(transformer: Any, tensors: Mapping[str, torch.Tensor], adapter: str) -> None:
    """Attach a LoHa with PEFT directly, already scaled (alpha is the rank): diffusers loads only LoRA and LoKr."""
    from peft import LoHaConfig, inject_adapter_in_model, set_peft_model_state_dict

    marker = ".hada_w1_b"
    ranks = {name.removesuffix(marker): value.shape[0] for name, value in tensors.items() if name.endswith(marker)}
    # `^` makes PEFT compare whole names: proj_out is the end of other layers' names.
    exact = {f"^{name}": rank for name, rank in ranks.items()}
    rank = max(ranks.values())
    config = LoHaConfig(r=rank, alpha=rank, rank_pattern=exact, alpha_pattern=exact, target_modules=list(ranks))
    inject_adapter_in_model(config, transformer, adapter_name=adapter, state_dict=dict(tensors))
    set_peft_model_state_dict(transformer, dict(tensors), adapter_name=adapter)
    transformer._hf_peft_config_loaded = True
