"""VIDEO_GENERATION: generates a clip that begins with an image, as H.264 in MP4."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from PIL import Image
from pydantic import AliasChoices, Field

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.imaging.flatten import on_white
from compute.imaging.resize import resized
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import MAX_SEED, ImageSource, NativeChoice, Prompt, ResultVideo, Seed
from compute.schemas.tasks import CreateTask, TaskPublic, TaskUpdate
from compute.tasks.operations import Animate, Picture
from compute.tasks.registry import InputImage, Inputs, TaskKind
from compute.tasks.results import first_path
from compute.tasks.seeds import seed_or_new
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Job, VideoRequest, WorkerContext, WorkEvent

if TYPE_CHECKING:
    from compute.imaging.video import VideoWriter

__all__ = [
    "CreateVideoGenerationTask",
    "VideoGeneration",
    "VideoGenerationTaskPublic",
    "VideoGenerationTaskPublicUpdate",
]

MODEL_GUIDANCE = 3.0
"""The usual guidance of video models of this kind; `cfg_scale` 1 stands for it."""
USUAL_MOTION = 127
HIGHEST_BUCKET = 255

CLIP_PIXELS = 768 * 512
"""Width x height of a clip without a requested size."""
MAX_CLIP_PIXELS = 1280 * 768
SIDES = (64, 1536)
"""Pixels: the shortest and the longest side of a clip."""

CHUNK_FRAMES = 160
CHUNK_SECONDS = 10
"""The most frames generated at a time. A longer clip continues from the last frame of the previous chunk, so that its
length costs time and no memory."""

Seconds = Annotated[int, Field(ge=1, le=60)] | Annotated[float, Field(ge=1, le=60, allow_inf_nan=False)]


def _side(description: str) -> Any:
    return Field(default=None, ge=SIDES[0], le=SIDES[1], multiple_of=2, description=description)


class CreateVideoGenerationTask(NativeChoice, CreateTask):
    """Generate a clip that begins with an image.

    Without a size it has the shape of the image, at about 393,000 pixels. With both sides the image is scaled to cover
    them, and the excess is cropped equally on both sides.
    """

    task_type: Literal[TaskType.VIDEO_GENERATION] = TaskType.VIDEO_GENERATION
    prompt: Prompt = Field(default="", description="What happens in the clip.")
    negative_prompt: Prompt | None = Field(
        default=None, description="What it must not show. It acts while `cfg_scale` is above 0."
    )
    input_image_url: ImageSource | None = Field(
        default=None,
        validation_alias=AliasChoices("input_image_url", "base_image_url"),
        description="The image that the clip begins with: an address, a data URL, base64, or a stored image's path.",
    )
    input_image_data: ImageSource | None = Field(default=None, description="The same as base64 or as a data URL.")
    cfg_scale: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="How closely to follow the prompt: 0 is no guidance (and half the time), 1 what the model is made "
        "for (3), 2 as far again beyond it (5).",
    )
    duration_seconds: Seconds = Field(
        default=5,
        validation_alias=AliasChoices("duration_seconds", "duration"),
        description="Length of the clip, rounded to whole frames; fractions are fine.",
    )
    fps: int = Field(default=24, ge=1, le=60, description="Frames per second, constant.")
    motion_bucket_id: int = Field(
        default=USUAL_MOTION,
        ge=1,
        le=HIGHEST_BUCKET,
        description="How much may move: how freely the model leaves the image. 127 is the model's usual.",
    )
    width: int | None = _side("Pixels, even. Alone it keeps the image's shape.")
    height: int | None = _side("Pixels, even. Alone it keeps the image's shape.")
    steps: int = Field(default=40, ge=1, le=200, description="Denoising steps for each chunk of the clip.")
    seed: Seed | None = None


class VideoGenerationTaskPublic(ResultVideo, TaskPublic):
    """A video generation task."""

    task_type: Literal[TaskType.VIDEO_GENERATION] = TaskType.VIDEO_GENERATION
    prompt: str = ""
    negative_prompt: str | None = None
    input_image_path: str = ""
    cfg_scale: float = 1.0
    duration_seconds: int | float = 5
    fps: int = 24
    motion_bucket_id: int = USUAL_MOTION
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    seed: int | None = None


class VideoGenerationTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class VideoGeneration(TaskKind[CreateVideoGenerationTask]):
    """Generates the clip chunk by chunk into a file; never more than two chunks of frames are in memory."""

    name = TaskType.VIDEO_GENERATION
    queue = "video"
    image_fields = ("input_image_url", "input_image_data")
    folder = "videos"
    capabilities = frozenset({ProviderCapability.IMAGE_TO_VIDEO, ProviderCapability.OUTPUT_SIZE})
    roles = frozenset({"video"})
    create_model = CreateVideoGenerationTask
    public_model = VideoGenerationTaskPublic
    update_model = VideoGenerationTaskPublicUpdate

    async def prepare(self, request: CreateVideoGenerationTask, inputs: Inputs) -> dict[str, Any]:
        image = await _take_image(request, inputs)
        width, height = _clip_size(request, image)
        return request.model_dump(mode="json", include=_KEPT_FIELDS) | {
            "seed": seed_or_new(request.seed),
            "duration_seconds": _plain(request.duration_seconds),
            "input_image_path": image.path,
            "width": width,
            "height": height,
        }

    def operation(self, spec: dict[str, Any]) -> Animate:
        return Animate(
            image=Picture(spec["input_image_path"], "input_image_url"),
            prompt=spec["prompt"],
            width=spec["width"],
            height=spec["height"],
            seconds=spec["duration_seconds"],
            fps=spec["fps"],
            seed=spec["seed"],
            negative_prompt=spec["negative_prompt"],
        )

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(_film, job.spec), role="video")

    def public_fields(self, task: Task) -> dict[str, Any]:
        return {name: task.spec[name] for name in _SHOWN_FIELDS if name in task.spec} | {
            "result_video_path": first_path(task)
        }


_KEPT_FIELDS = {"cfg_scale", "fps", "motion_bucket_id", "negative_prompt", "prompt", "steps"}
_SHOWN_FIELDS = _KEPT_FIELDS | {"duration_seconds", "height", "input_image_path", "seed", "width"}


async def _take_image(request: CreateVideoGenerationTask, inputs: Inputs) -> InputImage:
    if request.input_image_url and request.input_image_data:
        raise InvalidInput("Give one image; input_image_url is there already.", field="input_image_data")
    if request.input_image_data:
        return await inputs.image(request.input_image_data, field="input_image_data")
    if request.input_image_url:
        return await inputs.image(request.input_image_url, field="input_image_url")
    raise InvalidInput("A clip begins with an image: give its address.", field="input_image_url")


def _clip_size(request: CreateVideoGenerationTask, image: InputImage) -> tuple[int, int]:
    """Width and height in pixels, both even; by default in the image's proportions."""
    if request.width is None and request.height is None:
        scale = (CLIP_PIXELS / (image.width * image.height)) ** 0.5
        return _even(image.width * scale), _even(image.height * scale)
    width = request.width or _even((request.height or 0) * image.width / image.height)
    height = request.height or _even(width * image.height / image.width)
    if width * height > MAX_CLIP_PIXELS:
        raise InvalidInput(
            f"A clip of {width}x{height} is too large: it may have {MAX_CLIP_PIXELS} pixels.",
            field="width" if request.width else "height",
        )
    return width, height


def _even(side: float) -> int:
    shortest, longest = SIDES
    return min(max(2 * round(side / 2), shortest), longest)


def _plain(seconds: float) -> int | float:
    """Whole seconds as an integer, like in the contract."""
    return int(seconds) if seconds == int(seconds) else seconds


async def _film(spec: dict[str, Any], context: RunContext) -> None:
    """Do the whole work: the frames of each chunk are encoded while the next chunk is generated."""
    image = await context.load(spec["input_image_path"], field="input_image_url")
    start = await context.compute(partial(_first_frame, image, (spec["width"], spec["height"])))
    chunks = _chunks(_frame_count(spec), spec["fps"])
    with TemporaryDirectory(prefix="compute-clip-") as folder:
        file = Path(folder) / "clip.mp4"
        async with _ClipFile(file, spec, context) as clip:
            async with context.device():
                await _generate(_request(spec, start), chunks, context, clip)
            await clip.finish()
        context.note(**_facts(spec), chunks=len(chunks))
        await context.publish_file(file, "video/mp4", width=spec["width"], height=spec["height"], seed=spec["seed"])


async def _generate(request: VideoRequest, chunks: Sequence[int], context: RunContext, clip: "_ClipFile") -> None:
    """Generate chunk after chunk: each begins with the last frame of the one before, which is not shown twice."""
    generated, total = 0, sum(chunks)
    for index, count in enumerate(chunks):
        shown_before = int(index > 0)
        chunk = replace(request, frames=count + shown_before, seed=(request.seed + index) % (MAX_SEED + 1))
        frames = await context.generate(chunk, share=(generated / total, (generated + count) / total))
        await clip.write(frames[shown_before:])
        request = replace(request, image=frames[-1])
        generated += count


class _ClipFile:
    """Encodes one chunk in a thread while the next is generated.

    As a context manager it waits for its thread; unless `finish` was called, the file is removed.
    """

    def __init__(self, file: Path, spec: dict[str, Any], context: RunContext) -> None:
        # Here, because it loads PyAV, which the ingress does not need.
        from compute.imaging.video import VideoWriter

        self._context = context
        self._writer: VideoWriter = VideoWriter(file, width=spec["width"], height=spec["height"], fps=spec["fps"])
        self._at_work: asyncio.Task[None] | None = None
        self._finished = False

    async def write(self, frames: Sequence[Image.Image]) -> None:
        """Append frames, once the earlier ones are encoded; returns while these are being encoded."""
        await self._start(partial(_write_all, self._writer, frames))

    async def finish(self) -> None:
        await self._start(self._writer.close)
        await self._idle()
        self._finished = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        try:
            if self._at_work is not None:
                # Its error is raised where it is awaited, or the block raises its own.
                await asyncio.gather(self._at_work, return_exceptions=True)
        finally:
            if not self._finished:
                self._writer.abandon()

    async def _start(self, call: Callable[[], None]) -> None:
        await self._idle()
        self._at_work = asyncio.create_task(self._context.compute(call))

    async def _idle(self) -> None:
        if self._at_work is not None:
            await self._at_work


def _write_all(writer: "VideoWriter", frames: Sequence[Image.Image]) -> None:
    for frame in frames:
        writer.write(frame)


def _first_frame(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image in the clip's size. A clip has no transparency: transparent parts become white."""
    return resized(on_white(image), size)


def _request(spec: dict[str, Any], start: Image.Image) -> VideoRequest:
    return VideoRequest(
        image=start,
        prompt=spec["prompt"],
        negative_prompt=spec["negative_prompt"],
        width=spec["width"],
        height=spec["height"],
        frames=_frame_count(spec),
        fps=spec["fps"],
        steps=spec["steps"],
        guidance_scale=_guidance(spec["cfg_scale"]),
        motion=_motion(spec["motion_bucket_id"]),
        seed=spec["seed"],
    )


def _facts(spec: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the finished clip."""
    frames = _frame_count(spec)
    return {
        "frames": frames,
        "fps": spec["fps"],
        "duration_seconds": frames / spec["fps"],
        "codec": "h264",
        "guidance_scale": _guidance(spec["cfg_scale"]),
    }


def _frame_count(spec: dict[str, Any]) -> int:
    """Whole frames, the nearest to the duration; half a frame counts."""
    return int(spec["duration_seconds"] * spec["fps"] + 0.5)


def _chunks(frames: int, fps: int) -> list[int]:
    """The number of new frames of each chunk: as few chunks as possible, of sizes as equal as possible."""
    most = min(CHUNK_FRAMES, CHUNK_SECONDS * fps)
    count = -(-frames // most)
    shorter, longer = divmod(frames, count)
    return [shorter + 1] * longer + [shorter] * (count - longer)


def _guidance(cfg_scale: float) -> float:
    """The guidance scale, linear in `cfg_scale`: 0 gives 1, which is no guidance, 1 gives the model's usual value."""
    return 1 + cfg_scale * (MODEL_GUIDANCE - 1)


def _motion(bucket: int) -> float:
    """The motion from 0 to 1 of a bucket from 1 to 255, with the usual bucket in the middle."""
    if bucket <= USUAL_MOTION:
        return 0.5 * (bucket - 1) / (USUAL_MOTION - 1)
    return 0.5 + 0.5 * (bucket - USUAL_MOTION) / (HIGHEST_BUCKET - USUAL_MOTION)
