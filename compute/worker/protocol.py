"""What passes between the Dispatcher and a worker: a Job goes in, a stream of events comes out.

A run yields `Started`, then any number of `Progress` and `Artifact`, and ends with exactly one `Done`. It raises
`TaskFailed` (or `InvalidInput`) when it cannot finish. It never touches the database, so a type's `run` is tested with
a plain WorkerContext, without Ray and without Postgres. What carries it adds `Alive`, from the moment in which it takes
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
    """One attempt at one task. `fence` grows with every claim and marks what this attempt publishes."""

    task_id: UUID
    task_type: str
    fence: int
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Alive:
    """The worker has the job and its threads move. The first comes at once, before the job's turn."""


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


WorkEvent = Alive | Started | Progress | Artifact | Done

OnStep = Callable[[int, int], None]
"""Called after every denoising step with (steps done, steps in all). Raising `Interrupted` stops the run."""


Role = Literal["draw", "edit", "fill", "video"]
"""Which of a replica's models does a request: the base (from text, from an image, inpainting), the one that follows
instructions about images, the one made for filling masks, and the one that makes clips."""


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
    """One image to draw. Sizes in pixels.

    Attributes:
        image: Where to start from (image to image, inpainting), or the image that an instruction is about.
        mask: Mode L, of the size of `image`: white is drawn anew, black stays.
        references: More images that an instruction speaks of.
        strength: The noise put on `image`, in (0, 1].
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
"""A request with all that a model can do about it before the device is free. What it holds is the model's business."""

Latents = Any
"""What a model has drawn and not yet turned into pixels."""


class StagedModel(Protocol):
    """A warm pipeline in three stages, so that one request can be drawn while others are prepared and decoded.

    Calls of different stages may come from different threads at the same time. Those of one stage come one after the
    other, from the same thread. A request gives the same image whatever goes on beside it.
    """

    @property
    def name(self) -> str: ...

    def prepare(self, request: Any) -> Prepared:
        """Check the request, encode its prompts, fetch its LoRAs into memory. The result is drawn once.

        Raises:
            InvalidInput: the model cannot draw this, a LoRA does not fit it, or its file is damaged.
            OutOfMemory: the device has too little memory for this.
        """
        ...

    def denoise(self, prepared: Prepared, on_step: OnStep) -> Latents:
        """The denoising, which has the device to itself.

        Raises:
            Interrupted: `on_step` asked to stop. Whatever else it raises passes through, too.
            InvalidInput: a LoRA does not fit this model.
            OutOfMemory: the device has too little memory for this size.
        """
        ...

    def decode(self, latents: Latents) -> Any:
        """What was drawn, as pixels.

        Raises:
            OutOfMemory: the device has too little memory for this size.
        """
        ...


class ImageModel(StagedModel, Protocol):
    """A model that takes `GenerateRequest` and makes one RGB image of exactly the requested size."""

    def prepare(self, request: GenerateRequest) -> Prepared: ...

    def decode(self, latents: Latents) -> Image.Image: ...

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Image.Image:
        """The three stages in a row, for whoever has the model to themselves. Raises what they raise."""
        return self.decode(self.denoise(self.prepare(request), on_step))


@runtime_checkable
class TakesLoras(Protocol):
    """A model that can have LoRAs at hand before a request names them."""

    def prefetch(self, loras: Sequence[LoraSelection]) -> bool:
        """Check the files and read them into main memory, and to the device where there is room; True if they stay.

        For any thread, beside the stages; what goes on there draws what it would have drawn.

        Raises:
            InvalidInput: a file is damaged or does not fit.
        """
        ...


@runtime_checkable
class ChoosesSize(Protocol):
    """A model that draws well at some sizes only."""

    def own_size(self, role: Role, size: Size) -> Size:
        """The size at which its model of this role had better draw an image of `size`."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as it will be stored. `sha256` is that of `data`; width and height in pixels."""

    data: bytes
    content_type: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StoredInput:
    """A decoded image of the object store, and the hash (sha256, hex) of its file."""

    image: Image.Image
    sha256: str


class WorkerContext(Protocol):
    """What a worker gives to a run: the warm models, their stages, inputs and a place for outputs."""

    @property
    def executor(self) -> str: ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the packages that decide what a result looks like."""
        ...

    @property
    def models_root(self) -> Path:
        """The folder under which small models (detectors, segmentation) are looked for."""
        ...

    @property
    def stages(self) -> "StageExecutor":
        """Where the jobs of this worker wait for each other while they draw.

        Raises:
            TaskFailed: this worker has no model; its queue is for work without one.
        """
        ...

    def model_name(self, role: Role) -> str:
        """What the model of this role is called; without one, what computes here."""
        ...

    def device(self) -> AbstractAsyncContextManager[object]:
        """Exclusive use of the device; on a worker without a model, of one of its slots."""
        ...

    def ticket(self) -> AbstractContextManager["Ticket"]:
        """A place in the line of those who have held the device, taken while holding it. See `StageExecutor.ticket`."""
        ...

    async def load_image(self, path: str, *, field: str) -> StoredInput:
        """Decode a stored image; `field` is the request's field that named it.

        Raises:
            InvalidInput: it is gone, or damaged.
        """
        ...

    async def load_lora(self, path: str) -> "FetchedLora":
        """A local copy of a stored LoRA file."""
        ...

    async def compute(self, call: Callable[[], T]) -> T:
        """CPU work in a thread. Cancelled, it waits for the thread, which cannot be stopped and holds a core.

        Raises:
            TaskFailed: the call hangs.
        """
        ...

    async def encode(self, image: Image.Image, image_format: ImageFormat = "png") -> EncodedImage:
        """The image as a file, and its hash. Computed in a thread."""
        ...

    async def store(self, job: Job, index: int, encoded: EncodedImage, *, seed: int | None = None) -> Artifact:
        """Put one output of the job into the object store, whole or not at all."""
        ...

    async def store_file(self, job: Job, index: int, encoded: "EncodedFile", *, seed: int | None = None) -> Artifact:
        """The same for an output that is too large to be held in memory."""
        ...


Ticket = Callable[[], Awaitable[object]]
"""Awaited, it returns once it is one's turn."""


@dataclass(frozen=True, slots=True)
class FetchedLora:
    """A LoRA on local disk. `name` is unique per content; `sha256` (hex) is that of the file."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """An output on local disk as it will be stored; width and height in pixels."""

    path: Path
    content_type: str
    width: int
    height: int
