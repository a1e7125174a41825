"""Checks whether a file is a LoRA that a model can use; torch is not imported.

Of a stored file only the header is read, no weights: so the ingress checks it before a task is accepted. A file on
disk, an upload or a replica's copy, is checked in the same way, and its numbers as well.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compute.errors import InvalidInput, NotFound
from compute.lora.header import TensorHeader, header_end, read_header, shortened
from compute.lora.layouts import LoraDescription, LoraLayout, LoraMethod, NotALora, describe_layers
from compute.lora.model_card import ModelCard, read_model_card
from compute.lora.numbers import FLOATS, check_finite
from compute.storage.base import ObjectStore

__all__ = [
    "LoraInfo",
    "ModelCard",
    "check_lora",
    "check_lora_file",
    "read_model_card",
]

_FIRST_READ = 256 * 1024
_WHOLE_NUMBERS = (".alpha", ".diff", ".diff_b")
"""Endings of tensors that may be whole numbers, or are not applied."""


@dataclass(frozen=True, slots=True)
class LoraInfo:
    """The description of a LoRA, read from its header.

    Attributes:
        rank: The largest rank among its layers.
        layout: The program whose names the tensors have.
        method: Plain LoRA, or a relative that needs more than a product of two matrices.
        layers: The number of linear layers of the transformer or the UNet that it adapts.
        in_features: The distinct input widths of those layers, ascending.
        text_encoder: Whether it also adapts a text encoder.
        size: Bytes of the whole file.
    """

    rank: int
    layout: LoraLayout
    method: LoraMethod
    layers: int
    in_features: tuple[int, ...]
    text_encoder: bool
    size: int


async def check_lora(store: ObjectStore, path: str, card: ModelCard | None, *, field: str) -> LoraInfo:
    """Check that the stored file is a LoRA that fits the model. Reads the header only, in at most two reads.

    Example:
        info = await check_lora(store, "loras/styles/comic.safetensors", card, field="style_lora")
        info.rank  # 16

    Args:
        store: The object store with the file.
        path: Its path there.
        card: The model's dimensions; None if unknown, then it may be a LoRA of any FLUX.
        field: The request's field that named the file.

    Raises:
        InvalidInput: not a storage path, missing, damaged, not a LoRA, or made for another model. `field` is set.
    """
    try:
        stored = await store.stat(path)
        if stored is None:
            raise NotFound(f"There is no LoRA at {path}.")
        head = await _read_header(store, path, stored.size, field)
    except (InvalidInput, NotFound) as error:
        raise InvalidInput(error.detail, field=field) from error
    return await asyncio.to_thread(_checked, head, stored.size, card, field)


def check_lora_file(path: Path, card: ModelCard | None, *, field: str, any_model: bool = False) -> LoraInfo:
    """`check_lora` for a file on local disk, which also reads every number; with `any_model` it may be a LoRA of Stable
    Diffusion XL.

    Raises:
        InvalidInput: as `check_lora`, or a tensor holds NaN or infinity.
    """
    if not path.is_file():
        raise InvalidInput("The LoRA file is missing.", field=field)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(header_end(head, size) - len(head))
        tensors = read_header(head, size)
        info = _describe(tensors, size, card, any_model=any_model)
        check_finite(path, tensors)
    except ValueError as error:
        raise InvalidInput(str(error), field=field) from error
    return info


async def _read_header(store: ObjectStore, path: str, size: int, field: str) -> bytes:
    head = await store.read(path, 0, min(size, _FIRST_READ))
    try:
        needed = header_end(head, size)
    except ValueError as error:
        raise InvalidInput(str(error), field=field) from error
    if needed > len(head):
        head += await store.read(path, len(head), needed - len(head))
    return head


def _checked(head: bytes, size: int, card: ModelCard | None, field: str) -> LoraInfo:
    try:
        return _describe(read_header(head, size), size, card)
    except ValueError as error:
        raise InvalidInput(str(error), field=field) from error


def _describe(
    tensors: Mapping[str, TensorHeader], size: int, card: ModelCard | None, *, any_model: bool = False
) -> LoraInfo:
    lora = describe_layers({name: tensor.shape for name, tensor in tensors.items()})
    _check_formats(tensors)
    if not any_model:
        _check_fit(lora, card)
    return LoraInfo(
        rank=max(layer.rank for layer in lora.layers.values()),
        layout=lora.layout,
        method=lora.method,
        layers=len(lora.layers),
        in_features=tuple(sorted({layer.in_features for layer in lora.layers.values()})),
        text_encoder=lora.text_encoder,
        size=size,
    )


def _check_formats(tensors: Mapping[str, TensorHeader]) -> None:
    """Refuse weights that were quantised to whole numbers: they are meaningless without their scale."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and not name.endswith(_WHOLE_NUMBERS):
            raise NotALora(
                f"Tensor {shortened(name)} holds numbers of type {tensor.dtype}; quantised weights are not supported, "
                "export the LoRA in float32, float16 or bfloat16"
            )


def _check_fit(lora: LoraDescription, card: ModelCard | None) -> None:
    naming = lora.layout.naming
    if card is None:
        return
    known = card.linears_named(naming)
    unknown = sorted(name for name in lora.layers if name not in known)
    if unknown:
        raise NotALora(f"made for another model: this one has no layer `{unknown[0]}` ({len(unknown)} such layers)")
    for name, layer in lora.layers.items():
        wanted = known[name]
        if (layer.in_features, layer.out_features) != wanted:
            raise NotALora(
                f"Made for another model: layer `{name}` is {layer.in_features}→{layer.out_features} in the LoRA "
                f"and {wanted[0]}→{wanted[1]} in the model"
            )
