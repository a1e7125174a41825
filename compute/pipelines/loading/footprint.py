"""Memory of a model's weights: estimated from its files before it is loaded, measured afterwards."""

import json
import math
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from compute.pipelines.acceleration.placement import pick_device, pick_dtype
from compute.pipelines.config import ModelConfig, resolve_model
from compute.pipelines.loading.weights import local_folder, weight_files

__all__ = ["expected_bytes", "measured_bytes"]


def expected_bytes(config: ModelConfig, models_root: Path) -> int:
    """The bytes that the weights will take as configured, from the headers of their files; 0 if they are not local.

    Raises:
        NotFound: there is no such model.
        ValueError: the settings do not fit this machine.
    """
    folder = local_folder(resolve_model(config, models_root), config.revision)
    if folder is None:
        return 0
    size = pick_dtype(config, pick_device(config)).itemsize
    total = 0
    for file in weight_files(folder):
        if config.text_encoders == "host" and file.parent.name.startswith("text_encoder"):
            continue
        in_eight_bits = config.quantization == "fp8" and file.parent.name == "transformer"
        total += _elements(file) * (1 if in_eight_bits else size)
    return total


def measured_bytes(modules: Iterable[torch.nn.Module]) -> int:
    """The bytes of parameters and buffers, on CUDA devices if any is there; shared memory counts once."""
    tensors = [plain for module in modules for tensor in _tensors(module) for plain in _plain(tensor)]
    on_device = [tensor for tensor in tensors if tensor.is_cuda] or tensors
    storages = [tensor.untyped_storage() for tensor in on_device]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _tensors(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _plain(tensor: Any) -> Iterator[torch.Tensor]:
    """The tensors with the actual memory: a quantised one consists of several."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _plain(getattr(tensor, name))


def _elements(file: Path) -> int:
    """The number of elements in a .safetensors file. A damaged file counts as 0: the loader will name it."""
    with file.open("rb") as opened:
        try:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
            return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (struct.error, ValueError, KeyError, AttributeError, TypeError, OverflowError, MemoryError):
            return 0
