"""Running out of device memory: reported as our own error, with the memory given back."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compute.errors import OutOfMemory
from compute.tasks.protocol import GenerateRequest

__all__ = ["reporting_out_of_memory"]


@contextmanager
def reporting_out_of_memory(request: GenerateRequest) -> Iterator[None]:
    """Turn torch's error into `OutOfMemory`, and empty the allocator's cache so that the next request fits.

    Raises:
        OutOfMemory: the device was too small for the request.
    """
    exhausted = False
    try:
        yield
    except torch.OutOfMemoryError:
        exhausted = True
    if exhausted:
        # Outside the handler: the exception's frames would keep the tensors alive.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory(
            f"CUDA out of memory while drawing {request.width}x{request.height} with {len(request.loras)} LoRAs; "
            "ask for a smaller image or fewer LoRAs, or set offload: model for this deployment"
        )
