"""Reads the header of a safetensors file with the library that will load it, and explains refusals.

    8 bytes little-endian N | N bytes of JSON: {tensor: {dtype, shape, data_offsets}} | tensor data

The library requires a file. A sparse file of the same size with only the header costs no disk and no memory, so the
ingress can check a LoRA without its weights.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

__all__ = ["MAX_HEADER", "TensorHeader", "header_end", "read_header", "shortened"]

MAX_HEADER = 16 * 2**20
"""Bytes. The library accepts 100 MB; headers of LoRAs have less than one, unless a trainer stored all its captions."""

# The largest LoRAs have some 10,000 tensors, each of five strings and some ten values.
_MOST_STRINGS = 2**17
_MOST_VALUES = 2**18
_EXPLAINED = 2 * 2**20
"""Bytes of a header that is parsed once more to explain an error."""

_BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
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
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
_PREFIX = "Error while deserializing header: "


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor of a safetensors file; `begin` and `end` are byte offsets after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_end(head: bytes, size: int) -> int:
    """Offset of the first byte after the header, from the file's first bytes and its size.

    Raises:
        ValueError: there cannot be a header, so that no more needs to be read.
    """
    if len(head) < 8:
        raise ValueError(f"not a safetensors file (only {size} bytes)")
    length: int = struct.unpack("<Q", head[:8])[0]
    if length > size - 8 or length < 2:
        raise ValueError("not a safetensors file, or cut off inside its header")
    if length > MAX_HEADER:
        raise ValueError(f"its header has {length} bytes; at most {MAX_HEADER} are read")
    return 8 + length


def read_header(head: bytes, size: int) -> dict[str, TensorHeader]:
    """Every tensor of a file, in file order; accepts exactly the files that the library loads.

    Args:
        head: The file's first bytes, at least the whole header.
        size: Bytes of the whole file.

    Raises:
        ValueError: the library would refuse the file; the message says why.
    """
    head = head[: header_end(head, size)]
    _check_parts(head[8:])
    file = os.memfd_create("safetensors")
    try:
        _write(file, head)
        os.ftruncate(file, size)
        return _listed(Path(f"/proc/self/fd/{file}"))
    except SafetensorError as error:
        raise ValueError(f"damaged safetensors file: {_fault(head, size) or _reason(error)}") from error
    finally:
        os.close(file)


def shortened(name: object) -> str:
    """A name from a file, shortened for messages."""
    text = str(name)
    return repr(text if len(text) <= 120 else f"{text[:119]}…")


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _check_parts(header: bytes) -> None:
    """Bound the number of parts: parsing time grows with it, and blocks other threads, while long texts are quick."""
    unescaped = header.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > 2 * _MOST_STRINGS:
        raise ValueError(f"its header has more than {_MOST_STRINGS} strings")
    between = b"".join(unescaped.split(b'"')[::2])
    if sum(map(between.count, (b"{", b"[", b","))) > _MOST_VALUES:
        raise ValueError(f"its header has more than {_MOST_VALUES} values")


def _listed(path: Path) -> dict[str, TensorHeader]:
    tensors: dict[str, TensorHeader] = {}
    begin = 0
    with safe_open(path, framework="numpy") as opened:
        for name in opened.offset_keys():
            part = opened.get_slice(name)
            shape = tuple(part.get_shape())
            end = begin + math.prod(shape) * _BITS[part.get_dtype()] // 8
            tensors[name] = TensorHeader(part.get_dtype(), shape, begin, end)
            begin = end
    return tensors


def _reason(error: SafetensorError) -> str:
    return str(error).removeprefix(_PREFIX)[:200]


def _fault(head: bytes, size: int) -> str | None:
    """An explanation that names the tensor; None if only the library can tell."""
    if len(head) > _EXPLAINED:
        return None
    try:
        listed = json.loads(head[8:])
    except (RecursionError, ValueError):
        return "its header is not JSON"
    if not isinstance(listed, dict):
        return "its header is not a JSON object"
    try:
        _check_metadata(listed.pop("__metadata__", None))
        _check_extents({name: _tensor(name, entry) for name, entry in listed.items()}, size - len(head))
    except ValueError as error:
        return str(error)
    return None


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise ValueError("its __metadata__ is not a JSON object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ValueError(f"its __metadata__ holds something other than text at {shortened(key)}")


def _tensor(name: str, entry: object) -> TensorHeader:
    quoted = shortened(name)
    if not isinstance(entry, Mapping):
        raise ValueError(f"tensor {quoted} has no description")
    dtype = entry.get("dtype")
    if not (isinstance(dtype, str) and dtype in _BITS):
        raise ValueError(f"tensor {quoted} has the unknown dtype {shortened(dtype)}")
    shape, offsets = _sizes(quoted, entry.get("shape")), _sizes(quoted, entry.get("data_offsets"))
    if len(offsets) != 2:
        raise ValueError(f"tensor {quoted} has no begin and end")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"tensor {quoted} has {end - begin} bytes, which is wrong for {dtype} of {list(shape)[:20]}")
    return TensorHeader(dtype=dtype, shape=shape, begin=begin, end=end)


def _sizes(quoted: str, value: object) -> tuple[int, ...]:
    if not (isinstance(value, list) and all(type(item) is int and 0 <= item < 2**64 for item in value)):
        raise ValueError(f"tensor {quoted} has no proper shape and offsets")
    return tuple(value)


def _check_extents(tensors: Mapping[str, TensorHeader], data_size: int) -> None:
    """Check that the tensors are contiguous and fill the file: a hole or an overlap is damage."""
    expected = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != expected:
            raise ValueError(f"tensor {shortened(name)} does not begin where the one before it ends")
        expected = tensor.end
    if expected > data_size:
        raise ValueError(f"it is cut off: the header lists {expected} bytes of tensors, {data_size} are there")
    if expected < data_size:
        raise ValueError(f"it has {data_size - expected} bytes behind the last tensor")
