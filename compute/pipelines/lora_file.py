"""A LoRA file as the tensors that diffusers' FLUX loader takes."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from compute.storage.lora_layouts import LoraLayout, describe_layers

__all__ = ["read_state_dict"]

_ADAPTER_METADATA = "lora_adapter_metadata"


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors LoRA, renamed where diffusers' loader would overlook them.

    Of the metadata only the numbers that scale the update are taken, as `.alpha` tensors. Handing the file itself
    to diffusers would let its author choose any PEFT option, some of which rewrite the base weights, and would
    fall back to unpickling.

    Raises:
        SafetensorError: the file is damaged.
        ValueError: its tensors are not a LoRA.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        metadata = file.metadata() or {}
    layout, _, _ = describe_layers({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if layout is LoraLayout.PEFT:
        tensors = {_as_diffusers(name): tensor for name, tensor in tensors.items()}
    elif layout is LoraLayout.COMFYUI:
        tensors = {_as_kohya(name): tensor for name, tensor in tensors.items()}
    return tensors | _alphas(tensors, metadata)


def _as_diffusers(name: str) -> str:
    name = name.removeprefix("base_model.model.").replace(".default.weight", ".weight")
    return name if name.startswith("text_encoder.") else f"transformer.{name}"


def _as_kohya(name: str) -> str:
    """diffusers converts these names, but knows the file by kohya's endings only."""
    return name.replace(".lora_A.weight", ".lora_down.weight").replace(".lora_B.weight", ".lora_up.weight")


def _alphas(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> dict[str, torch.Tensor]:
    """Each layer's alpha according to the PEFT options that diffusers stores with a LoRA; none when none are."""
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
