"""Writes a trained LoRA as one file that diffusers, ComfyUI and other tools load as it is.

FLUX    transformer.transformer_blocks.0.attn.to_q.lora_A.weight, .lora_B.weight
        diffusers' own names, which are in ComfyUI's table of FLUX's layers, too
SDXL    lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight, .lora_up.weight, .alpha
        kohya's names: ComfyUI knows a UNet's layers by these and not by PEFT's, and diffusers reads both

The tools read alpha from different places: ComfyUI from tensors only, diffusers from tensors or from metadata but never
from both. So the scale alpha / rank is multiplied into the upper half, and every alpha in a file equals the rank.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from compute import __version__
from compute.errors import TaskFailed
from compute.training.export.sdxl import to_kohya
from compute.training.spec import TrainingSpec

__all__ = ["Dtype", "export_lora"]

Dtype = Literal["bf16", "fp16", "fp32"]
_DTYPES: dict[Dtype, tuple[torch.dtype, str]] = {
    "bf16": (torch.bfloat16, "BF16"),
    "fp16": (torch.float16, "F16"),
    "fp32": (torch.float32, "F32"),
}
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<half>[AB])(?:\.\w+)?\.weight")
_SPEC_VERSION = "1.0.1"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The naming scheme of a family's files, and the tools' names for the family.

    Attributes:
        component: The prefix of diffusers' names; None for kohya's names.
        architecture: ModelSpec's id of the base model.
        version: kohya's.
    """

    component: str | None
    architecture: str
    version: str

    def spelled(self, pairs: Tensors, rank: int) -> Tensors:
        """Return the tensors of a file; `pairs` has PEFT's names, without its prefix, with the scale in B.

        Raises:
            ValueError: the scheme has no name for a layer.
        """
        if self.component is None:
            return to_kohya(pairs, alpha=rank)
        return {f"{self.component}.{name}": half for name, half in pairs.items()}


_LAYOUTS = {
    "flux": _Layout("transformer", architecture="flux-1-dev/lora", version="flux1"),
    "sdxl": _Layout(None, architecture="stable-diffusion-xl-v1-base/lora", version="sdxl_base_v1-0"),
}


def export_lora(
    adapter: Mapping[str, torch.Tensor],
    file: Path,
    spec: TrainingSpec,
    *,
    steps: int,
    date: datetime,
    dtype: Dtype = "bf16",
) -> None:
    """Write the LoRA of a training atomically. Equal arguments give equal bytes.

    Args:
        adapter: The pairs by PEFT's names, `transformer_blocks.0.attn.to_q.lora_A.weight`: A is (rank, in), B (out,
            rank), unscaled.
        file: The .safetensors file; its folder exists.
        spec: The training; its rank is that of every layer.
        steps: The number of steps of the training.
        date: The time of the training; a repetition of the same job must pass the same.
        dtype: Number format of the file.

    Raises:
        TaskFailed: the adapter is invalid: an unpaired half, another rank, values that are not finite.
    """
    layout = _LAYOUTS.get(spec.model.family.partition("-")[0])
    if layout is None:
        raise TaskFailed(f"There is no layout for the LoRAs of {spec.model.family} models.")
    scale = (spec.alpha or spec.rank) / spec.rank
    layers = _layers(adapter, spec.rank)
    pairs: Tensors = {}
    for layer, (down, up) in layers.items():
        pairs[f"{layer}.lora_A.weight"] = down.float()
        pairs[f"{layer}.lora_B.weight"] = up.float() * scale
    try:
        spelled = layout.spelled(pairs, spec.rank)
    except ValueError as error:
        raise TaskFailed(f"The adapter does not fit the layout of {spec.model.family} files: {error}.") from error
    tensors = {name: _cast(name, tensor, dtype) for name, tensor in sorted(spelled.items())}
    metadata = _metadata(spec, layout, steps, date) | {"modelspec.hash_sha256": f"0x{_hash(tensors)}"}
    if layout.component is not None:
        metadata["lora_adapter_metadata"] = _peft_options(layout.component, spec.rank, layers)
    unfinished = file.with_name(f".{file.name}.part")
    _write(unfinished, tensors, metadata, _DTYPES[dtype][1])
    unfinished.replace(file)


def _layers(adapter: Mapping[str, torch.Tensor], rank: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The halves (down, up) of each layer."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in adapter.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise TaskFailed(f"The adapter has a tensor `{name}` that is no half of a low-rank pair.")
        found.setdefault(match["layer"], {})[match["half"]] = tensor.detach().cpu()
    if not found:
        raise TaskFailed("The adapter has no layers.")
    for layer, halves in found.items():
        shapes = [tuple(half.shape) for half in halves.values()]
        if len(halves) != 2 or halves["A"].shape[0] != rank or halves["B"].shape[1:] != (rank,):
            raise TaskFailed(f"Layer `{layer}` of the adapter is no pair of rank {rank}: {shapes}.")
    return {layer: (halves["A"], halves["B"]) for layer, halves in sorted(found.items())}


def _cast(name: str, tensor: torch.Tensor, dtype: Dtype) -> torch.Tensor:
    if not bool(tensor.isfinite().all()):
        raise TaskFailed(f"The LoRA has values in {name} that are not finite: the training has diverged.")
    cast = tensor.to(_DTYPES[dtype][0])
    if not bool(cast.isfinite().all()):
        raise TaskFailed(f"The LoRA has values in {name} that are too large for {dtype}.")
    return cast


def _metadata(spec: TrainingSpec, layout: _Layout, steps: int, date: datetime) -> dict[str, str]:
    """Metadata for the tools, all strings: ModelSpec's keys, kohya's, and ours."""
    side = spec.model.resolution
    fields: dict[str, object] = {
        "format": "pt",
        "modelspec.sai_model_spec": _SPEC_VERSION,
        "modelspec.architecture": _architecture(spec, layout),
        "modelspec.implementation": "diffusers",
        "modelspec.title": spec.output_name,
        "modelspec.date": f"{date.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.trigger_phrase": spec.trigger_word,
        "modelspec.usage_hint": f"Trigger word: {spec.trigger_word}",
        "ss_output_name": spec.output_name,
        "ss_base_model_version": layout.version,
        "ss_sd_model_name": spec.model.name,
        "ss_network_dim": spec.rank,
        # The alpha of this file, not of the training: the scale is in the weights.
        "ss_network_alpha": spec.rank,
        "ss_steps": steps,
        "ss_learning_rate": spec.optimizer.learning_rate,
        "ss_optimizer": spec.optimizer.name,
        "ss_lr_scheduler": spec.optimizer.schedule,
        "ss_gradient_accumulation_steps": spec.gradient_accumulation,
        "ss_total_batch_size": spec.batch_size,
        "ss_seed": spec.seed,
        "ss_resolution": f"({side}, {side})",
        "compute.version": __version__,
        "compute.training": spec.id,
        "compute.base_model": spec.model.name,
        "compute.entity_type": spec.entity_type.value,
        "compute.rank": spec.rank,
        "compute.alpha": spec.alpha or spec.rank,
    }
    if spec.prediction != "auto":
        fields["modelspec.prediction_type"] = "v" if spec.prediction == "v_prediction" else spec.prediction
    return {name: str(value) for name, value in fields.items()}


def _architecture(spec: TrainingSpec, layout: _Layout) -> str:
    schnell = "schnell" in f"{spec.model.name} {spec.model.source}".lower()
    return layout.architecture.replace("-dev", "-schnell") if schnell else layout.architecture


def _peft_options(component: str, rank: int, layers: Mapping[str, object]) -> str:
    """The adapter's options in the form that diffusers stores with a LoRA."""
    options: dict[str, object] = {"lora_alpha": rank, "r": rank, "target_modules": list(layers)}
    return json.dumps({f"{component}.{name}": value for name, value in options.items()})


def _hash(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for data in _content(tensors):
        digest.update(data)
    return digest.hexdigest()


def _write(file: Path, tensors: Tensors, metadata: Mapping[str, str], dtype: str) -> None:
    """Write the file in the safetensors format. The library would write the metadata in another order each time."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as target:
        target.write(len(text).to_bytes(8, "little"))
        target.write(text)
        for data in _content(tensors):
            target.write(data)


def _content(tensors: Tensors) -> Iterator[memoryview]:
    for tensor in tensors.values():
        yield tensor.reshape(-1).view(torch.uint8).numpy().data
