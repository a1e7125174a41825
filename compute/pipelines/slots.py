"""What a manager knows of each of its models, and of the requests that are in their hands."""

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
        role: The first role that it has.
        load: Brings it to its device.
        sizes: Those that it draws.
        expected: Bytes that its weights are expected to take; 0 if that is not known.
        bytes: Bytes that they took when they were last in memory.
        busy: Calls that are using it now, and drawn images that wait to be decoded.
        waiting: Requests that were prepared by it and are not drawn yet; those that are dropped fall out.
        last_use: Grows with every use of any model.
        preparing: Held while the model prepares a request.
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
        """Forget the model, and what it has prepared, which lies on its device."""
        self.model = None
        for waiting in list(self.waiting):
            waiting.ready = None


@dataclass(eq=False)
class Waiting:
    """A prepared request. `ready` is what the model made of it; None once that model has gone."""

    slot: ModelSlot
    request: Any
    ready: Prepared | None


@dataclass(eq=False)
class Denoised:
    """A drawn image; `release` says that its model is not needed for it any more, and does so by itself when it is
    dropped."""

    slot: ModelSlot
    latents: Latents
    release: Callable[[], object] = field(default=lambda: None)
