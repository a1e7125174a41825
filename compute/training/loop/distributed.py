"""Communication between the data-parallel workers of one training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

__all__ = ["PeerLost", "ProcessGroup"]

_BUCKET_NUMBERS = 2**26
"""Gradients are reduced in pieces of this many numbers."""


class PeerLost(Exception):
    """Another worker does not answer: its process or its node is gone. Ray Train restarts all workers."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This worker's rank among all workers. Without torch.distributed there is one."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def joined(cls, device: torch.device) -> "ProcessGroup":
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(0, 1, device)

    def all_reduce(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace every tensor by the sum over all workers.

        Raises:
            PeerLost: a worker is gone.
        """
        if self.size == 1:
            return
        waiting: list[torch.Tensor] = []
        numbers = 0
        for tensor in tensors:
            waiting.append(tensor)
            numbers += tensor.numel()
            if numbers >= _BUCKET_NUMBERS:
                _all_reduce(waiting)
                waiting, numbers = [], 0
        if waiting:
            _all_reduce(waiting)

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the first worker's tensors to all workers.

        Raises:
            PeerLost: a worker is gone.
        """
        if self.size > 1:
            for tensor in tensors:
                with _noticing_loss():
                    dist.broadcast(tensor, src=0)


def _all_reduce(tensors: list[torch.Tensor]) -> None:
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with _noticing_loss():
        dist.all_reduce(flat)
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()


@contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerLost(str(error)) from error
