"""DETAIL_ENHANCER: gives a part of the subject the fine detail of a reference image, and changes nothing else."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Literal

from pydantic import AliasChoices, Field

from compute.db.tables import Task
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import ImageSource, NativeChoice, Prompt, ResultImage, Seed
from compute.schemas.tasks import CreateTask, ShortText, TaskPublic, TaskUpdate
from compute.tasks.enhancing import EnhancerSteps, WorkingSize, path_of_image
from compute.tasks.registry import Inputs, TaskKind
from compute.tasks.results import first_path, metadata_of
from compute.tasks.seeds import seed_or_new
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Job, WorkerContext, WorkEvent

__all__ = ["CreateDetailEnhancerTask", "DetailEnhancer", "DetailEnhancerTaskPublic", "DetailEnhancerTaskPublicUpdate"]

DENOISE = 0.5
"""Noise at strength 1; `CAREFUL_DENOISE` applies with `preserve_original`."""
CAREFUL_DENOISE = 0.2
CAREFUL_TRANSFER = 0.5
"""The share of the transfer that is applied with `preserve_original`."""
ATTEMPTS = 2


class CreateDetailEnhancerTask(NativeChoice, CreateTask):
    """Enhance the detail of a garment, a logo or the whole subject, optionally with a reference image."""

    task_type: Literal[TaskType.DETAIL_ENHANCER] = TaskType.DETAIL_ENHANCER
    base_image: ImageSource = Field(
        validation_alias=AliasChoices("base_image", "base_image_url"),
        description="The image to enhance: an address, a data URL, base64, or the path of a stored image.",
    )
    reference_image: ImageSource | None = Field(
        default=None,
        validation_alias=AliasChoices("reference_image", "reference_image_url"),
        description="An image that shows the detail well, given in the same ways. Without one, the existing detail is "
        "only sharpened.",
    )
    detail_label: ShortText | None = Field(
        default=None,
        description="What to enhance, e.g. `tshirt`, `pants`, `shoes`, `face`, `dress` or `logos`. The region is found "
        "by the subject's outline and face; an unknown label means the whole subject.",
    )
    strength: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="How much detail is transferred and how much is regenerated: 0 leaves the image unchanged.",
    )
    prompt: Prompt | None = Field(default=None, description="What the detail should look like.")
    preserve_original: bool = Field(
        default=False,
        description=f"Minimise changes: {CAREFUL_TRANSFER:.0%} of the transfer, noise of {CAREFUL_DENOISE} instead of "
        f"{DENOISE} at strength 1, and stricter checks: SSIM at least 0.8, LPIPS at most 0.2 and DISTS at most 0.15, "
        "instead of 0.55, 0.45 and 0.30.",
    )
    seed: Seed | None = None
    steps: EnhancerSteps = 28
    working_size: WorkingSize = 1024


class DetailEnhancerTaskPublic(ResultImage, TaskPublic):
    """A detail enhancer task."""

    task_type: Literal[TaskType.DETAIL_ENHANCER] = TaskType.DETAIL_ENHANCER
    base_image_path: str
    reference_image_path: str | None = None
    detail_label: str | None = None
    strength: float
    prompt: str | None = None
    preserve_original: bool
    seed: int
    steps: int
    working_size: int
    region: str | None = Field(default=None, description="The region that the label means; null before the end.")
    fallback_used: bool = Field(
        default=False, description="No attempt was close enough, so the transferred detail alone was published."
    )


class DetailEnhancerTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class DetailEnhancer(TaskKind[CreateDetailEnhancerTask]):
    """Finds the region, transfers detail, regenerates, compares and puts back: see `compute.worker.ops.detail`."""

    name = TaskType.DETAIL_ENHANCER
    queue = "refine"
    image_fields = ("base_image",)
    folder = "detail_enhancements"
    capabilities = frozenset({ProviderCapability.IMAGE_TO_IMAGE, ProviderCapability.REFERENCE_IMAGE})
    create_model = CreateDetailEnhancerTask
    public_model = DetailEnhancerTaskPublic
    update_model = DetailEnhancerTaskPublicUpdate

    async def prepare(self, request: CreateDetailEnhancerTask, inputs: Inputs) -> dict[str, Any]:
        reference = request.reference_image
        return request.model_dump(mode="json", include=_KEPT_FIELDS) | {
            "base_image_path": await path_of_image(request.base_image, inputs, "base_image"),
            "reference_image_path": await path_of_image(reference, inputs, "reference_image") if reference else None,
            "seed": seed_or_new(request.seed),
            "size_multiple": inputs.size_multiple,
        }

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(_enhance, job.spec))

    def public_fields(self, task: Task) -> dict[str, Any]:
        metadata = metadata_of(task)
        return {name: task.spec[name] for name in _SHOWN_FIELDS} | {
            "region": metadata.get("region"),
            "fallback_used": metadata.get("fallback_used", False),
            "result_image_path": first_path(task),
        }


_KEPT_FIELDS = {"detail_label", "strength", "prompt", "preserve_original", "steps", "working_size"}
_SHOWN_FIELDS = _KEPT_FIELDS | {"base_image_path", "reference_image_path", "seed"}


async def _enhance(spec: dict[str, Any], context: RunContext) -> None:
    # Imported here because it loads OpenCV, which the ingress does not need.
    from compute.worker.ops.detail import DetailOutcome, find_regions, put_back, with_detail
    from compute.worker.ops.patch import regenerate

    base = await context.load(spec["base_image_path"], field="base_image")
    path = spec["reference_image_path"]
    reference = await context.load(path, field="reference_image") if path else None
    regions = await find_regions(context, spec["detail_label"], base, reference)
    transfer = spec["strength"] * (CAREFUL_TRANSFER if spec["preserve_original"] else 1.0)
    detailed = await with_detail(context, base, regions, transfer)
    async with context.device():
        regenerated = await regenerate(context, detailed, _settings(spec)) if spec["strength"] > 0 else None
    outcome = await put_back(context, base, regions, detailed, regenerated) if regenerated else DetailOutcome(base)
    context.note(
        region=regions.base.name,
        region_box=list(regions.base.box),
        attempts_used=outcome.attempts,
        fallback_used=outcome.fallback_used,
        final_ssim_score=outcome.ssim,
    )
    await context.publish(outcome.image, seed=spec["seed"])


def _settings(spec: dict[str, Any]) -> Any:
    from compute.worker.ops.detail import SAME_PIECE
    from compute.worker.ops.patch import SAME_SCENE, PatchSettings

    careful, label = spec["preserve_original"], spec["detail_label"] or "subject"
    return PatchSettings(
        prompt=spec["prompt"] or f"a close product photograph, {label}, crisp fine detail and texture",
        steps=spec["steps"],
        denoise=spec["strength"] * (CAREFUL_DENOISE if careful else DENOISE),
        seed=spec["seed"],
        limits=SAME_PIECE if careful else SAME_SCENE,
        side=spec["working_size"],
        multiple=spec["size_multiple"],
        attempts=ATTEMPTS,
    )
