"""Reports running out of device memory as `OutOfMemory`, and frees the memory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compute.errors import OutOfMemory
from compute.worker.protocol import GenerateRequest, VideoRequest

__all__ = ["reporting_out_of_memory"]


@contextmanager
def reporting_out_of_memory(request: GenerateRequest | VideoRequest) -> Iterator[None]:
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
        raise OutOfMemory(f"CUDA out of memory while generating {_described(request)} for this deployment")


def _described(request: GenerateRequest | VideoRequest) -> str:
    """The requested output, and advice."""
    size = f"{request.width}x{request.height}"
    if isinstance(request, VideoRequest):
        return f"{request.frames} frames of {size}; ask for a smaller clip, or set vae_tile or offload: model"
    return f"{size} with {len(request.loras)} LoRAs; ask for a smaller image or fewer LoRAs, or set offload: model"
