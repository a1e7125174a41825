"""Text encoders that live in main memory and visit the device for a prompt that has not been encoded yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

__all__ = ["EncoderOffload"]


class EncoderOffload:
    """Modules whose weights lie in main memory, pinned for CUDA, and are copied to the device while they are used.

    For FLUX.1 this gives back 9.8 GB of device memory; a visit costs their way over the bus, beside the draw of
    another request. The copies are dropped afterwards and never written back. Not safe for concurrent use.
    """

    def __init__(self, modules: Sequence[torch.nn.Module], device: torch.device) -> None:
        """Takes the weights off the device."""
        self._modules = modules
        self._device = device
        for tensor in self._tensors():
            host = tensor.detach().to("cpu")
            tensor.data = host.pin_memory() if device.type == "cuda" else host

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Inside, the modules compute on the device, adapters that were added to them included."""
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
