"""What passes between the Dispatcher and a worker: a Job goes in, a stream of events comes out.

A run yields `Started`, then any number of `Progress` and `Artifact`, and ends with exactly one `Done`. It
raises `TaskFailed` (or `InvalidInput`) when it cannot finish. It never touches the database, so a type's `run`
is tested with a plain Workbench, without Ray and without Postgres.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from PIL import Image

if TYPE_CHECKING:
    from compute.tasks.stages import Stages

__all__ = [
    "Artifact",
    "Done",
    "EncodedImage",
    "GenerateRequest",
    "ImageModel",
    "Job",
    "Latents",
    "LoraSelection",
    "OnStep",
    "Prepared",
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


Prepared = Any
"""A request with all that a model can do about it before the device is free. What it holds is the model's business."""

Latents = Any
"""What a model has drawn and not yet turned into pixels."""


class ImageModel(Protocol):
    """A warm pipeline in three stages, so that one request can be drawn while others are prepared and decoded.

    Calls of different stages may come from different threads at the same time. Those of one stage come one after the
    other, from the same thread. A request gives the same image whatever goes on beside it.
    """

    @property
    def name(self) -> str: ...

    def prepare(self, request: GenerateRequest) -> Prepared:
        """Check the request, encode its prompts, fetch its LoRAs into memory. The result is drawn once.

        Raises:
            InvalidInput: the model cannot draw this, a LoRA does not fit it, or its file is damaged.
            OutOfMemory: the device has too little memory for this.
        """
        ...

    def draw(self, prepared: Prepared, on_step: OnStep) -> Latents:
        """The denoising, which has the device to itself.

        Raises:
            Interrupted: `on_step` asked to stop. Whatever else it raises passes through, too.
            InvalidInput: a LoRA does not fit this model.
            OutOfMemory: the device has too little memory for this size.
        """
        ...

    def decode(self, latents: Latents) -> Image.Image:
        """One RGB image of exactly the requested size.

        Raises:
            OutOfMemory: the device has too little memory for this size.
        """
        ...

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Image.Image:
        """The three stages in a row, for whoever has the model to themselves. Raises what they raise."""
        return self.decode(self.draw(self.prepare(request), on_step))


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as it will be stored. `sha256` is that of `data`; width and height in pixels."""

    data: bytes
    content_type: str
    sha256: str
    width: int
    height: int


class Workbench(Protocol):
    """What a worker gives to a run: the warm model, its stages, inputs and a place for outputs."""

    @property
    def executor(self) -> str: ...

    @property
    def model(self) -> ImageModel:
        """Its name, for what is published. Work with it goes through `stages`."""
        ...

    @property
    def stages(self) -> "Stages":
        """Where the jobs of this worker wait for each other."""
        ...

    async def load_image(self, path: str) -> Image.Image:
        """Decode a stored image."""
        ...

    async def load_lora(self, path: str) -> tuple[str, Path]:
        """A local copy of a stored LoRA file: (name unique per content, file)."""
        ...

    async def encode(self, image: Image.Image) -> EncodedImage:
        """The image as a file, and its hash. Computed in a thread."""
        ...

    async def store(self, job: Job, index: int, encoded: EncodedImage, *, seed: int) -> Artifact:
        """Put one output of the job into the object store, whole or not at all."""
        ...
