"""Exclusive use of a pipeline's parts, so that the stages of consecutive requests can run at the same time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Any

import torch

from compute.pipelines.acceleration.streams import SideStream

__all__ = ["Parts"]


class Parts:
    """The text encoders, the transformer and the VAE of a pipeline, each with one user at a time.

    diffusers' pipelines are not safe for concurrent use (huggingface/diffusers#3672); their parts are, one by one. With
    offloading the parts are hooked to each other, and all of them together have one user.

    Attributes:
        ahead, behind: The streams for the stages before and after the denoising, concurrent with it.
    """

    def __init__(self, pipeline: Any, *, offloads: bool) -> None:
        """`pipeline` has the parts, and the hooks between them if the weights are offloaded (`offloads`)."""
        self._pipeline = pipeline
        self._offloads = offloads
        whole = Lock()
        self._text, self._transformer, self._vae = (whole, whole, whole) if offloads else (Lock(), Lock(), Lock())
        device = pipeline._execution_device
        self.ahead = SideStream(device, enabled=not offloads)
        self.behind = SideStream(device, enabled=not offloads)

    def text_encoders(self) -> AbstractContextManager[None]:
        """Within the block, the text encoders have no other user."""
        return self._alone(self._text)

    def transformer(self) -> AbstractContextManager[None]:
        """The same for the transformer and the scheduler."""
        return self._alone(self._transformer)

    def vae(self) -> AbstractContextManager[None]:
        """The same for the VAE."""
        return self._alone(self._vae)

    def modules(self) -> Iterator[torch.nn.Module]:
        """The parts that have weights."""
        return (part for part in self._pipeline.components.values() if isinstance(part, torch.nn.Module))

    @contextmanager
    def _alone(self, part: Lock) -> Iterator[None]:
        """Hold a part, and restore its state, however its use ends."""
        with part:
            try:
                yield
            finally:
                # A denoising that was stopped has not done this itself, and only this pipeline knows the hooks.
                if self._offloads or part is self._transformer:
                    self._pipeline.maybe_free_model_hooks()
