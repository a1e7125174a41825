"""The state of a manager's models, and of the requests that they are processing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from weakref import WeakSet

from compute.pipelines.native import OwnSizes
from compute.worker.protocol import Latents, Prepared, Role, StagedModel

__all__ = ["Denoised", "ModelSlot", "Waiting"]


@dataclass(eq=False)
class ModelSlot:
    """One model, in memory or not. Everything below `sizes` changes under the manager's lock.

    Attributes:
        role: The first of its roles.
        load: Loads it onto its device.
        sizes: The sizes that it generates.
        expected: Bytes that its weights are expected to take; 0 if that is not known.
        bytes: Bytes that they took when they were last in memory.
        busy: The number of calls that are using it, and of denoised images that wait to be decoded.
        waiting: Requests that it has prepared and that are not denoised yet; dropped ones are removed automatically.
        last_use: Grows with every use of any model.
        preparing: Locked while the model prepares a request.
    """

    name: str
    role: Role
    load: Callable[[], StagedModel]
    expected: int = 0
    sizes: OwnSizes | None = None
    model: StagedModel | None = None
    bytes: int = 0
    busy: int = 0
    waiting: "WeakSet[Waiting]" = field(default_factory=WeakSet)
    last_use: int = 0
    preparing: Lock = field(default_factory=Lock)

    def unload(self) -> None:
        """Drop the model, and the requests that it has prepared on its device."""
        self.model = None
        for waiting in list(self.waiting):
            waiting.ready = None


@dataclass(eq=False)
class Waiting:
    """A prepared request. `ready` is the model's preparation; None once that model is unloaded."""

    slot: ModelSlot
    request: Any
    ready: Prepared | None


@dataclass(eq=False)
class Denoised:
    """A denoised image. `release` reports that it no longer needs its model; it is called automatically when the object
    is dropped."""

    slot: ModelSlot
    latents: Latents
    release: Callable[[], object] = field(default=lambda: None)
