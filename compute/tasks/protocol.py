"""What passes between the Dispatcher and a worker: a Job goes in, a stream of events comes out.

A run yields `Started`, then any number of `Progress` and `Artifact`, and ends with exactly one `Done`. It
raises `TaskFailed` (or `InvalidInput`) when it cannot finish. It never touches the database, so a type's `run`
is tested with a plain Workbench, without Ray and without Postgres.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from PIL import Image

__all__ = [
    "Artifact",
    "Done",
    "GenerateRequest",
    "ImageModel",
    "Job",
    "LoraSelection",
    "OnStep",
    "Progress",
    "Started",
    "WorkEvent",
    "Workbench",
]


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one task. `fence` grows with every claim and marks what this attempt publishes."""

    task_id: UUID
    task_type: str
    fence: int
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Started:
    """The job holds the device from now on. `executor` names the replica."""

    executor: str
    model: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the whole job is done, from 0 to 1."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that now lies in the object store at `path`."""

    path: str
    content_type: str
    size: int
    sha256: str
    width: int
    height: int
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The run succeeded; `metadata` is kept with the result (model, versions, timings in ms)."""

    metadata: dict[str, Any] = field(default_factory=dict)


WorkEvent = Started | Progress | Artifact | Done

OnStep = Callable[[int, int], None]
"""Called after every denoising step with (steps done, steps in all). Raising `Interrupted` stops the run."""


@dataclass(frozen=True, slots=True)
class LoraSelection:
    """A LoRA file on local disk and the weight to apply it with. `name` is unique per content."""

    name: str
    path: Path
    weight: float
    field: str = "lora"
    """The request's field that named it, for error messages."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One image to draw. Sizes in pixels; `strength` in (0, 1] is the noise put on `image` (img2img)."""

    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    negative_prompt: str | None = None
    true_cfg_scale: float = 1.0
    image: Image.Image | None = None
    strength: float = 1.0
    loras: tuple[LoraSelection, ...] = ()


class ImageModel(Protocol):
    """A warm pipeline. Not safe for concurrent use: hold the device while calling."""

    @property
    def name(self) -> str: ...

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Image.Image:
        """Draw one RGB image of exactly the requested size.

        Raises:
            Interrupted: `on_step` asked to stop.
            InvalidInput: a LoRA does not fit this model, or its file is damaged.
            OutOfMemory: the device has too little memory for this size.
        """
        ...


class Workbench(Protocol):
    """What a worker gives to a run: the warm model, the device, inputs and a place for outputs."""

    @property
    def executor(self) -> str: ...

    @property
    def model(self) -> ImageModel: ...

    def device(self) -> AbstractAsyncContextManager[None]:
        """Exclusive use of the device; jobs wait here, first come first served."""
        ...

    async def load_image(self, path: str) -> Image.Image:
        """Decode a stored image."""
        ...

    async def load_lora(self, path: str) -> tuple[str, Path]:
        """A local copy of a stored LoRA file: (name unique per content, file)."""
        ...

    async def save_image(self, job: Job, index: int, image: Image.Image, *, seed: int) -> Artifact:
        """Encode and store one output of the job."""
        ...
