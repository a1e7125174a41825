"""Checks that all numbers of a LoRA file are finite, piece by piece and without torch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compute.lora.header import TensorHeader, shortened
from compute.lora.layouts import NotALora

__all__ = ["FLOATS", "check_finite"]

_CHUNK = 4 * 2**20
# For each format, the integer of its width and the bits that are all set in non-finite values: its exponent. Eight bits
# with a four-bit exponent have no infinity, and one NaN of either sign.
_NOT_FINITE: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F8_E4M3": ("u1", 0x7F),
    "F8_E5M2": ("u1", 0x7C),
}
FLOATS = frozenset(_NOT_FINITE)
"""The number formats that weights may have, by their names in safetensors."""


def check_finite(path: Path, tensors: Mapping[str, TensorHeader]) -> None:
    """Read all tensors of floating-point numbers of a file once, 4 MiB at a time.

    Args:
        path: The file.
        tensors: The tensors listed in its header.

    Raises:
        NotALora: a tensor holds NaN or infinity; the message names it.
        ValueError: the file is shorter than its header says.
    """
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for name, tensor in tensors.items():
            if tensor.dtype not in FLOATS:
                continue
            file.seek(start + tensor.begin)
            left = tensor.end - tensor.begin
            while left > 0:
                piece = file.read(min(left, _CHUNK))
                if not piece:
                    raise ValueError("damaged safetensors file: it is cut off")
                if _has_not_finite(piece, tensor.dtype):
                    raise NotALora(f"tensor {shortened(name)} holds numbers that are not finite (NaN or infinity)")
                left -= len(piece)


def _has_not_finite(piece: bytes, dtype: str) -> bool:
    kind, mask = _NOT_FINITE[dtype]
    numbers: NDArray[np.unsignedinteger] = np.frombuffer(piece, kind)
    return bool(((numbers & numbers.dtype.type(mask)) == mask).any())
