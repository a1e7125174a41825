"""The protocol between the Dispatcher and a worker: a Job goes in, a stream of events comes out.

A run yields `Started`, then any number of `Progress`, `Said` and `Artifact`, and ends with exactly one `Done`. It
raises `TaskFailed` (or `InvalidInput`) when it cannot finish. It never touches the database, so a type's `run` is
tested with a plain WorkerContext, without Ray and without Postgres. The replica adds `Alive` from the moment it takes
the job.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable
from uuid import UUID

from PIL import Image

from compute.media.codec import ImageFormat

if TYPE_CHECKING:
    from compute.worker.stages import StageExecutor

__all__ = [
    "Alive",
    "Artifact",
    "ChoosesSize",
    "Done",
    "EncodedFile",
    "EncodedImage",
    "FetchedLora",
    "GenerateRequest",
    "ImageModel",
    "Job",
    "Latents",
    "LoraSelection",
    "OnStep",
    "Prepared",
    "Progress",
    "Role",
    "Said",
    "Size",
    "StagedModel",
    "Started",
    "StoredInput",
    "TakesLoras",
    "Ticket",
    "VideoRequest",
    "WorkEvent",
    "WorkerContext",
]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one task. `fence` grows with every claim and marks what this attempt publishes. `traceparent`
    continues its trace."""

    task_id: UUID
    task_type: str
    fence: int
    spec: dict[str, Any]
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Alive:
    """Heartbeat: the worker has the job and its threads move. The first comes at once, before the job starts."""


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
    """An output stored in the object store at `path`. `size` in bytes, `sha256` in hex, width and height in pixels."""

    path: str
    content_type: str
    size: int
    sha256: str
    width: int
    height: int
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The run succeeded; `metadata` is stored with the result (model, versions, timings in ms)."""

    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """A part of a text, as a language model says it."""

    text: str


WorkEvent = Alive | Started | Progress | Said | Artifact | Done

OnStep = Callable[[int, int], None]
"""Called after every denoising step with (steps done, steps in all). Raising `Interrupted` stops the run."""


Role = Literal["draw", "edit", "fill", "video"]
"""The role of a model on a replica: `draw` generates from text or an image and inpaints, `edit` follows instructions
about images, `fill` is made for filling masks, and `video` generates clips."""


Size = tuple[int, int]
"""Width and height in pixels."""


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
    """One image to generate. Sizes in pixels.

    Attributes:
        image: The image to start from (image to image, inpainting), or the one that an instruction changes.
        mask: Mode L, of the size of `image`: white is regenerated, black stays.
        references: Further images that an instruction refers to.
        strength: The noise put on `image`, in (0, 1].

    Example:
        GenerateRequest("a red dress", width=1024, height=1024, steps=28, guidance_scale=3.5, seed=7)
    """

    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    negative_prompt: str | None = None
    true_cfg_scale: float = 1.0
    image: Image.Image | None = None
    mask: Image.Image | None = None
    references: tuple[Image.Image, ...] = ()
    strength: float = 1.0
    loras: tuple[LoraSelection, ...] = ()
    role: Role = "draw"


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """One clip that begins with `image`. Sizes in pixels; `motion` in [0, 1], 0.5 is the model's own amount."""

    image: Image.Image
    prompt: str
    width: int
    height: int
    frames: int
    fps: int
    steps: int
    guidance_scale: float
    seed: int
    negative_prompt: str | None = None
    motion: float = 0.5
    role: Role = "video"


Prepared = Any
"""A request after a model's `prepare`, which needs no exclusive device. Its content is private to the model."""

Latents = Any
"""A model's output before it is decoded to pixels."""


class StagedModel(Protocol):
    """A loaded pipeline in three stages, so that one request is denoised while others are prepared and decoded.

    Calls of different stages may come from different threads at the same time. Those of one stage come one after the
    other, from the same thread. A request gives the same image whatever runs at the same time.
    """

    @property
    def name(self) -> str: ...

    def prepare(self, request: Any) -> Prepared:
        """Check the request, encode its prompts, read its LoRAs into memory. The result is denoised once.

        Raises:
            InvalidInput: the model cannot generate this, a LoRA does not fit it, or its file is damaged.
            OutOfMemory: the device has too little memory for this.
        """
        ...

    def denoise(self, prepared: Prepared, on_step: OnStep) -> Latents:
        """Denoise a prepared request, with exclusive use of the device.

        Raises:
            Interrupted: `on_step` asked to stop. Whatever else it raises passes through, too.
            InvalidInput: a LoRA does not fit this model.
            OutOfMemory: the device has too little memory for this size.
        """
        ...

    def decode(self, latents: Latents) -> Any:
        """Decode latents to pixels.

        Raises:
            OutOfMemory: the device has too little memory for this size.
        """
        ...


class ImageModel(StagedModel, Protocol):
    """A model that takes a `GenerateRequest` and generates one RGB image of exactly the requested size."""

    def prepare(self, request: GenerateRequest) -> Prepared: ...

    def decode(self, latents: Latents) -> Image.Image: ...

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Image.Image:
        """Run the three stages one after the other; the caller is the model's only user. Raises what they raise."""
        return self.decode(self.denoise(self.prepare(request), on_step))


@runtime_checkable
class TakesLoras(Protocol):
    """A model that can load LoRAs before a request names them."""

    def prefetch(self, loras: Sequence[LoraSelection]) -> bool:
        """Check the files and read them into main memory, and to the device where there is room; True if they stay.

        May be called from any thread while the stages run; it does not change their results.

        Raises:
            InvalidInput: a file is damaged or does not fit.
        """
        ...


@runtime_checkable
class ChoosesSize(Protocol):
    """A model that generates well at some sizes only."""

    def own_size(self, role: Role, size: Size) -> Size:
        """The size at which the model of this role should generate an image of `size`."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded image, ready to be stored. `sha256` (hex) is that of `data`; width and height in pixels."""

    data: bytes
    content_type: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StoredInput:
    """A decoded image from the object store, and the hash (sha256, hex) of its file."""

    image: Image.Image
    sha256: str


class WorkerContext(Protocol):
    """The services that a worker offers to a run: the loaded models and their stages, inputs, encoding and storage."""

    @property
    def executor(self) -> str: ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the packages that influence a result, by name."""
        ...

    @property
    def models_root(self) -> Path:
        """The folder of small models (detectors, segmentation)."""
        ...

    @property
    def stages(self) -> "StageExecutor":
        """The stages of this worker's models, shared by its jobs.

        Raises:
            TaskFailed: this worker has no model; its queue is for work without one.
        """
        ...

    @property
    def roles(self) -> frozenset[Role]:
        """The roles of this worker's models."""
        ...

    def model_name(self, role: Role) -> str:
        """The name of the model of this role; without one, the name of the worker's software."""
        ...

    def device(self) -> AbstractAsyncContextManager[object]:
        """Exclusive use of the device; on a worker without a model, of one of its slots."""
        ...

    def ticket(self) -> AbstractContextManager["Ticket"]:
        """A ticket in the line of jobs that have held the device; see `StageExecutor.ticket`."""
        ...

    async def load_image(self, path: str, *, field: str) -> StoredInput:
        """Decode a stored image; `field` is the request's field that named it.

        Raises:
            InvalidInput: it is gone, or damaged.
        """
        ...

    async def load_lora(self, path: str) -> "FetchedLora":
        """Fetch a local copy of a stored LoRA file."""
        ...

    async def compute(self, call: Callable[[], T]) -> T:
        """Do CPU work in a thread. Cancelled, it waits for the thread, which cannot be stopped and holds a core.

        Raises:
            TaskFailed: the call hangs.
        """
        ...

    async def encode(self, image: Image.Image, image_format: ImageFormat = "png") -> EncodedImage:
        """Encode the image and hash the file, in a thread."""
        ...

    async def store(self, job: Job, index: int, encoded: EncodedImage, *, seed: int | None = None) -> Artifact:
        """Store one output of the job, atomically."""
        ...

    async def store_beside(self, job: Job, name: str, encoded: EncodedImage) -> str:
        """Store an image with the job's outputs that is none of them, such as `debug/tile-1`; its path."""
        ...

    async def store_file(self, job: Job, index: int, encoded: "EncodedFile", *, seed: int | None = None) -> Artifact:
        """The same for an output that is too large for main memory."""
        ...


Ticket = Callable[[], Awaitable[object]]
"""Awaited, it returns once the ticket is first in line."""


@dataclass(frozen=True, slots=True)
class FetchedLora:
    """A LoRA on local disk. `name` is unique per content; `sha256` (hex) is that of the file."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """An encoded output on local disk, ready to be stored; width and height in pixels."""

    path: Path
    content_type: str
    width: int
    height: int
