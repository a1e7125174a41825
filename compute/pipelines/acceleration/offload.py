"""Offload of text encoders: kept in main memory, and copied to the device for each new prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

__all__ = ["EncoderOffload"]


class EncoderOffload:
    """Keeps the weights of modules in main memory, pinned for CUDA, and copies them to the device while they are used.

    For FLUX.1 this frees 9.8 GB of device memory; each use costs the transfer over the bus, which overlaps with the
    denoising of another request. The copies are dropped afterwards and never written back. Not safe for concurrent use.
    """

    def __init__(self, modules: Sequence[torch.nn.Module], device: torch.device) -> None:
        """Move the weights off the device."""
        self._modules = modules
        self._device = device
        for tensor in self._tensors():
            host = tensor.detach().to("cpu")
            tensor.data = host.pin_memory() if device.type == "cuda" else host

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Within the block, the modules and their adapters compute on the device."""
        at_home = [(tensor, tensor.data) for tensor in self._tensors() if tensor.device.type == "cpu"]
        try:
            for tensor, host in at_home:
                tensor.data = host.to(self._device, non_blocking=True, copy=True)
            yield
        finally:
            for tensor, host in at_home:
                tensor.data = host

    def _tensors(self) -> Iterator[torch.Tensor]:
        for module in self._modules:
            yield from module.parameters()
            yield from module.buffers()
