"""IMAGE_ADJUSTER: changes the shape, the margins around the subject, and the colours of an image, without a model."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Literal

from PIL import Image
from pydantic import AliasChoices, Field

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.imaging.adjustment.sliders import Adjustments, adjust
from compute.imaging.adjustment.words import KNOWN_WORDS, read_adjustments
from compute.imaging.framing.geometry import FramePlan, Framing, Margins, Mode, Proportions, Resampling, Size, plan
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import ImageSource, Prompt, ResultImage
from compute.schemas.tasks import CreateTask, TaskPublic, TaskUpdate
from compute.tasks.registry import InputImage, Inputs, TaskKind
from compute.tasks.results import first_path
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Job, WorkerContext, WorkEvent

__all__ = ["CreateImageAdjusterTask", "ImageAdjuster", "ImageAdjusterTaskPublic", "ImageAdjusterTaskPublicUpdate"]

MAX_SIDE = 32_768
_SIDES = ("left", "top", "right", "bottom")
_MARGINS = tuple(f"margin_{side}" for side in _SIDES)
_SLIDERS = ("brightness", "contrast", "saturation", "warmth")
_SCALED_MARGINS = {"height": ("top", "bottom"), "width": ("left", "right")}
"""The margins that are met exactly, and are therefore required, by `scaling_proportions`."""

Position = Literal[
    "center", "top", "bottom", "left", "right", "top_left", "top_right", "bottom_left", "bottom_right"
]  # fmt: skip


def _margin(side: str, length: str) -> Any:
    return Field(
        default=None,
        ge=0,
        le=1,
        description=f"Least room between the subject and the {side} edge, as a fraction of the result's {length}.",
    )


def _slider(description: str) -> Any:
    return Field(default=None, ge=-1, le=1, description=description)


class CreateImageAdjusterTask(CreateTask):
    """Change the shape of an image, and its light and colours."""

    task_type: Literal[TaskType.IMAGE_ADJUSTER] = TaskType.IMAGE_ADJUSTER
    input_image: ImageSource = Field(validation_alias=AliasChoices("input_image", "base_image_url"))
    mode: Mode = Field(
        default="auto",
        description="`crop` cuts, `pad` adds room, `scale` resizes (see `scaling_proportions`). `auto` crops where the "
        "aspect ratios differ by no more than 5 % and the margins allow it, and pads elsewhere.",
    )
    aspect_ratio: float | None = Field(
        default=None, ge=0.01, le=100, description="Width / height of the result, whose pixels are not resampled."
    )
    target_width: int | None = Field(
        default=None, ge=1, le=MAX_SIDE, description="Pixels; together with `target_height`."
    )
    target_height: int | None = Field(
        default=None, ge=1, le=MAX_SIDE, description="Pixels; together with `target_width`."
    )
    margin_left: float | None = _margin("left", "width")
    margin_top: float | None = _margin("top", "height")
    margin_right: float | None = _margin("right", "width")
    margin_bottom: float | None = _margin("bottom", "height")
    reference_image: ImageSource | None = Field(
        default=None, description="An image whose subject's margins are used where none is given above."
    )
    cropping_position: Position | None = Field(
        default=None, description="The part that mode `crop` keeps, as far as margins allow; `center` if not set."
    )
    resampling: Resampling = Field(default="lanczos", description="The filter for resampling pixels.")
    tolerance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="An image whose shape and margins deviate by no more than this fraction keeps them.",
    )
    scaling_proportions: Proportions | None = Field(
        default=None,
        description="For mode `scale`. `height`: the margins above and below the subject, or the whole height without "
        "margins, are met exactly; the sides are cut or padded. `width`: the other way round. `stretch`: both "
        "sides are resized by themselves. Not set: `height` with margins, else `stretch`.",
    )
    brightness: float | None = _slider("Middle tones; black and white stay. 1 takes mid-grey 128 to 181, -1 to 64.")
    contrast: float | None = _slider("About mid-grey: 0.5 doubles it, -0.5 halves it.")
    saturation: float | None = _slider("-1 is black and white. Colours are not clipped, greys and luminance are kept.")
    warmth: float | None = _slider("White goes from 6500 K to the tint of 4700 K (1) or of 10700 K (-1).")
    prompt: Prompt | None = Field(
        default=None,
        description=f"The same in words, for what is not set above: {KNOWN_WORDS}; `slightly` halves, `much` doubles.",
    )


class ImageAdjusterTaskPublic(ResultImage, TaskPublic):
    """An adjuster task. The four sliders are the applied ones, including those from the prompt."""

    task_type: Literal[TaskType.IMAGE_ADJUSTER] = TaskType.IMAGE_ADJUSTER
    input_image_path: str
    reference_image_path: str | None = None
    mode: Mode
    aspect_ratio: float | None = None
    target_width: int | None = None
    target_height: int | None = None
    margin_left: float | None = None
    margin_top: float | None = None
    margin_right: float | None = None
    margin_bottom: float | None = None
    cropping_position: Position | None = None
    resampling: Resampling | None = None
    tolerance: float | None = None
    scaling_proportions: Proportions | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    warmth: float = 0.0
    prompt: str | None = None


class ImageAdjusterTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class ImageAdjuster(TaskKind[CreateImageAdjusterTask]):
    """Changes the shape first, then the colours; a worker needs no model for it."""

    name = TaskType.IMAGE_ADJUSTER
    queue = "image"
    roles = frozenset()
    image_fields = ("input_image",)
    folder = "adjusted"
    capabilities = frozenset({ProviderCapability.OUTPUT_SIZE})
    create_model = CreateImageAdjusterTask
    public_model = ImageAdjusterTaskPublic
    update_model = ImageAdjusterTaskPublicUpdate

    async def prepare(self, request: CreateImageAdjusterTask, inputs: Inputs) -> dict[str, Any]:
        colours = _colours(request)
        _check_shape(request)
        _check_margins(request)
        _check_scaling(request)
        spec = request.model_dump(mode="json", include=_KEPT_FIELDS) | colours
        spec |= {"scaling_proportions": _proportions(request), "max_pixels": inputs.max_pixels}
        source = await inputs.image(request.input_image, field="input_image")
        _check_result(spec, source)
        reference = request.reference_image
        if reference is not None:
            reference = (await inputs.image(reference, field="reference_image")).path
        return spec | {"input_image_path": source.path, "reference_image_path": reference}

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(_work, job.spec))

    def public_fields(self, task: Task) -> dict[str, Any]:
        return {name: task.spec.get(name) for name in _SHOWN_FIELDS} | {"result_image_path": first_path(task)}


_KEPT_FIELDS = {
    "aspect_ratio",
    "cropping_position",
    "mode",
    "prompt",
    "resampling",
    "target_height",
    "target_width",
    "tolerance",
    *_MARGINS,
}
_SHOWN_FIELDS = _KEPT_FIELDS | {"input_image_path", "reference_image_path", "scaling_proportions", *_SLIDERS}


def _colours(request: CreateImageAdjusterTask) -> dict[str, float]:
    """The four sliders; fields take precedence over the prompt."""
    said = Adjustments()
    if request.prompt is not None:
        read = read_adjustments(request.prompt)
        if read is None:
            raise InvalidInput(f"None of its words is understood. Known, among others: {KNOWN_WORDS}.", field="prompt")
        said = read
    given = {slider: getattr(request, slider) for slider in _SLIDERS}
    return {slider: getattr(said, slider) if value is None else value for slider, value in given.items()}


def _check_shape(request: CreateImageAdjusterTask) -> None:
    sized = [name for name in ("target_width", "target_height") if getattr(request, name) is not None]
    if len(sized) == 1:
        missing = "target_height" if sized == ["target_width"] else "target_width"
        raise InvalidInput(f"Field `{sized[0]}` needs `{missing}`.", field=missing)
    if sized and request.aspect_ratio is not None:
        raise InvalidInput("Give either this or target_width and target_height.", field="aspect_ratio")
    if request.cropping_position is not None and request.mode != "crop":
        raise InvalidInput("This is for mode crop.", field="cropping_position")
    if sized or request.aspect_ratio is not None or _needs_subject(request):
        return
    if request.mode != "auto":
        raise InvalidInput(f"Mode {request.mode} needs aspect_ratio, a target size or margins.", field="mode")
    if all(getattr(request, name) is None for name in (*_SLIDERS, "prompt")):
        asked = "aspect_ratio, target_width and target_height, margins, reference_image, brightness, contrast, …"
        raise InvalidInput(f"Nothing is asked for; give one of {asked}.", field="aspect_ratio")


def _check_margins(request: CreateImageAdjusterTask) -> None:
    for one, other in (("margin_left", "margin_right"), ("margin_top", "margin_bottom")):
        total = (getattr(request, one) or 0) + (getattr(request, other) or 0)
        if total >= 1:
            field = one if getattr(request, one) else other
            raise InvalidInput(f"Fields `{one}` and `{other}` make {total:g} together and leave no room.", field=field)


def _check_scaling(request: CreateImageAdjusterTask) -> None:
    proportions = _proportions(request)
    if proportions is None and request.scaling_proportions is not None:
        raise InvalidInput("This is for mode scale.", field="scaling_proportions")
    if proportions is None or not _needs_subject(request):
        return
    if proportions == "stretch":
        raise InvalidInput("Margins need height or width.", field="scaling_proportions")
    for side in _SCALED_MARGINS[proportions]:
        if request.reference_image is None and getattr(request, f"margin_{side}") is None:
            raise InvalidInput(f"Scaling by {proportions} needs it.", field=f"margin_{side}")


def _proportions(request: CreateImageAdjusterTask) -> Proportions | None:
    if request.mode != "scale":
        return None
    return request.scaling_proportions or ("height" if _needs_subject(request) else "stretch")


def _needs_subject(request: CreateImageAdjusterTask) -> bool:
    return any(getattr(request, name) is not None for name in (*_MARGINS, "reference_image"))


def _check_result(spec: dict[str, Any], source: InputImage) -> None:
    """Check as much as is known without the subject: a target size, and a shape without margins."""
    _check_pixels(plan((source.width, source.height), _framing(spec, None)), spec)


def _check_pixels(planned: FramePlan, spec: dict[str, Any]) -> None:
    width, height = planned.size
    if width * height > spec["max_pixels"] or max(width, height) > MAX_SIDE:
        asked = [name for name in ("target_width", "aspect_ratio", *_MARGINS) if spec[name] is not None]
        raise InvalidInput(
            f"The result would be {width} x {height}; at most {spec['max_pixels']} pixels and {MAX_SIDE} a side.",
            field=asked[0] if asked else "reference_image",
        )


def _framing(spec: dict[str, Any], margins: Margins | None) -> Framing:
    sized = spec["target_width"] is not None
    return Framing(
        mode=spec["mode"],
        aspect_ratio=spec["aspect_ratio"],
        size=(spec["target_width"], spec["target_height"]) if sized else None,
        margins=margins,
        position=_anchor(spec["cropping_position"] or "center"),
        tolerance=spec["tolerance"],
        proportions=spec["scaling_proportions"] or "stretch",
    )


def _anchor(position: str) -> tuple[float, float]:
    across = 0.0 if "left" in position else 1.0 if "right" in position else 0.5
    down = 0.0 if "top" in position else 1.0 if "bottom" in position else 0.5
    return across, down


async def _work(spec: dict[str, Any], context: RunContext) -> None:
    image = await context.load(spec["input_image_path"], field="input_image")
    path = spec["reference_image_path"]
    reference = None if path is None else await context.load(path, field="reference_image")
    async with context.device():
        result, notes = await context.compute(partial(_adjusted, spec, image, reference))
    context.note(**notes)
    await context.publish(result)


def _adjusted(
    spec: dict[str, Any], image: Image.Image, reference: Image.Image | None
) -> tuple[Image.Image, dict[str, Any]]:
    """The result, and its metadata."""
    from compute.imaging.framing.reframe import reframed

    margins = _wanted_margins(spec, reference)
    subject = None if margins is None else _subject(image, "input_image")
    planned = plan(image.size, _framing(spec, margins), subject)
    _check_pixels(planned, spec)
    wanted = Adjustments(**{slider: spec[slider] for slider in _SLIDERS})
    notes: dict[str, Any] = {"reframed": planned.changes(image.size), "padded": planned.pads}
    if margins is not None:
        notes |= {"subject_box": subject, "margins": {side: getattr(margins, side) for side in _SIDES}}
    return adjust(reframed(image, planned, spec["resampling"]), wanted), notes


def _wanted_margins(spec: dict[str, Any], reference: Image.Image | None) -> Margins | None:
    given = {side: spec[f"margin_{side}"] for side in _SIDES}
    if reference is None:
        return Margins(**given) if any(share is not None for share in given.values()) else None
    shares = _margins_around(_subject(reference, "reference_image"), reference.size)
    merged = Margins(**{side: shares[side] if share is None else share for side, share in given.items()})
    if (merged.left or 0) + (merged.right or 0) >= 1 or (merged.top or 0) + (merged.bottom or 0) >= 1:
        raise InvalidInput("Its margins and those that are given leave no room together.", field="reference_image")
    return merged


def _margins_around(subject: tuple[float, float, float, float], size: Size) -> dict[str, float]:
    left, top, right, bottom = subject
    width, height = size
    return {"left": left / width, "top": top / height, "right": 1 - right / width, "bottom": 1 - bottom / height}


def _subject(image: Image.Image, field: str) -> tuple[float, float, float, float]:
    from compute.imaging.segmentation.segment import subject_mask
    from compute.imaging.segmentation.subject_box import subject_box

    found = subject_box(subject_mask(image))
    if found is None:
        raise InvalidInput("No subject is found in this image, and margins are measured from it.", field=field)
    return found
