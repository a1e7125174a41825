"""BACKGROUND_REMOVAL: cuts out the subjects of a batch of images."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.schemas.enums import ProviderCapability, TaskType
from compute.schemas.fields import ImageSource, ResultImage, ResultImages
from compute.schemas.tasks import CreateTask, TaskPublic, TaskUpdate
from compute.tasks.operations import Picture, RemoveBackground
from compute.tasks.registry import Inputs, TaskKind
from compute.tasks.results import artifact_paths, first_path, metadata_of
from compute.tasks.segmentation import chosen_model
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Job, WorkerContext, WorkEvent

__all__ = [
    "BackgroundRemoval",
    "BackgroundRemovalTaskPublic",
    "BackgroundRemovalTaskPublicUpdate",
    "CreateBackgroundRemovalTask",
    "FailedImage",
]

MOST_IMAGES = 100


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class CreateBackgroundRemovalTask(CreateTask):
    """Cut out the subjects of images. `provider_config.rembg_model` chooses the segmentation model."""

    task_type: Literal[TaskType.BACKGROUND_REMOVAL] = TaskType.BACKGROUND_REMOVAL
    input_image_paths: Annotated[list[ImageSource], BeforeValidator(_one_or_more)] = Field(
        min_length=1,
        max_length=MOST_IMAGES,
        validation_alias=AliasChoices("input_image_paths", "image_url"),
        description=f"1 to {MOST_IMAGES} images, each an address, a data URL, base64 or the path of a stored image. "
        "`image_url` is another name for it, and may be one image without a list.",
    )
    output_format: Literal["png", "webp"] = Field(
        default="png", description="PNG is lossless; WEBP (quality 95) is several times smaller. Both have alpha."
    )


class FailedImage(BaseModel):
    """An image of a batch that has no result."""

    index: int = Field(description="Its index in `input_image_paths`, from 0.")
    path: str = Field(description="Its storage path.")
    error: str = Field(description="The reason of the failure.")


class BackgroundRemovalTaskPublic(ResultImages, ResultImage, TaskPublic):
    """A background removal.

    It is COMPLETED if at least one image was cut out: `result_image_paths` lists the results in the order of their
    inputs, and `failed` names the other inputs. With an empty `failed` the two lists match one to one. It is FAILED if
    no image was cut out.
    """

    task_type: Literal[TaskType.BACKGROUND_REMOVAL] = TaskType.BACKGROUND_REMOVAL
    input_image_paths: list[str] = Field(description="Storage paths of the inputs.")
    output_format: str
    failed: list[FailedImage] = Field(default=[], description="The inputs without a result, with the reasons.")


class BackgroundRemovalTaskPublicUpdate(TaskUpdate):
    """The body of `PUT /tasks/{id}`."""


class BackgroundRemoval(TaskKind[CreateBackgroundRemovalTask]):
    """Processes one image after the other, so that a batch takes no more memory than its largest image."""

    name = TaskType.BACKGROUND_REMOVAL
    aliases = ("BACKGROUND_REMOVE",)
    queue = "image"
    roles = frozenset()
    image_fields = ("input_image_paths",)
    folder = "background_removals"
    capabilities = frozenset({ProviderCapability.BACKGROUND_REMOVAL})
    create_model = CreateBackgroundRemovalTask
    public_model = BackgroundRemovalTaskPublic
    update_model = BackgroundRemovalTaskPublicUpdate

    async def prepare(self, request: CreateBackgroundRemovalTask, inputs: Inputs) -> dict[str, Any]:
        model = chosen_model(request.provider_config)
        images = [
            await inputs.image(source, field=f"input_image_paths.{index}")
            for index, source in enumerate(request.input_image_paths)
        ]
        return {
            "input_image_paths": [image.path for image in images],
            "output_format": request.output_format,
            "segmentation_model": model,
        }

    def operation(self, spec: dict[str, Any]) -> RemoveBackground:
        paths = spec["input_image_paths"]
        images = tuple(Picture(path, f"input_image_paths.{index}") for index, path in enumerate(paths))
        return RemoveBackground(images, spec["output_format"])

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(_remove, job.spec))

    def public_fields(self, task: Task) -> dict[str, Any]:
        paths = artifact_paths(task)
        return {
            "input_image_paths": task.spec["input_image_paths"],
            "output_format": task.spec["output_format"],
            "failed": metadata_of(task).get("failed", []),
            "result_image_path": first_path(task),
            "result_image_paths": paths,
        }


async def _remove(spec: dict[str, Any], context: RunContext) -> None:
    from compute.imaging.background import remove_background
    from compute.imaging.segmentation.segment import load_segmenter

    paths, model, models_root = spec["input_image_paths"], spec["segmentation_model"], context.models_root
    failed: list[FailedImage] = []
    async with context.device():
        # A missing model fails the whole batch.
        await context.compute(partial(load_segmenter, model, models_root))
        for index, path in enumerate(paths):
            try:
                image = await context.load(path, field=f"input_image_paths.{index}")
                alone = await context.compute(partial(remove_background, image, model=model, models_root=models_root))
            except InvalidInput as error:
                failed.append(FailedImage(index=index, path=path, error=error.detail))
            else:
                await context.publish(alone, image_format=spec["output_format"])
            context.progress((index + 1) / len(paths))
    if len(failed) == len(paths):
        raise _all_failed(failed)
    context.note(segmentation_model=model, failed=[image.model_dump() for image in failed])


def _all_failed(failed: list[FailedImage]) -> InvalidInput:
    """The error of a batch without results; it names the first few failures only."""
    reasons = "; ".join(f"{image.index}: {image.error}" for image in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return InvalidInput(f"None of the images could be cut out ({reasons}{more}).", field="input_image_paths")
