"""The workers of one training: they share every step's pictures and add up their gradients."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

__all__ = ["PeerLost", "ProcessGroup"]

_BUCKET_NUMBERS = 2**26
"""Gradients are sent in pieces of this many numbers."""


class PeerLost(Exception):
    """Another worker does not answer: its process or its node is gone, and the training goes on with new ones."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This worker's place among all. Without torch.distributed it is alone."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def joined(cls, device: torch.device) -> "ProcessGroup":
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(0, 1, device)

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
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
                _add_up(waiting)
                waiting, numbers = [], 0
        if waiting:
            _add_up(waiting)

    def share_from_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every worker what the first one has.

        Raises:
            PeerLost: a worker is gone.
        """
        if self.size > 1:
            for tensor in tensors:
                with _noticing_loss():
                    dist.broadcast(tensor, src=0)


def _add_up(tensors: list[torch.Tensor]) -> None:
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
