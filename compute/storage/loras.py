"""What a LoRA file is, read from its safetensors header alone: no weights are fetched and torch is not imported.

    8 bytes little-endian N | N bytes of JSON: {tensor: {dtype, shape, data_offsets}} | tensor data

The ingress checks with it before a task is accepted; a replica checks the same things again before it loads.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compute.errors import InvalidInput, NotFound
from compute.storage.base import ObjectStore
from compute.storage.lora_layouts import LoraDescription, LoraLayout, LoraMethod, NotALora, describe_layers
from compute.storage.model_card import ModelCard, read_model_card

__all__ = [
    "LoraInfo",
    "ModelCard",
    "TensorHeader",
    "check_lora",
    "check_lora_file",
    "parse_header",
    "read_model_card",
]

_FIRST_READ = 256 * 1024
_MAX_HEADER = 16 * 2**20
_BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
}


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a safetensors file; `begin` and `end` are byte offsets behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class LoraInfo:
    """What the header of a LoRA says.

    Attributes:
        rank: The largest rank among its layers.
        layout: Which program's names the tensors carry.
        method: Plain LoRA, or a relative that needs more than a product of two matrices.
        layers: How many linear layers of the transformer or the UNet it adapts.
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

    Args:
        store: Where the file lies.
        path: Its path there.
        card: The model's dimensions; None when unknown, then it may be a LoRA of any FLUX.
        field: The request's field that named the file.

    Raises:
        InvalidInput: no storage path, missing, damaged, not a LoRA, or made for another model. `field` is set.
    """
    try:
        stored = await store.stat(path)
        if stored is None:
            raise NotFound(f"no LoRA at {path}")
        head = await _read_header(store, path, stored.size, field)
    except (InvalidInput, NotFound) as error:
        raise InvalidInput(_with_field(error.detail, field), field=field) from error
    return _describe(head, stored.size, card, field)


def check_lora_file(path: Path, card: ModelCard | None, *, field: str, any_model: bool = False) -> LoraInfo:
    """`check_lora` for a file on local disk; with `any_model` it may be a LoRA of Stable Diffusion XL as well."""
    if not path.is_file():
        raise InvalidInput(f"{field}: the LoRA file is missing", field=field)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(max(0, _header_end(head, size, field) - len(head)))
    return _describe(head, size, card, field, any_model=any_model)


def parse_header(head: bytes, size: int) -> dict[str, TensorHeader]:
    """Every tensor that a safetensors header lists.

    Args:
        head: The file's first bytes, at least the whole header.
        size: Bytes of the whole file; the tensors must fill it exactly.

    Raises:
        ValueError: it is not a whole, consistent safetensors file.
    """
    end = 8 + struct.unpack("<Q", head[:8])[0]
    try:
        listed = json.loads(head[8:end])
    except (RecursionError, ValueError) as error:
        raise ValueError("its header is not JSON") from error
    if not isinstance(listed, dict):
        raise ValueError("its header is not a JSON object")
    listed.pop("__metadata__", None)
    tensors = {name: _tensor(name, entry) for name, entry in listed.items()}
    _check_extents(tensors, size - end)
    return tensors


async def _read_header(store: ObjectStore, path: str, size: int, field: str) -> bytes:
    head = await store.read(path, 0, min(size, _FIRST_READ))
    needed = _header_end(head, size, field)
    if needed > len(head):
        head += await store.read(path, len(head), needed - len(head))
    return head


def _with_field(detail: str, field: str) -> str:
    return detail if detail.startswith(f"{field}: ") else f"{field}: {detail}"


def _header_end(head: bytes, size: int, field: str) -> int:
    """Offset of the first byte behind the header; refuses what cannot be safetensors before reading more."""
    if len(head) < 8:
        raise InvalidInput(f"{field}: not a safetensors file (only {size} bytes)", field=field)
    length: int = struct.unpack("<Q", head[:8])[0]
    if length > min(size - 8, _MAX_HEADER) or length < 2:
        raise InvalidInput(f"{field}: not a safetensors file, or cut off inside its header", field=field)
    return 8 + length


def _tensor(name: str, entry: object) -> TensorHeader:
    if not isinstance(entry, Mapping):
        raise ValueError(f"tensor {name!r} has no description")
    dtype = entry.get("dtype")
    if not (isinstance(dtype, str) and dtype in _BITS):
        raise ValueError(f"tensor {name!r} has the unknown dtype {dtype!r}")
    shape, offsets = _sizes(name, entry.get("shape")), _sizes(name, entry.get("data_offsets"))
    if len(offsets) != 2:
        raise ValueError(f"tensor {name!r} has no begin and end")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"tensor {name!r} has {end - begin} bytes, which is wrong for {dtype} of {list(shape)}")
    return TensorHeader(dtype=dtype, shape=shape, begin=begin, end=end)


def _sizes(name: str, value: object) -> tuple[int, ...]:
    if not (isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)):
        raise ValueError(f"tensor {name!r} has no proper shape and offsets")
    return tuple(value)


def _check_extents(tensors: Mapping[str, TensorHeader], data_size: int) -> None:
    """The tensors must lie one behind the other and fill the file: a hole or an overlap is damage."""
    expected = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != expected:
            raise ValueError(f"tensor {name!r} does not begin where the one before it ends")
        expected = tensor.end
    if expected > data_size:
        raise ValueError(f"it is cut off: the header lists {expected} bytes of tensors, {data_size} are there")
    if expected < data_size:
        raise ValueError(f"it has {data_size - expected} bytes behind the last tensor")


def _describe(head: bytes, size: int, card: ModelCard | None, field: str, *, any_model: bool = False) -> LoraInfo:
    try:
        tensors = parse_header(head, size)
    except ValueError as error:
        raise InvalidInput(f"{field}: damaged safetensors file: {error}", field=field) from error
    try:
        lora = describe_layers({name: tensor.shape for name, tensor in tensors.items()})
        if not any_model:
            _check_fit(lora, card)
    except NotALora as error:
        raise InvalidInput(f"{field}: {error}", field=field) from error
    return LoraInfo(
        rank=max(layer.rank for layer in lora.layers.values()),
        layout=lora.layout,
        method=lora.method,
        layers=len(lora.layers),
        in_features=tuple(sorted({layer.in_features for layer in lora.layers.values()})),
        text_encoder=lora.text_encoder,
        size=size,
    )


def _check_fit(lora: LoraDescription, card: ModelCard | None) -> None:
    naming = lora.layout.naming
    if card is None:
        return
    known = card.linears_named(naming)
    unknown = sorted(name for name in lora.layers if name not in known)
    if unknown:
        raise NotALora(f"made for another model: this one has no layer {unknown[0]!r} ({len(unknown)} such layers)")
    for name, layer in lora.layers.items():
        wanted = known[name]
        if (layer.in_features, layer.out_features) != wanted:
            raise NotALora(
                f"made for another model: layer {name!r} is {layer.in_features}→{layer.out_features} in the LoRA "
                f"and {wanted[0]}→{wanted[1]} in the model"
            )
