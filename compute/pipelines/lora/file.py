"""Reads a LoRA file's tensors by the names of diffusers' layers, whatever program wrote it."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from compute.lora.layouts import (
    LoraMethod,
    NotALora,
    TensorName,
    describe_layers,
    of_text_encoder,
    parse_tensor_name,
    split_layer_part,
)
from compute.lora.model_card import ModelCard
from compute.pipelines.lora.changes import check_changes
from compute.pipelines.lora.pair import Pair
from compute.pipelines.lora.targets import Target, targets

__all__ = ["LoraFile", "TextPart", "read_lora"]

logger = logging.getLogger(__name__)

_ADAPTER_METADATA = "lora_adapter_metadata"

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class TextPart:
    """The part for the CLIP text encoder, in the form of diffusers' loader: its tensors, and the alphas it divides."""

    tensors: dict[str, torch.Tensor]
    alphas: dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class LoraFile:
    """The content of a LoRA file.

    Attributes:
        method: The kind of update that it contains.
        pairs: The transformer's layers by diffusers' names, for plain LoRA and DoRA.
        extra: Further tensors of the other methods, scaled, with PEFT's names `{layer}.{part}`.
        text: The text encoder's part, if there is one.
    """

    method: LoraMethod
    pairs: dict[str, Pair] = field(default_factory=dict)
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    text: TextPart | None = None

    @property
    def rank(self) -> int:
        """The largest rank among the pairs."""
        return max((pair.rank for pair in self.pairs.values()), default=0)


def read_lora(path: Path, card: ModelCard) -> LoraFile:
    """Read a .safetensors LoRA that fits the model.

    Of the metadata only the numbers that scale the update are used. Passing the file itself to diffusers would let its
    author choose any PEFT option, some of which rewrite the base weights, and would fall back to unpickling.

    Raises:
        SafetensorError: the file is damaged.
        ValueError: its tensors are not a LoRA.
        KeyError: a layer is not one of the model's.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: _usable(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        metadata = file.metadata() or {}
    tensors |= _alphas(tensors, metadata)
    described = describe_layers({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    layers = _by_layer({name: tensor for name, tensor in tensors.items() if not of_text_encoder(name)})
    text = _text_part({name: tensor for name, tensor in tensors.items() if of_text_encoder(name)})
    layers = {layer: layers[layer] for layer in described.layers}
    table = targets(described.layout.naming, card)
    pairs = {name: pair for layer, parts in layers.items() for name, pair in _pairs(parts, table[layer])}
    if described.method is LoraMethod.LORA:
        check_changes(described.method, pairs, {})
        return LoraFile(described.method, pairs, text=text)
    # One to one: the relatives of LoRA are refused in other layouts.
    extra = {name: tensor for layer, parts in layers.items() for name, tensor in _extra(table[layer][0].layer, parts)}
    check_changes(described.method, pairs, extra)
    return LoraFile(described.method, pairs, extra, text)


def _usable(tensor: torch.Tensor) -> torch.Tensor:
    """Convert 8-bit numbers, which are for storage only: neither PEFT nor the buffers can compute with them."""
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


def _by_layer(tensors: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        split: TensorName | None = parse_tensor_name(name)
        if split is not None:
            layers.setdefault(split.layer, {})[split.part] = tensor
    return layers


def _pairs(parts: Tensors, wanted: tuple[Target, ...]) -> list[tuple[str, Pair]]:
    if "down" not in parts:
        return []
    down = parts["down"]
    up = parts["up"].float() * _scale(parts, down.shape[0])
    return [(target.layer, Pair(down, _rows(up, target))) for target in wanted]


def _rows(up: torch.Tensor, target: Target) -> torch.Tensor:
    rows = up[target.begin : target.end]
    return rows.roll(rows.shape[0] // 2, 0) if target.swapped else rows


def _extra(layer: str, parts: Tensors) -> list[tuple[str, torch.Tensor]]:
    """The parts that are not a pair. A method's alpha / rank is multiplied into its first factor, as in its definition.

    LoKr whose factors are both whole matrices has no rank and is not scaled (LyCORIS).
    """
    kept = {part: tensor for part, tensor in parts.items() if part not in {"down", "up", "alpha"}}
    inner = next((kept[part] for part in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if part in kept), None)
    first = next((part for part in ("hada_w1_a", "lokr_w1", "lokr_w1_a") if part in kept), None)
    if inner is not None and first is not None:
        kept[first] = kept[first].float() * _scale(parts, inner.shape[0])
    named = {"magnitude": "lora_magnitude_vector"}
    return [(f"{layer}.{named.get(part, part)}", tensor) for part, tensor in kept.items()]


def _scale(parts: Tensors, rank: int) -> float:
    if "alpha" not in parts:
        return 1.0
    if parts["alpha"].numel() != 1:
        raise NotALora(f"an alpha is one number, not {parts['alpha'].numel()}")
    scale = parts["alpha"].item() / rank
    if not math.isfinite(scale):
        raise NotALora("an alpha is not a finite number")
    return scale


def _text_part(tensors: Tensors) -> TextPart | None:
    """Convert with diffusers, which knows all spellings of CLIP's names and drops T5's tensors."""
    if not tensors:
        return None
    from diffusers import FluxPipeline

    check_changes(LoraMethod.LORA, _text_pairs(tensors), {})
    spelled = {_as_kohya(name): tensor for name, tensor in tensors.items()}
    converted, alphas = FluxPipeline.lora_state_dict(spelled, return_alphas=True)
    kept = {name: tensor for name, tensor in converted.items() if name.startswith("text_encoder.")}
    if len(kept) < len([name for name in tensors if not name.endswith(".alpha")]):
        logger.warning("A LoRA changes more of the text encoders than CLIP's layers; that part is left out.")
    return TextPart(kept, alphas or {}) if kept else None


def _text_pairs(tensors: Tensors) -> dict[str, Pair]:
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if (split := split_layer_part(name)) is not None:
            layer, part = split
            layers.setdefault(layer, {})[part] = tensor
    pairs = {}
    for layer, parts in layers.items():
        if {"down", "up"} <= parts.keys() and parts["down"].ndim == parts["up"].ndim == 2:
            pairs[layer] = Pair(parts["down"], parts["up"].float() * _scale(parts, parts["down"].shape[0]))
    return pairs


def _as_kohya(name: str) -> str:
    """The name with kohya's ending, by which diffusers recognises a file that it can convert."""
    if name.startswith("text_encoder."):
        return name
    return name.replace(".lora_A.weight", ".lora_down.weight").replace(".lora_B.weight", ".lora_up.weight")


def _alphas(tensors: Tensors, metadata: dict[str, str]) -> dict[str, torch.Tensor]:
    """Each layer's alpha according to the PEFT options that diffusers stores with a LoRA; empty if there are none."""
    try:
        options = json.loads(metadata.get(_ADAPTER_METADATA, "{}"))
    except ValueError:
        return {}
    if not isinstance(options, dict):
        return {}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        layer, suffix, _ = name.partition(".lora_A.weight")
        if suffix and f"{layer}.alpha" not in tensors:
            alpha = _alpha(layer, tensor.shape[0], options)
            if alpha is not None:
                found[f"{layer}.alpha"] = torch.tensor(alpha)
    return found


def _alpha(layer: str, rank: int, options: dict[str, Any]) -> float | None:
    component, _, module = layer.partition(".")
    alpha = options.get(f"{component}.lora_alpha")
    for pattern, value in _mapping(options.get(f"{component}.alpha_pattern")).items():
        if module == pattern.removeprefix("^") or module.endswith(f".{pattern}"):
            alpha = value
    if not isinstance(alpha, int | float):
        return None
    # PEFT divides by the root of the rank here, diffusers' alpha by the rank.
    return float(alpha) * rank**0.5 if options.get(f"{component}.use_rslora") else float(alpha)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
