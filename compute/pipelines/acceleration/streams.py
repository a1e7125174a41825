"""CUDA streams for concurrent stages on one device, and their synchronisation.

On a CPU a call has ended when it returns, so there is nothing to wait for and all of this does nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

__all__ = ["Pace", "Ready", "SideStream", "finish"]


@dataclass(frozen=True, slots=True)
class Ready:
    """Tensors passed from one stage to the next, and the event after which they are complete."""

    tensors: tuple[torch.Tensor, ...]
    event: torch.cuda.Event | None

    @classmethod
    def after_this(cls, *tensors: torch.Tensor) -> "Ready":
        """Ready once the current stream has completed the work queued so far."""
        if not any(tensor.is_cuda for tensor in tensors):
            return cls(tensors, None)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(tensors[0].device))
        return cls(tensors, event)

    def wait(self) -> None:
        """Let the current stream wait, not the host; the memory stays allocated until this stream has read it."""
        if self.event is None:
            return
        stream = torch.cuda.current_stream(self.tensors[0].device)
        stream.wait_event(self.event)
        for tensor in self.tensors:
            tensor.record_stream(stream)


class SideStream:
    """A stream for one stage, so that its kernels run between those of the denoising and not after all of them."""

    def __init__(self, device: torch.device, *, enabled: bool = True) -> None:
        self._stream = torch.cuda.Stream(device) if enabled and device.type == "cuda" else None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block, this thread's kernels are queued in the stream."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield


class Pace:
    """Keeps the host at most one step ahead of the device.

    Otherwise a whole image could be queued within milliseconds (CUDA graphs): progress would be wrong, and a cancel
    would wait for all queued steps.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: torch.cuda.Event | None = None

    def step(self) -> None:
        """Called after a step is queued; returns when the device has completed the step before."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        if self._before is not None:
            self._before.synchronize()
        self._before = event


def finish(device: torch.device) -> None:
    """Wait until the current stream is empty, so that the time taken and any error belong to this call."""
    if device.type == "cuda":
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(device))
        event.synchronize()
