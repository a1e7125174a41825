"""EDITING: changes an image by a prompt, in one part or as a whole, optionally with reference images."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import AliasChoices, Field

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import ImageSource, NativeChoice, Prompt, ResultImage, Seed
from compute.schemas.rules.strict import JsonBody
from compute.schemas.tasks import CreateTask, ShortText, TaskPublic, TaskUpdate
from compute.tasks.operations import Edit, Picture
from compute.tasks.registry import InputImage, Inputs, TaskKind
from compute.tasks.results import first_path, metadata_of
from compute.tasks.seeds import seed_or_new
from compute.worker.context import RunContext, run_work
from compute.worker.ops.edit import EditPlan, plan_edit
from compute.worker.protocol import GenerateRequest, Job, Role, WorkerContext, WorkEvent

__all__ = ["CreateEditingTask", "Editing", "EditingTaskPublic", "EditingTaskPublicUpdate"]

MAX_SIDE = 16_384
MAX_REFERENCES = 4
"""Each has as many tokens as the image itself, and attention grows with their square."""


def _old(name: str) -> Any:
    """A deprecated field, replaced by `name`."""
    # Not pydantic's own mark: reading such a field would warn.
    return Field(default=None, description=f"Deprecated, use {name}.", json_schema_extra={"deprecated": True})


class ReferenceImage(JsonBody):
    """A reference image."""

    url: ImageSource
    type: str | None = Field(
        default=None,
        max_length=40,
        pattern=r"^[\w -]+$",
        description="What it shows, e.g. garment. The prompt names it in these words.",
    )


class CreateEditingTask(NativeChoice, CreateTask):
    """Change an image. Exactly one of `base_image`, `base_image_url` and `base_image_data` names it.

    Without a mask the whole image may change; with one only its white part, and every other pixel of the result is that
    of the base image, unless another size is requested.
    """

    task_type: Literal[TaskType.EDITING] = TaskType.EDITING
    base_image: ImageSource | None = Field(default=None, description="The image to edit.")
    base_image_url: ImageSource | None = _old("base_image")
    base_image_data: ImageSource | None = _old("base_image")
    reference_images: list[ImageSource | ReferenceImage] | None = Field(
        default=None,
        description=f"Reference images, at most {MAX_REFERENCES} in all, each optionally with what it shows. "
        "They need a model for instruction edits.",
    )
    reference_image_url: ImageSource | None = _old("reference_images")
    reference_image_data: ImageSource | None = _old("reference_images")
    prompt: Prompt = Field(default="", description="What to change. It may be left out with a mask or a reference.")
    mask: ImageSource | None = Field(
        default=None,
        validation_alias=AliasChoices("mask", "mask_url"),
        description="White is regenerated, black stays, gray blends both. Another size is scaled to the base image's; "
        "a mask that is black everywhere ends the task as INVALID_INPUT.",
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="How much may change: 1 everything. By default 1 with a model for edits or for filling, 0.85 in a "
        "mask and 0.6 without one where the base model does it.",
    )
    width: int | None = Field(
        default=None,
        ge=16,
        le=MAX_SIDE,
        description="Width of the result in pixels; alone it keeps the proportions. By default the base image's.",
    )
    height: int | None = Field(
        default=None,
        ge=16,
        le=MAX_SIDE,
        description="Height of the result in pixels. What does not fit other proportions is cut off on both sides.",
    )
    seed: Seed | None = None
    steps: int = Field(
        default=28, ge=1, le=200, description="Denoising steps of the whole schedule; `strength` of them are run."
    )
    fal_app_id: ShortText | None = Field(default=None, description="Which app a FAL provider runs.")


class EditingTaskPublic(ResultImage, TaskPublic):
    """An editing task."""

    task_type: Literal[TaskType.EDITING] = TaskType.EDITING
    base_image_path: str
    reference_image_path: str | None = Field(default=None, description="Storage path of the first reference.")
    reference_images: list[dict[str, str | None]] | None = Field(
        default=None, description="Storage path (`url`) and `type` of every reference."
    )
    prompt: str = ""
    mask_path: str | None = None
    strength: float | None = None
    width: int
    height: int
    seed: int | None = None
    steps: int | None = None
    workflow_id: str | None = None
    fal_app_id: str | None = Field(json_schema_extra={"readOnly": True})
    fal_request_id: str | None = Field(json_schema_extra={"readOnly": True})


class EditingTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


@dataclass(frozen=True, slots=True)
class _EditMode:
    """The parameters of an edit by one kind of model.

    Attributes:
        role: The role of the model.
        strength: The default strength.
        guidance_scale: The guidance recommended by the model's makers.
        note: A note for the result's metadata, if the mode is not the expected one.
    """

    role: Role
    strength: float
    guidance_scale: float
    note: str | None = None


_EDIT = _EditMode("edit", 1.0, 2.5)
_FILL = _EditMode("fill", 1.0, 30.0)
_INPAINT = _EditMode("draw", 0.85, 3.5)
_IMAGE_TO_IMAGE = _EditMode(
    "draw",
    0.6,
    3.5,
    "There is no model for instruction edits here: the base model drew from the image and read the prompt as a "
    "description.",
)


class Editing(TaskKind[CreateEditingTask]):
    """Runs an instruction edit, fills a mask, or does the nearest equivalent with the models of the queue."""

    name = TaskType.EDITING
    queue = "inference"
    image_fields = ("base_image", "base_image_data")
    folder = "editings"
    capabilities = frozenset(
        {
            ProviderCapability.IMAGE_EDIT,
            ProviderCapability.INPAINT,
            ProviderCapability.REFERENCE_IMAGE,
            ProviderCapability.OUTPUT_SIZE,
        }
    )
    create_model = CreateEditingTask
    public_model = EditingTaskPublic
    update_model = EditingTaskPublicUpdate

    work_pixels: ClassVar[int] = 1024 * 1024
    """The most pixels generated at once, for which the models were trained."""

    async def prepare(self, request: CreateEditingTask, inputs: Inputs) -> dict[str, Any]:
        base = await _take_base(request, inputs)
        references = await _take_references(request, inputs)
        mask = await inputs.image(request.mask, field="mask") if request.mask else None
        if not (request.prompt.strip() or references or mask):
            raise InvalidInput("Say what to change: nothing else here does.", field="prompt")
        mode = _edit_mode(inputs.roles, masked=mask is not None, references=bool(references))
        width, height = _output_size(request, base, inputs.max_pixels)
        return {
            "base_image_path": base.path,
            "base_image_field": _given(request, "base_image")[0],
            "mask_path": mask.path if mask else None,
            "reference_images": references,
            "prompt": request.prompt,
            "instruction": _instruction(request.prompt, references),
            "role": mode.role,
            "strength": mode.strength if request.strength is None else request.strength,
            "strength_asked": request.strength,
            "guidance_scale": mode.guidance_scale,
            "steps": request.steps,
            "note": mode.note,
            "width": width,
            "height": height,
            "work_pixels": self.work_pixels,
            "size_multiple": inputs.size_multiple,
            "seed": seed_or_new(request.seed),
            "fal_app_id": request.fal_app_id,
        }

    def operation(self, spec: dict[str, Any]) -> Edit:
        references = spec["reference_images"]
        return Edit(
            prompt=_numbered_instruction(spec["prompt"], references),
            image=Picture(spec["base_image_path"], spec["base_image_field"]),
            width=spec["width"],
            height=spec["height"],
            seed=spec["seed"],
            references=tuple(Picture(one["path"], one["field"], one["type"]) for one in references),
            mask=Picture(spec["mask_path"], "mask") if spec["mask_path"] else None,
            strength=spec.get("strength_asked"),
            steps=spec["steps"],
            app=spec.get("fal_app_id"),
        )

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(_edit, job.spec), role=job.spec["role"])

    def public_fields(self, task: Task) -> dict[str, Any]:
        spec = task.spec
        references = spec.get("reference_images") or []
        return {name: spec.get(name) for name in _SHOWN_FIELDS} | {
            "reference_images": [{"url": one["path"], "type": one["type"]} for one in references] or None,
            "reference_image_path": references[0]["path"] if references else None,
            "workflow_id": task.workflow_id,
            "fal_request_id": spec.get("fal_request_id") or metadata_of(task).get("fal_request_id"),
            "result_image_path": first_path(task),
        }


_SHOWN_FIELDS = ("base_image_path", "prompt", "mask_path", "strength", "width", "height", "seed", "steps", "fal_app_id")


def _given(request: CreateEditingTask, name: str) -> list[str]:
    """The given spellings of a field, among the current one and the deprecated ones."""
    return [field for field in (name, f"{name}_url", f"{name}_data") if getattr(request, field, None)]


async def _take_base(request: CreateEditingTask, inputs: Inputs) -> InputImage:
    given = _given(request, "base_image")
    if not given:
        raise InvalidInput("Name the image to edit.", field="base_image")
    if len(given) > 1:
        raise InvalidInput(f"Give one image to edit; {given[0]} is there already.", field=given[1])
    base = await inputs.image(getattr(request, given[0]), field=given[0])
    if base.width * base.height > inputs.max_pixels:
        raise InvalidInput(
            f"The image is {base.width} x {base.height}; at most {inputs.max_pixels} pixels are accepted.",
            field=given[0],
        )
    return base


async def _take_references(request: CreateEditingTask, inputs: Inputs) -> list[dict[str, str | None]]:
    named = [("reference_images", one) for one in request.reference_images or []]
    named += [(field, getattr(request, field)) for field in _given(request, "reference_image")]
    if len(named) > MAX_REFERENCES:
        raise InvalidInput(f"At most {MAX_REFERENCES} references are looked at, not {len(named)}.", field=named[-1][0])
    taken: list[dict[str, str | None]] = []
    for index, (field, one) in enumerate(named):
        where = f"{field}.{index}" if field == "reference_images" else field
        reference = one if isinstance(one, ReferenceImage) else ReferenceImage(url=one)
        image = await inputs.image(reference.url, field=where)
        taken.append({"path": image.path, "type": reference.type, "field": where})
    return taken


def _edit_mode(roles: frozenset[Role], *, masked: bool, references: bool) -> _EditMode:
    """The model that serves most of the request.

    Raises:
        InvalidInput: none of the models takes references.
    """
    if references:
        if "edit" not in roles:
            raise InvalidInput(
                "The workers of this queue have no model that looks at references (edit).", field="reference_images"
            )
        return _EDIT
    if masked:
        return _FILL if "fill" in roles else _INPAINT
    return _EDIT if "edit" in roles else _IMAGE_TO_IMAGE


def _instruction(prompt: str, references: list[dict[str, str | None]]) -> str:
    """The prompt for the model, extended by the positions of the references and what they show."""
    if not references:
        return prompt
    shown = [f"the {one['type']}" if one["type"] else "another picture" for one in references]
    wish = prompt.strip() or f"Put {' and '.join(shown)} from the right into the first picture, change nothing else"
    return f"{wish.rstrip('.')}. To the right of the first picture, in this order: {', '.join(shown)}."


def _numbered_instruction(prompt: str, references: list[dict[str, str | None]]) -> str:
    """The prompt for a model that gets the images one by one, with what each reference shows."""
    if not references:
        return prompt
    shown = [f"the {one['type']}" if one["type"] else "another picture" for one in references]
    wish = prompt.strip() or f"Put {' and '.join(shown)} into image 1, change nothing else"
    listed = ", ".join(f"image {number} shows {one}" for number, one in enumerate(shown, 2))
    return f"{wish.rstrip('.')}. Image 1 is the one to change; {listed}."


def _output_size(request: CreateEditingTask, base: InputImage, max_pixels: int) -> tuple[int, int]:
    width = request.width or max(1, round(base.width * (request.height or base.height) / base.height))
    height = request.height or max(1, round(base.height * width / base.width))
    field = "width" if request.width else "height"
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise InvalidInput(
            f"The result would be {width} x {height}; at most {max_pixels} pixels and {MAX_SIDE} a side are made.",
            field=field,
        )
    return width, height


async def _edit(spec: dict[str, Any], context: RunContext) -> None:
    base = await context.load(spec["base_image_path"], field=spec["base_image_field"])
    mask = await context.load(spec["mask_path"], field="mask") if spec["mask_path"] else None
    references = [await context.load(one["path"], field=one["field"]) for one in spec["reference_images"]]
    plan = await context.compute(
        lambda: plan_edit(
            base,
            mask,
            (spec["width"], spec["height"]),
            work_pixels=spec["work_pixels"],
            multiple=spec["size_multiple"],
        )
    )
    context.note(role=spec["role"])
    if spec["note"]:
        context.note(note=spec["note"])
    async with context.device():
        generated = await context.generate(_request(spec, plan, references), shown=plan.shown)
    result = await context.compute(lambda: plan.finish(generated))
    await context.publish(result, seed=spec["seed"])


def _request(spec: dict[str, Any], plan: EditPlan, references: list[Image.Image]) -> GenerateRequest:
    width, height = plan.view.size
    return GenerateRequest(
        prompt=spec["instruction"],
        width=width,
        height=height,
        steps=spec["steps"],
        guidance_scale=spec["guidance_scale"],
        seed=spec["seed"],
        image=plan.view,
        mask=plan.mask,
        references=tuple(references),
        strength=spec["strength"],
        role=spec["role"],
    )
