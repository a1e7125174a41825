"""FACE_ENHANCER: regenerates the faces of an image in a close view, and changes nothing else."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Literal

from pydantic import AliasChoices, Field

from compute.db.tables import Task
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import ImageSource, NativeChoice, Prompt, ResultImage, Seed
from compute.schemas.tasks import CreateTask, TaskPublic, TaskUpdate
from compute.tasks.enhancing import EnhancerSteps, WorkingSize, path_of_image
from compute.tasks.operations import EnhanceFaces, Picture
from compute.tasks.registry import Inputs, TaskKind
from compute.tasks.results import first_path, metadata_of
from compute.tasks.seeds import seed_or_new
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Job, WorkerContext, WorkEvent

__all__ = ["CreateFaceEnhancerTask", "FaceEnhancer", "FaceEnhancerTaskPublic", "FaceEnhancerTaskPublicUpdate"]

DEFAULT_PROMPT = "a close portrait photograph, natural skin texture, sharp eyes, fine hair"
IDENTITY_DENOISE = 0.4
"""Noise at strength 1 with `preserve_identity`, which keeps pose, light and features."""
FREE_DENOISE = 0.7


class CreateFaceEnhancerTask(NativeChoice, CreateTask):
    """Regenerate the faces of an image: sharper, with natural skin."""

    task_type: Literal[TaskType.FACE_ENHANCER] = TaskType.FACE_ENHANCER
    input_image: ImageSource = Field(
        validation_alias=AliasChoices("input_image", "base_image_url"),
        description="The image with the faces: an address, a data URL, base64, or the path of a stored image.",
    )
    strength: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="How much of a face is regenerated: 0 leaves the image unchanged. It is multiplied by "
        f"{IDENTITY_DENOISE} with `preserve_identity`, else by {FREE_DENOISE}, to give the noise put on the face.",
    )
    prompt: Prompt | None = Field(default=None, description="What the faces should look like.")
    preserve_identity: bool = Field(
        default=True,
        description="Less noise and stricter checks: SSIM at least 0.75, LPIPS at most 0.25 and DISTS at most 0.18, "
        "instead of 0.55, 0.45 and 0.30.",
    )
    seed: Seed | None = None
    steps: EnhancerSteps = 28
    working_size: WorkingSize = 1024


class FaceEnhancerTaskPublic(ResultImage, TaskPublic):
    """A face enhancer task. Scores compare the face that changed most with the original."""

    task_type: Literal[TaskType.FACE_ENHANCER] = TaskType.FACE_ENHANCER
    input_image_path: str
    strength: float
    prompt: str | None = None
    preserve_identity: bool
    seed: int
    steps: int
    working_size: int
    attempts_used: int = Field(default=0, description="How often the model generated, over all faces.")
    face_detected: bool = Field(default=False, description="Without a face the result is the unchanged image.")
    fallback_used: bool = Field(
        default=False, description="No attempt was close enough to the original, so a face was sharpened without model."
    )
    final_ssim_score: float | None = Field(default=None, description="1 for no change at all.")
    final_lpips_score: float | None = Field(default=None, description="0 for no change; null without its weights.")
    final_dists_score: float | None = Field(default=None, description="0 for no change; null without its weights.")


class FaceEnhancerTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class FaceEnhancer(TaskKind[CreateFaceEnhancerTask]):
    """Detects, crops, regenerates, compares and puts back: see `compute.worker.ops.face`."""

    name = TaskType.FACE_ENHANCER
    queue = "refine"
    image_fields = ("input_image",)
    folder = "face_enhancements"
    capabilities = frozenset({ProviderCapability.FACE_DETAIL, ProviderCapability.IMAGE_TO_IMAGE})
    create_model = CreateFaceEnhancerTask
    public_model = FaceEnhancerTaskPublic
    update_model = FaceEnhancerTaskPublicUpdate

    async def prepare(self, request: CreateFaceEnhancerTask, inputs: Inputs) -> dict[str, Any]:
        return request.model_dump(mode="json", include=_KEPT_FIELDS) | {
            "input_image_path": await path_of_image(request.input_image, inputs, "input_image"),
            "seed": seed_or_new(request.seed),
            "size_multiple": inputs.size_multiple,
        }

    def operation(self, spec: dict[str, Any]) -> EnhanceFaces:
        return EnhanceFaces(
            image=Picture(spec["input_image_path"], "input_image"),
            strength=spec["strength"],
            seed=spec["seed"],
            prompt=spec["prompt"],
            preserve_identity=spec["preserve_identity"],
        )

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(_enhance, job.spec))

    def public_fields(self, task: Task) -> dict[str, Any]:
        metadata = metadata_of(task)
        shown = {name: task.spec[name] for name in (*_KEPT_FIELDS, "input_image_path", "seed")}
        found = {name: metadata[name] for name in _FOUND_FIELDS if name in metadata}
        return shown | found | {"result_image_path": first_path(task)}


_KEPT_FIELDS = {"strength", "prompt", "preserve_identity", "steps", "working_size"}
_FOUND_FIELDS = (
    "attempts_used",
    "face_detected",
    "fallback_used",
    "final_ssim_score",
    "final_lpips_score",
    "final_dists_score",
)


async def _enhance(spec: dict[str, Any], context: RunContext) -> None:
    # Imported here because it loads OpenCV, which the ingress does not need.
    from compute.imaging.colour import with_mode_of
    from compute.imaging.similarity import missing_weights
    from compute.worker.ops.face import enhance_faces, find_faces

    image = await context.load(spec["input_image_path"], field="input_image")
    colours = await context.compute(partial(image.convert, "RGB"))
    faces = await find_faces(context, colours)
    async with context.device():
        outcome = await enhance_faces(context, colours, _settings(spec), faces=faces)
    context.note(
        attempts_used=outcome.attempts,
        face_detected=outcome.detected,
        fallback_used=outcome.fallback_used,
        final_ssim_score=outcome.ssim,
        final_lpips_score=outcome.lpips,
        final_dists_score=outcome.dists,
        faces=list(outcome.faces),
        scores_missing=missing_weights(context.models_root),
    )
    result = await context.compute(partial(with_mode_of, image, outcome.image))
    await context.publish(result, seed=spec["seed"])


def _settings(spec: dict[str, Any]) -> Any:
    from compute.worker.ops.face import SAME_PERSON, FaceSettings
    from compute.worker.ops.patch import SAME_SCENE, PatchSettings

    keeps = spec["preserve_identity"]
    patch = PatchSettings(
        prompt=spec["prompt"] or DEFAULT_PROMPT,
        steps=spec["steps"],
        denoise=spec["strength"] * (IDENTITY_DENOISE if keeps else FREE_DENOISE),
        seed=spec["seed"],
        limits=SAME_PERSON if keeps else SAME_SCENE,
        side=spec["working_size"],
        multiple=spec["size_multiple"],
    )
    return FaceSettings(patch, fallback_amount=spec["strength"])
