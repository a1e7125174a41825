"""Converts a PyTorch checkpoint to safetensors without running any of its code.

    python -m compute.lora.unpickle IN OUT MAX_BYTES

It runs in a process of its own, with no secrets in its environment and limits on its memory and time, because the file
is untrusted: `compute.lora.convert` starts it. It exits with 0, or with `REFUSED` and one sentence on its standard
output.
"""

import os
import resource
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["REFUSED", "RefusedCheckpoint", "convert"]

REFUSED = 3
"""The exit code for a refused file; the output says why."""

_SPARE_BYTES = 256 * 2**20
# The content read, the copy written, and the libraries' intermediate copies.
_COPIES = 4
_CPU_SECONDS = 300


class RefusedCheckpoint(Exception):
    """The file is refused; the message tells its sender why."""


def convert(source: Path, destination: Path, max_bytes: int) -> int:
    """Write the tensors of a checkpoint as safetensors; returns their number. Equal checkpoints give equal files.

    The checkpoint is a mapping of names to tensors, or has one under `state_dict`. Values other than tensors are
    dropped, except numbers named `….alpha`, which become tensors.

    Args:
        source: A file of `torch.save`; its unpickling is restricted to tensors and plain containers.
        destination: The file to write; it is written at once at the end.
        max_bytes: The most bytes of all tensors together.

    Raises:
        RefusedCheckpoint: it is not such a file, is larger, or has tensors that safetensors does not support.
    """
    from safetensors.torch import save_file

    _check_archive(source)
    tensors = _tensors(_load(source))
    if not tensors:
        raise RefusedCheckpoint("it holds no tensors")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > max_bytes:
        raise RefusedCheckpoint(f"its tensors take more than {max_bytes} bytes")
    try:
        # Copies, because views of one storage would be refused.
        save_file({name: _dense(tensor) for name, tensor in tensors.items()}, destination, metadata={"format": "pt"})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RefusedCheckpoint(f"its tensors cannot be written: {_line(error)}") from error
    return len(tensors)


def _check_archive(source: Path) -> None:
    """Refuse archives that would grow when unpacked, which are attacks: `torch.save` never compresses."""
    if not zipfile.is_zipfile(source):
        return
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise RefusedCheckpoint("its archive is damaged") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise RefusedCheckpoint("its archive is compressed, which no file of torch.save is")
    if sum(entry.file_size for entry in entries) > source.stat().st_size:
        raise RefusedCheckpoint("its archive claims to hold more than it has")


def _load(source: Path) -> Any:
    import torch

    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # A damaged or hostile file can make the loader raise any error; the cause is always the file.
        raise RefusedCheckpoint(f"it is no checkpoint of plain tensors ({_reason(error)})") from error


def _tensors(loaded: Any) -> "dict[str, torch.Tensor]":
    import torch

    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise RefusedCheckpoint("it holds no mapping of names to tensors")
    found: dict[str, torch.Tensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif name.endswith(".alpha") and isinstance(value, int | float):
            found[name] = torch.tensor(float(value))
    return found


def _dense(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError("a tensor is sparse, quantised or has no data")
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _reason(error: Exception) -> str:
    text = str(error)
    if "unsupported global" in text.lower() or "unsupported class" in text.lower():
        return "it holds objects that only running its code could load"
    if "allocate memory" in text:
        return "it needs more memory than such a file may"
    return "it is damaged, or of another format"


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _bound(size: int) -> None:
    """Limit this process to little more memory than a file of `size` bytes needs, and to its time."""
    import safetensors.torch  # noqa: F401  (what the libraries take themselves comes before the limit)

    limit = _data_bytes() + _COPIES * size + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not say how much memory this process has")


def main(source: Path, destination: Path, max_bytes: int) -> int:
    """Run the command line; returns the exit code."""
    _bound(source.stat().st_size)
    try:
        convert(source, destination, max_bytes)
    except RefusedCheckpoint as refusal:
        sys.stdout.write(str(refusal))
        return REFUSED
    except MemoryError:
        sys.stdout.write("it needs more memory than such a file may")
        return REFUSED
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
