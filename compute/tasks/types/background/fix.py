"""BACKGROUND_FIX: changes the background of an image and leaves the subject unchanged."""

import math
from collections.abc import AsyncGenerator
from enum import StrEnum
from functools import partial
from typing import Any, Literal, Self

from PIL import Image
from pydantic import AliasChoices, Field, model_validator

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import NATIVE, ImageSource, Prompt, ResultImage, Seed
from compute.schemas.tasks import CreateTask, TaskPublic, TaskUpdate
from compute.tasks.registry import InputImage, Inputs, TaskKind
from compute.tasks.results import first_path
from compute.tasks.seeds import seed_or_new
from compute.tasks.segmentation import chosen_model
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import GenerateRequest, Job, Role, WorkerContext, WorkEvent

__all__ = [
    "BackgroundFix",
    "BackgroundFixStrategy",
    "BackgroundFixTaskPublic",
    "BackgroundFixTaskPublicUpdate",
    "CreateBackgroundFixTask",
]

GUIDANCE_SCALE = 3.5
DRAWN_PIXELS = 1024 * 1024
"""The largest size that the model generates well. A generated background is scaled to the image; the subject never is.
"""


class BackgroundFixStrategy(StrEnum):
    """The source of the new background."""

    COLOR_SHIFT = "COLOR_SHIFT"
    REPLACE_IMAGE = "REPLACE_IMAGE"
    REPLACE_PROMPT = "REPLACE_PROMPT"


_SOURCES = {
    BackgroundFixStrategy.REPLACE_PROMPT: "background_prompt",
    BackgroundFixStrategy.REPLACE_IMAGE: "background_image_url",
    BackgroundFixStrategy.COLOR_SHIFT: "palette_image",
}
_ONLY_FOR = {field: strategy for strategy, field in _SOURCES.items()} | {
    "shadow_threshold": BackgroundFixStrategy.COLOR_SHIFT,
    "light_threshold": BackgroundFixStrategy.COLOR_SHIFT,
    "seed": BackgroundFixStrategy.REPLACE_PROMPT,
    "steps": BackgroundFixStrategy.REPLACE_PROMPT,
    "native": BackgroundFixStrategy.REPLACE_PROMPT,
}
_DEFAULT_EXPANSION = 0.005
_DEFAULT_BLUR_SIGMA = 20.0
_DEFAULT_SHADOW = 150.0
_DEFAULT_LIGHT = 220.0


class CreateBackgroundFixTask(CreateTask):
    """Change the background of an image: its colour, or all of it.

    Give one of `palette_image`, `background_image_url` and `background_prompt`. Fields of another strategy than the one
    used are refused. `provider_config.rembg_model` chooses the segmentation model.
    """

    task_type: Literal[TaskType.BACKGROUND_FIX] = TaskType.BACKGROUND_FIX
    base_image: ImageSource = Field(
        validation_alias=AliasChoices("base_image", "base_image_url"),
        description="The image with the subject: an address, a data URL, base64 or the path of a stored image.",
    )
    strategy: BackgroundFixStrategy | None = Field(
        default=None, description="By default the one of the given source: a palette image, an image, or a prompt."
    )
    palette_image: ImageSource | None = Field(
        default=None,
        description="COLOR_SHIFT: its background has the colour for the new background. "
        "REPLACE_IMAGE: the new background, if `background_image_url` is absent.",
    )
    background_image_url: ImageSource | None = Field(
        default=None, description="REPLACE_IMAGE: the new background. It is scaled to cover the image."
    )
    background_prompt: Prompt | None = Field(
        default=None, min_length=1, pattern=r"\S", description="REPLACE_PROMPT: the new background in words."
    )
    seed: Seed | None = None
    steps: int | None = Field(default=None, ge=1, le=200, description="REPLACE_PROMPT: denoising steps, 28 by default.")
    native: bool | None = Field(default=None, description=f"REPLACE_PROMPT: {NATIVE} True by default.")

    mask_expansion_percentage: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Width of the old background that is kept around the subject, as a share of the longer side. By "
        "default 0.005 for COLOR_SHIFT, 0 where the background is replaced.",
    )
    mask_expansion: int | None = Field(default=None, ge=0, le=16_384, description="The same in pixels.")
    shadow_threshold: float | None = Field(
        default=None,
        ge=0,
        le=255,
        description="COLOR_SHIFT: lightness (L* from 0 to 255) up to which nothing is shifted; 150 by default.",
    )
    light_threshold: float | None = Field(
        default=None,
        ge=0,
        le=255,
        description="COLOR_SHIFT: lightness from which on the shift is whole; 220 by default. In proportion between.",
    )
    edge_blur_sigma: float | None = Field(
        default=None,
        ge=0,
        le=500,
        description="Sigma in pixels of the blur between the kept surroundings of the subject and the new background. "
        "20 for COLOR_SHIFT, 0 where the background is replaced.",
    )
    blend_strength: float = Field(
        default=1.0, ge=0, le=1, description="Softness of edges: 1 leaves matte and blur unchanged, 0 cuts hard."
    )

    @model_validator(mode="after")
    def _the_contract_has_one_field_for_both_images(self) -> Self:
        if self.strategy is BackgroundFixStrategy.REPLACE_IMAGE and self.background_image_url is None:
            self.background_image_url, self.palette_image = self.palette_image, None
        return self


class BackgroundFixTaskPublic(ResultImage, TaskPublic):
    """A background fix."""

    task_type: Literal[TaskType.BACKGROUND_FIX] = TaskType.BACKGROUND_FIX
    base_image_path: str
    palette_image_path: str | None = None
    background_image_path: str | None = None
    background_prompt: str | None = None
    strategy: BackgroundFixStrategy
    mask_expansion_percentage: float | None = None
    mask_expansion: int | None = None
    shadow_threshold: float | None = None
    light_threshold: float | None = None
    edge_blur_sigma: float | None = None
    blend_strength: float
    seed: int | None = None
    steps: int | None = None


class BackgroundFixTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class BackgroundFix(TaskKind[CreateBackgroundFixTask]):
    """Finds the subject, changes or generates the background, and puts the subject in front."""

    name = TaskType.BACKGROUND_FIX
    queue = "image"
    roles = frozenset()
    image_fields = ("base_image",)
    folder = "background_fixes"
    capabilities = frozenset({ProviderCapability.BACKGROUND_REMOVAL, ProviderCapability.INPAINT})
    create_model = CreateBackgroundFixTask
    public_model = BackgroundFixTaskPublic
    update_model = BackgroundFixTaskPublicUpdate

    def queue_for(self, request: CreateBackgroundFixTask) -> str:
        return "inference" if _generates(request) else self.queue

    def roles_for(self, request: CreateBackgroundFixTask) -> frozenset[Role]:
        return frozenset({"draw"}) if _generates(request) else self.roles

    async def prepare(self, request: CreateBackgroundFixTask, inputs: Inputs) -> dict[str, Any]:
        strategy = _checked_strategy(request)
        model = chosen_model(request.provider_config)
        base = await inputs.image(request.base_image, field="base_image")
        sources = {
            f"{name}_path": (await inputs.image(source, field=field)).path if source else None
            for name, field in (("palette_image", "palette_image"), ("background_image", "background_image_url"))
            for source in (getattr(request, field),)
        }
        kept = request.model_dump(mode="json", include={"background_prompt", "blend_strength"})
        return {
            **kept,
            **sources,
            **_margin_fields(request, strategy),
            **_threshold_fields(request, strategy),
            **_generation_fields(request, strategy, base, inputs.size_multiple),
            "strategy": strategy,
            "base_image_path": base.path,
            "segmentation_model": model,
        }

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        work = _generate_behind if job.spec["strategy"] == BackgroundFixStrategy.REPLACE_PROMPT else _compute_behind
        return run_work(job, worker, partial(work, job.spec))

    def public_fields(self, task: Task) -> dict[str, Any]:
        return {name: task.spec.get(name) for name in _SHOWN_FIELDS} | {"result_image_path": first_path(task)}


_SHOWN_FIELDS = (
    BackgroundFixTaskPublic.model_fields.keys()
    - TaskPublic.model_fields.keys()
    - {
        "task_type",
        *ResultImage.model_fields,
    }
)


def _strategy(request: CreateBackgroundFixTask) -> BackgroundFixStrategy:
    """The named strategy, or else the one whose source is given."""
    given = [strategy for strategy, field in _SOURCES.items() if getattr(request, field) is not None]
    return request.strategy or (given[0] if given else BackgroundFixStrategy.COLOR_SHIFT)


def _generates(request: CreateBackgroundFixTask) -> bool:
    return _strategy(request) is BackgroundFixStrategy.REPLACE_PROMPT


def _checked_strategy(request: CreateBackgroundFixTask) -> BackgroundFixStrategy:
    """The strategy, after a check of its fields.

    Raises:
        InvalidInput: the strategy's source is missing, or a field of another strategy is given.
    """
    strategy = _strategy(request)
    for field, owner in _ONLY_FOR.items():
        if owner is not strategy and getattr(request, field) is not None:
            raise InvalidInput(f"This is for {owner} only, and the strategy is {strategy}.", field=field)
    if getattr(request, _SOURCES[strategy]) is None:
        raise InvalidInput(f"Strategy {strategy} needs it.", field=_SOURCES[strategy])
    return strategy


def _margin_fields(request: CreateBackgroundFixTask, strategy: BackgroundFixStrategy) -> dict[str, Any]:
    """The subject's surroundings are old background: a colour shift may keep them, a replacement should not."""
    shifts = strategy is BackgroundFixStrategy.COLOR_SHIFT
    share, pixels, sigma = request.mask_expansion_percentage, request.mask_expansion, request.edge_blur_sigma
    if share is not None and pixels is not None:
        raise InvalidInput("Give the expansion once, in pixels or as a share.", field="mask_expansion")
    if share is None and pixels is None:
        share = _DEFAULT_EXPANSION if shifts else 0.0
    if sigma is None:
        sigma = _DEFAULT_BLUR_SIGMA if shifts else 0.0
    return {"mask_expansion_percentage": share, "mask_expansion": pixels, "edge_blur_sigma": sigma}


def _threshold_fields(request: CreateBackgroundFixTask, strategy: BackgroundFixStrategy) -> dict[str, Any]:
    if strategy is not BackgroundFixStrategy.COLOR_SHIFT:
        return {}
    shadow = _DEFAULT_SHADOW if request.shadow_threshold is None else request.shadow_threshold
    light = max(_DEFAULT_LIGHT, shadow) if request.light_threshold is None else request.light_threshold
    if light < shadow:
        raise InvalidInput(f"It lies below the shadow_threshold of {shadow:g}.", field="light_threshold")
    return {"shadow_threshold": shadow, "light_threshold": light}


def _generation_fields(
    request: CreateBackgroundFixTask, strategy: BackgroundFixStrategy, base: InputImage, multiple: int
) -> dict[str, Any]:
    if strategy is not BackgroundFixStrategy.REPLACE_PROMPT:
        return {}
    scale = min(1.0, math.sqrt(DRAWN_PIXELS / (base.width * base.height)))
    width, height = (max(1, round(side * scale / multiple)) * multiple for side in (base.width, base.height))
    seed = seed_or_new(request.seed)
    return {"seed": seed, "steps": request.steps or 28, "drawn_width": width, "drawn_height": height}


async def _compute_behind(spec: dict[str, Any], context: RunContext) -> None:
    """Run COLOR_SHIFT or REPLACE_IMAGE, on the CPU."""
    from compute.worker.ops.background import color_shift, cut, replace

    shifts = spec["strategy"] == BackgroundFixStrategy.COLOR_SHIFT
    source, field = (
        ("palette_image_path", "palette_image") if shifts else ("background_image_path", "background_image_url")
    )
    base = await context.load(spec["base_image_path"], field="base_image")
    other = await context.load(spec[source], field=field)
    async with context.device():
        scene = await context.compute(partial(cut, base, spec, context.models_root))
        context.progress(0.6)
        work = color_shift if shifts else replace
        result, notes = await context.compute(partial(work, scene, other, spec, context.models_root))
        context.progress(0.9)
    context.note(**notes)
    await context.publish(result)


async def _generate_behind(spec: dict[str, Any], context: RunContext) -> None:
    """Run REPLACE_PROMPT: the device generates; segmentation and compositing use the CPU meanwhile."""
    from compute.worker.ops.background import cut, inpainting, replace

    base = await context.load(spec["base_image_path"], field="base_image")
    scene = await context.compute(partial(cut, base, spec, context.models_root))
    size = spec["drawn_width"], spec["drawn_height"]
    image, mask = await context.compute(partial(inpainting, scene, spec, size))
    request = GenerateRequest(
        prompt=spec["background_prompt"],
        width=size[0],
        height=size[1],
        steps=spec["steps"],
        guidance_scale=GUIDANCE_SCALE,
        seed=spec["seed"],
        image=image,
        mask=mask,
    )
    async with context.device():
        generated: Image.Image = await context.generate(request, shown=base.size, share=(0.0, 0.95))
    result, notes = await context.compute(partial(replace, scene, generated, spec, context.models_root))
    context.note(**notes)
    await context.publish(result, seed=spec["seed"])
