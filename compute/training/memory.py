"""Number formats and memory of a training, and advice when memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from compute.errors import OutOfMemory
from compute.schemas.training import TrainingType
from compute.training.spec import TrainingSpec

__all__ = ["reporting_out_of_memory", "training_dtype", "used_memory"]


def training_dtype(spec: TrainingSpec, device: torch.device) -> torch.dtype:
    """Return the dtype of products: bfloat16 on a device that has it, unless the spec says otherwise."""
    if spec.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if spec.precision == "bf16" else torch.float32


def used_memory(device: torch.device) -> int:
    """Return used memory in bytes: the peak of a CUDA device, or the process's resident size on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


@contextmanager
def reporting_out_of_memory(spec: TrainingSpec) -> Iterator[None]:
    """Turn torch's error into an OutOfMemory with advice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise OutOfMemory(f"CUDA out of memory while training; {_smaller(spec)}.") from None


def _smaller(spec: TrainingSpec) -> str:
    ways = []
    if spec.batch_size > 1:
        ways.append(f"lower batch_size ({spec.batch_size}) and raise gradient_accumulation instead")
    if spec.gradient_checkpointing is not True:
        ways.append("set gradient_checkpointing")
    if spec.training_type is TrainingType.FULL:
        ways.append("train a LoRA")
    elif spec.base_precision == "full":
        ways.append("set base_precision to fp8")
    ways.append(f"lower the resolution ({spec.model.resolution})")
    return "; or ".join(ways)
