"""REFINE: resizes an image, regenerates its detail tile by tile, and on demand its faces."""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from PIL import Image
from pydantic import AliasChoices, Field

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.imaging.resize import Layers
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import ImageSource, NativeChoice, Prompt, ResultImage, Seed
from compute.schemas.tasks import CreateTask, ShortText, TaskPublic, TaskUpdate
from compute.tasks import operations
from compute.tasks.operations import Picture
from compute.tasks.registry import InputImage, Inputs, TaskKind
from compute.tasks.results import first_path, metadata_of
from compute.tasks.seeds import seed_or_new
from compute.worker.context import RunContext, Share, run_work
from compute.worker.ops.tile import TileSettings, regenerate_in_tiles
from compute.worker.protocol import Job, WorkerContext, WorkEvent

if TYPE_CHECKING:
    from compute.imaging.faces import Face

__all__ = ["CreateRefineTask", "Refine", "RefineTaskPublic", "RefineTaskPublicUpdate"]

MAX_SIDE = 16_384
"""Pixels. A row of tiles is in memory in floating point: 200 MB at this width."""
GUIDANCE_SCALE = 3.5
UPSCALE_PROMPT = "sharp focus, fine natural detail, high quality"
FACE_PROMPT = "a natural face, sharp eyes, fine skin texture"

_SHARE_OF_TILES = 0.8
"""The tiles' share of the progress if faces follow."""
_FACTOR_CAPABILITIES = {
    2.0: ProviderCapability.UPSCALE_2X,
    4.0: ProviderCapability.UPSCALE_4X,
    8.0: ProviderCapability.UPSCALE_8X,
}


class CreateRefineTask(NativeChoice, CreateTask):
    """Enlarge an image, regenerate its detail, and improve its faces.

    The size comes from `upscale_factor`, or from `target_width` and `target_height`; with neither it stays.
    """

    task_type: Literal[TaskType.REFINE] = TaskType.REFINE
    base_image_url: ImageSource = Field(
        validation_alias=AliasChoices("base_image_url", "base_image"),
        description="The image to refine: an address, a data URL, base64, or the path of a stored image.",
    )
    target_width: int | None = Field(
        default=None, ge=1, le=MAX_SIDE, description="Width of the result in pixels. Alone it keeps the aspect ratio."
    )
    target_height: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SIDE,
        description="Height of the result in pixels. Alone it keeps the aspect ratio; with `target_width`, what does "
        "not fit the shape is cut off on both sides.",
    )

    upscale_enabled: bool = Field(
        default=True, description="Regenerate detail. Without it the image is only resized, by Lanczos."
    )
    upscale_factor: float | None = Field(
        default=None,
        ge=1,
        le=8,
        description="How many times wider and higher the result is. 2, 4 and 8 need UPSCALE_2X, UPSCALE_4X and "
        "UPSCALE_8X, any other UPSCALE_FLOAT; without it OUTPUT_SIZE is needed.",
    )
    upscale_steps: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Denoising steps of the whole schedule; `upscale_denoise` of them are run.",
    )
    upscale_denoise: float = Field(
        default=0.3, ge=0, le=1, description="How much is regenerated: 0 nothing, 1 everything but the colours."
    )
    upscale_prompt: Prompt | None = Field(default=None, description="What the detail should look like.")
    upscale_seed: Seed | None = None

    face_detail_enabled: bool = Field(default=False, description="Regenerate faces, each in a close view.")
    face_detail_steps: int = Field(default=10, ge=1, le=200, description="The same for faces as `upscale_steps`.")
    face_detail_denoise: float = Field(default=0.2, ge=0, le=1, description="How much of a face is regenerated.")
    face_detail_prompt: Prompt | None = Field(default=None, description="What the faces should look like.")
    face_detail_seed: Seed | None = None

    fal_app_id: ShortText | None = Field(default=None, description="Which app a FAL provider runs.")


class RefineTaskPublic(ResultImage, TaskPublic):
    """A refine task."""

    task_type: Literal[TaskType.REFINE] = TaskType.REFINE
    base_image_path: str | None = None
    target_width: int | None = None
    target_height: int | None = None
    upscale_enabled: bool = True
    upscale_factor: float | None = None
    upscale_steps: int
    upscale_denoise: float
    upscale_prompt: str | None = None
    upscale_seed: int
    face_detail_enabled: bool = False
    face_detail_steps: int
    face_detail_denoise: float
    face_detail_prompt: str | None = None
    face_detail_seed: int
    fal_app_id: str | None = Field(json_schema_extra={"readOnly": True})
    fal_request_id: str | None = Field(json_schema_extra={"readOnly": True})


class RefineTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class Refine(TaskKind[CreateRefineTask]):
    """Resizes by Lanczos, then runs image to image over overlapping tiles, then on the faces of the result."""

    name = TaskType.REFINE
    queue = "refine"
    image_fields = ("base_image_url",)
    folder = "refines"
    capabilities = frozenset(
        {
            *_FACTOR_CAPABILITIES.values(),
            ProviderCapability.UPSCALE_FLOAT,
            ProviderCapability.OUTPUT_SIZE,
            ProviderCapability.FACE_DETAIL,
        }
    )
    create_model = CreateRefineTask
    public_model = RefineTaskPublic
    update_model = RefineTaskPublicUpdate

    tile: ClassVar[int] = 1024
    """Largest side of a tile in pixels, the size that the model generates best."""
    overlap: ClassVar[int] = 128

    async def prepare(self, request: CreateRefineTask, inputs: Inputs) -> dict[str, Any]:
        _check_capabilities(request)
        base = await inputs.image(request.base_image_url, field="base_image_url")
        width, height = _output_size(request, base, inputs.max_pixels)
        return request.model_dump(mode="json", include=_KEPT_FIELDS) | {
            "base_image_path": base.path,
            "width": width,
            "height": height,
            "factor": max(width / base.width, height / base.height),
            "base_size": [base.width, base.height],
            "size_field": _size_field(request),
            "tile": self.tile,
            "overlap": self.overlap,
            "size_multiple": inputs.size_multiple,
            "upscale_prompt": request.upscale_prompt or UPSCALE_PROMPT,
            "face_detail_prompt": request.face_detail_prompt or FACE_PROMPT,
            "upscale_seed": seed_or_new(request.upscale_seed),
            "face_detail_seed": seed_or_new(request.face_detail_seed),
        }

    def operation(self, spec: dict[str, Any]) -> operations.Refine:
        has_faces = spec["face_detail_enabled"]
        return operations.Refine(
            image=Picture(spec["base_image_path"], "base_image_url"),
            width=spec["width"],
            height=spec["height"],
            factor=spec.get("factor") or spec["upscale_factor"] or 1.0,
            seed=spec["upscale_seed"],
            prompt=spec["upscale_prompt"] if spec["upscale_prompt"] != UPSCALE_PROMPT else None,
            steps=spec["upscale_steps"],
            denoise=spec["upscale_denoise"] if spec["upscale_enabled"] else 0.0,
            face_prompt=spec["face_detail_prompt"] if has_faces else None,
            face_denoise=spec["face_detail_denoise"] if has_faces else None,
            base_size=(spec["base_size"][0], spec["base_size"][1]) if "base_size" in spec else None,
            size_field=spec.get("size_field", "upscale_factor"),
            app=spec.get("fal_app_id"),
        )

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(_refine, job.spec))

    def public_fields(self, task: Task) -> dict[str, Any]:
        spec = task.spec
        return {name: spec.get(name) for name in _SHOWN_FIELDS} | {
            "fal_request_id": spec.get("fal_request_id") or metadata_of(task).get("fal_request_id"),
            "result_image_path": first_path(task),
        }


_KEPT_FIELDS = {
    "fal_app_id",
    "target_height",
    "target_width",
    "upscale_factor",
    *(f"{part}_{name}" for part in ("upscale", "face_detail") for name in ("enabled", "steps", "denoise")),
}
_SHOWN_FIELDS = _KEPT_FIELDS | {
    "base_image_path",
    *(f"{part}_{name}" for part in ("upscale", "face_detail") for name in ("prompt", "seed")),
}


def _check_capabilities(request: CreateRefineTask) -> None:
    """Check that a request with a list of capabilities needs no others."""
    for listing in ("active_provider_capabilities", "fallback_provider_capabilities"):
        offered = getattr(request, listing)
        for field, capability in _needed_capabilities(request).items():
            if offered and capability not in offered:
                raise InvalidInput(f"This needs {capability}, which {listing} does not offer.", field=field)


def _needed_capabilities(request: CreateRefineTask) -> dict[str, ProviderCapability]:
    """The needed capabilities, by the field that needs them."""
    needed = {}
    if request.upscale_factor is not None:
        factor = _FACTOR_CAPABILITIES.get(request.upscale_factor, ProviderCapability.UPSCALE_FLOAT)
        needed["upscale_factor"] = factor
    else:
        needed[_size_field(request)] = ProviderCapability.OUTPUT_SIZE
    if request.face_detail_enabled:
        needed["face_detail_enabled"] = ProviderCapability.FACE_DETAIL
    return needed


def _size_field(request: CreateRefineTask) -> str:
    """The field that decides about the size of the result."""
    for field in ("upscale_factor", "target_width", "target_height"):
        if getattr(request, field) is not None:
            return field
    return "base_image_url"


def _output_size(request: CreateRefineTask, base: InputImage, max_pixels: int) -> tuple[int, int]:
    """Width and height of the result.

    Raises:
        InvalidInput: factor and target size contradict each other, or the result is too large.
    """
    factor = _factor(request, base)
    width = request.target_width or max(1, round(base.width * factor))
    height = request.target_height or max(1, round(base.height * factor))
    if request.upscale_factor and max(abs(width - base.width * factor), abs(height - base.height * factor)) > 1:
        grown = f"{base.width * factor:g} x {base.height * factor:g}"
        raise InvalidInput(
            f"It makes {grown} of this image, not {width} x {height}; give the factor or the target size.",
            field="upscale_factor",
        )
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise InvalidInput(
            f"The result would be {width} x {height}; at most {max_pixels} pixels and {MAX_SIDE} a side are made.",
            field=_size_field(request),
        )
    return width, height


def _factor(request: CreateRefineTask, base: InputImage) -> float:
    """The enlargement of a side without a target of its own."""
    if request.upscale_factor is not None:
        return request.upscale_factor
    if request.target_width is not None:
        return request.target_width / base.width
    return 1.0 if request.target_height is None else request.target_height / base.height


async def _refine(spec: dict[str, Any], context: RunContext) -> None:
    base = await context.load(spec["base_image_path"], field="base_image_url")
    layers = await context.compute(lambda: Layers.of(base).resized((spec["width"], spec["height"])))
    colours = layers.colours
    faces = await _faces(spec, context, colours)
    regenerates = spec["upscale_enabled"] and spec["upscale_denoise"] > 0
    tiles_end = (_SHARE_OF_TILES if faces else 1.0) if regenerates else 0.0
    async with context.device():
        if regenerates:
            colours = await regenerate_in_tiles(context, colours, _tile_settings(spec), share=(0.0, tiles_end))
        if faces:
            colours = await _with_faces(spec, context, colours, faces, (tiles_end, 1.0))
    result = await context.compute(partial(layers.with_colours, colours))
    await context.publish(result, seed=spec["upscale_seed"])


async def _faces(spec: dict[str, Any], context: RunContext, image: Image.Image) -> "Sequence[Face]":
    """The faces to regenerate. Detected before the job holds the device, which is not needed for it."""
    from compute.worker.ops.face import find_faces

    if not spec["face_detail_enabled"]:
        return []
    faces = await find_faces(context, image)
    context.note(face_detected=bool(faces))
    return faces if spec["face_detail_denoise"] > 0 else []


def _tile_settings(spec: dict[str, Any]) -> TileSettings:
    return TileSettings(
        prompt=spec["upscale_prompt"],
        steps=spec["upscale_steps"],
        denoise=spec["upscale_denoise"],
        seed=spec["upscale_seed"],
        guidance_scale=GUIDANCE_SCALE,
        tile=spec["tile"],
        overlap=spec["overlap"],
        multiple=spec["size_multiple"],
    )


async def _with_faces(
    spec: dict[str, Any], context: RunContext, image: Image.Image, faces: "Sequence[Face]", share: Share
) -> Image.Image:
    from compute.worker.ops.face import FaceSettings, enhance_faces
    from compute.worker.ops.patch import PatchSettings

    patch = PatchSettings(
        prompt=spec["face_detail_prompt"],
        steps=spec["face_detail_steps"],
        denoise=spec["face_detail_denoise"],
        seed=spec["face_detail_seed"],
        guidance_scale=GUIDANCE_SCALE,
        side=spec["tile"],
        multiple=spec["size_multiple"],
    )
    outcome = await enhance_faces(context, image, FaceSettings(patch), faces=faces, share=share)
    context.note(face_attempts=outcome.attempts, face_fallback_used=outcome.fallback_used)
    return outcome.image
