"""Stages beside each other on one CUDA device: streams of their own, and the points where one waits for another.

On a CPU a call has ended when it returns, so there is nothing to wait for and everything here does nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

__all__ = ["Pace", "Ready", "SideStream", "finish"]


@dataclass(frozen=True, slots=True)
class Ready:
    """Tensors that one stage hands to the next, and the event after which they hold what they should."""

    tensors: tuple[torch.Tensor, ...]
    event: torch.cuda.Event | None

    @classmethod
    def after_this(cls, *tensors: torch.Tensor) -> "Ready":
        """Ready once the present stream has done what is queued in it by now."""
        if not any(tensor.is_cuda for tensor in tensors):
            return cls(tensors, None)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(tensors[0].device))
        return cls(tensors, event)

    def wait(self) -> None:
        """Let the present stream wait, not the host; the memory stays taken until this stream has read it."""
        if self.event is None:
            return
        stream = torch.cuda.current_stream(self.tensors[0].device)
        stream.wait_event(self.event)
        for tensor in self.tensors:
            tensor.record_stream(stream)


class SideStream:
    """A stream for one stage, so that its kernels run between those of the denoising and not behind them all."""

    def __init__(self, device: torch.device, *, enabled: bool = True) -> None:
        self._stream = torch.cuda.Stream(device) if enabled and device.type == "cuda" else None

    @contextmanager
    def active(self) -> Iterator[None]:
        """What this thread starts inside goes into the stream."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield


class Pace:
    """Keeps the host at most one step ahead of the device.

    Otherwise a whole image could be queued within milliseconds (CUDA graphs): progress would be a tale, and a cancel
    would wait for steps that nobody wants.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: torch.cuda.Event | None = None

    def step(self) -> None:
        """Called after a step is queued; returns when the device has done the one before it."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        if self._before is not None:
            self._before.synchronize()
        self._before = event


def finish(device: torch.device) -> None:
    """Wait until the present stream is empty, so that the time taken and any error belong to this call."""
    if device.type == "cuda":
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(device))
        event.synchronize()
