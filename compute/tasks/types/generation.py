"""GENERATION: images from a prompt, optionally guided by a reference image and up to four LoRAs."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import (
    MAX_PROMPT,
    MAX_SEED,
    NativeChoice,
    Prompt,
    ResultImage,
    ResultImages,
)
from compute.schemas.rules.text import VISIBLE
from compute.schemas.tasks import CreateTask, ShortText, TaskPublic, TaskUpdate, WholeTaskUpdate
from compute.tasks.operations import Draw, Picture
from compute.tasks.registry import Inputs, TaskKind
from compute.tasks.results import artifact_paths, first_path, metadata_of
from compute.tasks.seeds import seed_or_new
from compute.worker.generate import generate_images
from compute.worker.inputs import JobInputs
from compute.worker.protocol import GenerateRequest, Job, LoraSelection, WorkerContext, WorkEvent

__all__ = ["CreateGenerationTask", "Generation", "GenerationTaskPublic", "GenerationTaskUpdate"]

LORA_SLOTS = ("subject", "product", "style", "product2")
DEFAULT_REFERENCE_STRENGTH = 0.3
DEFAULT_TRUE_CFG_SCALE = 4.0


def _lora_path(slot: str) -> Any:
    return Field(default=None, max_length=512, description=f"The {slot} LoRA: its path below the LoRA folder.")


def _lora_weight(slot: str) -> Any:
    return Field(default=None, ge=-4, le=4, description=f"Strength of the {slot} LoRA; 1 when only its path is given.")


class LoraFields(BaseModel):
    """The four slots of a request."""

    subject_model_path: str | None = _lora_path("subject")
    product_model_path: str | None = _lora_path("product")
    style_model_path: str | None = _lora_path("style")
    product2_model_path: str | None = _lora_path("second product")
    subject_lora_weight: float | None = _lora_weight("subject")
    product_lora_weight: float | None = _lora_weight("product")
    style_lora_weight: float | None = _lora_weight("style")
    product2_lora_weight: float | None = _lora_weight("second product")


class CreateGenerationTask(NativeChoice, LoraFields, CreateTask):
    """Generate one or more images."""

    task_type: Literal[TaskType.GENERATION] = TaskType.GENERATION
    prompt: Annotated[str, VISIBLE] = Field(
        min_length=1, max_length=MAX_PROMPT, pattern=r"\S", description="What the image should show."
    )
    negative_prompt: Prompt | None = Field(
        default=None, description="What it must not show (true classifier-free guidance)."
    )
    model: ShortText | None = Field(default=None, description="`default`, or the name of the served model.")
    width: int = Field(
        default=1024, ge=16, le=4096, description="Pixels; a multiple of the model's grid (16 for FLUX)."
    )
    height: int = Field(default=1024, ge=16, le=4096, description="Pixels; a multiple of the model's grid.")
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="The same request with the same seed gives the same image."
    )
    num_outputs: int = Field(default=1, ge=1, le=16, description="Images to generate, with seeds seed, seed+1, …")
    steps: int = Field(default=28, ge=1, le=200, description="Denoising steps.")
    guidance_scale: float = Field(default=3.5, ge=0, le=30, description="How closely to follow the prompt.")
    true_cfg_scale: float = Field(
        default=DEFAULT_TRUE_CFG_SCALE, ge=1, le=30, description="Guidance away from `negative_prompt`, when given."
    )

    reference_image_url: str | None = Field(
        default=None, max_length=4096, description="Address or storage path of an image to start from."
    )
    input_image_url: str | None = Field(default=None, max_length=4096, description="The quick start's name for it.")
    reference_image_data: str | None = Field(default=None, description="The same as base64 or as a data URL.")
    reference_image_strength: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Influence of the reference image: a fraction up to 1, above that a percentage.",
    )

    fal_app_id: ShortText | None = Field(default=None, description="Which app a FAL provider runs.")


class GenerationTaskPublic(ResultImages, ResultImage, TaskPublic):
    """A generation task. Its images are in the order of their seeds; the first is also the result image."""

    task_type: Literal[TaskType.GENERATION] = TaskType.GENERATION
    prompt: str | None = None
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    num_outputs: int = 1
    steps: int | None = None
    guidance_scale: float | None = None
    reference_image_path: str | None = None
    reference_image_strength: float | None = None
    subject_model_path: str | None = None
    product_model_path: str | None = None
    style_model_path: str | None = None
    product2_model_path: str | None = None
    subject_lora_weight: float | None = None
    product_lora_weight: float | None = None
    style_lora_weight: float | None = None
    product2_lora_weight: float | None = None
    fal_app_id: str | None = Field(json_schema_extra={"readOnly": True})
    fal_request_id: str | None = Field(json_schema_extra={"readOnly": True})


class GenerationTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class GenerationTaskUpdate(LoraFields, WholeTaskUpdate):
    """The body of `PUT /tasks/generation/{id}`."""

    fal_app_id: ShortText | None = None
    fal_request_id: ShortText | None = None
    reference_image_path: str | None = Field(default=None, max_length=512, description="Storage path to start from.")
    reference_image_strength: float | None = Field(default=None, ge=0, le=100, description="Its influence.")
    result_image_path: str | None = Field(
        default=None, max_length=512, description="With status COMPLETED: the result that was made elsewhere."
    )


class Generation(TaskKind[CreateGenerationTask]):
    """Generates `num_outputs` images one after the other; each is the same as if generated alone with its seed."""

    name = TaskType.GENERATION
    queue = "inference"
    image_fields = ("input_image_url", "reference_image_url", "reference_image_data")
    folder = "generations"
    capabilities = frozenset(
        {
            ProviderCapability.TEXT_TO_IMAGE,
            ProviderCapability.IMAGE_TO_IMAGE,
            ProviderCapability.LORA,
            ProviderCapability.REFERENCE_IMAGE,
            ProviderCapability.OUTPUT_SIZE,
        }
    )
    create_model = CreateGenerationTask
    public_model = GenerationTaskPublic
    update_model = GenerationTaskPublicUpdate

    async def prepare(self, request: CreateGenerationTask, inputs: Inputs) -> dict[str, Any]:
        _check_model(request, inputs)
        _check_size(request, inputs)
        kept = request.model_dump(mode="json", include=_KEPT_FIELDS)
        return kept | {
            "seed": seed_or_new(request.seed),
            "loras": await _take_loras(kept, inputs),
            "reference_image_path": await _take_reference(request, inputs),
        }

    async def prepare_update(self, changes: dict[str, Any], spec: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
        replaced = {name: value for name, value in changes.items() if name in _INPUT_FIELDS}
        if replaced.keys() & _LORA_FIELDS:
            replaced["loras"] = await _take_loras(spec | replaced, inputs)
        if path := replaced.get("reference_image_path"):
            replaced["reference_image_path"] = (await inputs.image(path, field="reference_image_path")).path
        return replaced

    def operation(self, spec: dict[str, Any]) -> Draw:
        reference = spec["reference_image_path"]
        return Draw(
            prompt=spec["prompt"],
            width=spec["width"],
            height=spec["height"],
            seed=spec["seed"],
            count=spec.get("num_outputs", 1),
            negative_prompt=spec["negative_prompt"],
            steps=spec["steps"],
            guidance_scale=spec["guidance_scale"],
            image=Picture(reference, "reference_image_path") if reference else None,
            strength=1.0 - _influence(spec["reference_image_strength"]) if reference else None,
            loras=tuple(f"{lora['slot']}_model_path" for lora in spec["loras"]),
            app=spec.get("fal_app_id"),
        )

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return generate_images(job, worker, partial(_requests, job.spec))

    def public_fields(self, task: Task) -> dict[str, Any]:
        spec = task.spec
        paths = artifact_paths(task)
        return {name: spec.get(name) for name in _SHOWN_FIELDS} | {
            "num_outputs": spec.get("num_outputs", 1),
            "fal_request_id": spec.get("fal_request_id") or metadata_of(task).get("fal_request_id"),
            "result_image_path": first_path(task),
            "result_image_paths": paths,
        }


_LORA_FIELDS = {f"{slot}_{part}" for slot in LORA_SLOTS for part in ("model_path", "lora_weight")}
_SHOWN_FIELDS = _LORA_FIELDS | {
    "fal_app_id",
    "guidance_scale",
    "height",
    "negative_prompt",
    "prompt",
    "reference_image_path",
    "reference_image_strength",
    "seed",
    "steps",
    "width",
}
_REFERENCE_FIELDS = ("reference_image_url", "input_image_url", "reference_image_data")
_INPUT_FIELDS = _LORA_FIELDS | {"reference_image_path", "reference_image_strength"}
_KEPT_FIELDS = _SHOWN_FIELDS - {"reference_image_path"} | {"num_outputs", "true_cfg_scale"}


def _check_model(request: CreateGenerationTask, inputs: Inputs) -> None:
    if request.model is not None and request.model not in ("default", *inputs.model_names):
        known = ", ".join(("default", *inputs.model_names))
        raise InvalidInput(f"There is no model `{request.model}` here; known: {known}.", field="model")


def _check_size(request: CreateGenerationTask, inputs: Inputs) -> None:
    for field in ("width", "height"):
        value = getattr(request, field)
        if value % inputs.size_multiple:
            raise InvalidInput(
                f"Field `{field}` must be a multiple of {inputs.size_multiple}; {value} is none.", field=field
            )


async def _take_loras(fields: Mapping[str, Any], inputs: Inputs) -> list[dict[str, Any]]:
    return [
        {
            "slot": slot,
            "path": await inputs.lora(path, field=f"{slot}_model_path"),
            "weight": _weight(fields.get(f"{slot}_lora_weight")),
        }
        for slot in LORA_SLOTS
        if (path := fields.get(f"{slot}_model_path"))
    ]


async def _take_reference(request: CreateGenerationTask, inputs: Inputs) -> str | None:
    given = [field for field in _REFERENCE_FIELDS if getattr(request, field)]
    if len(given) > 1:
        raise InvalidInput(f"Give one image; {given[0]} is there already.", field=given[1])
    return (await inputs.image(getattr(request, given[0]), field=given[0])).path if given else None


async def _requests(spec: dict[str, Any], inputs: JobInputs) -> list[GenerateRequest]:
    """One request for each image; they differ in their seeds."""
    loras = []
    for lora in spec["loras"]:
        file = await inputs.lora(lora["path"])
        loras.append(LoraSelection(file.name, file.path, lora["weight"], field=f"{lora['slot']}_model_path"))
    reference = spec["reference_image_path"]
    first = GenerateRequest(
        prompt=spec["prompt"],
        negative_prompt=spec["negative_prompt"],
        width=spec["width"],
        height=spec["height"],
        steps=spec["steps"],
        guidance_scale=spec["guidance_scale"],
        seed=spec["seed"],
        true_cfg_scale=spec["true_cfg_scale"] if spec["negative_prompt"] else 1.0,
        image=await inputs.image(reference, field="reference_image_path") if reference else None,
        strength=1.0 - _influence(spec["reference_image_strength"]),
        loras=tuple(loras),
    )
    return [replace(first, seed=(spec["seed"] + index) % (MAX_SEED + 1)) for index in range(spec["num_outputs"])]


def _influence(strength: float | None) -> float:
    """The reference image's influence as a fraction; a part always remains to be denoised."""
    if strength is None:
        return DEFAULT_REFERENCE_STRENGTH
    return min(strength if strength <= 1 else strength / 100, 0.99)


def _weight(weight: float | None) -> float:
    return 1.0 if weight is None else weight
