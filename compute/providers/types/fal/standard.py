"""FAL_STANDARD: fal's apps for everything that this cluster does itself, and any other app with its own arguments."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from compute.errors import InvalidInput
from compute.providers.base import Assignment, publish
from compute.providers.calls.call import Collected
from compute.providers.vendors.cutouts import publish_cutouts
from compute.providers.vendors.fal.arguments import (
    CLARITY_MOST,
    animate_arguments,
    cutout_arguments,
    draw_arguments,
)
from compute.providers.vendors.fal.provider import FalProvider, app_for
from compute.providers.vendors.fal.queue import APP_ID
from compute.providers.vendors.offers import check_edit, check_refine, checked_operation, refuse_loras
from compute.providers.vendors.pictures import publish_at
from compute.providers.vendors.queued import REQUEST_ID, all_of
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.fields import MAX_SEED, FreeObject
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import (
    Animate,
    CallApp,
    Draw,
    Edit,
    Operation,
    Picture,
    Refine,
    RemoveBackground,
)
from compute.tasks.registry import TaskKind

__all__ = ["FalStandard", "FalStandardConfig"]

_CONFIG_APP = "provider_config.fal_app_id"
_CONFIG_REQUEST = "provider_config.fal_request_id"
_MOST_REFERENCES = 4
_OFFERS: Mapping[TaskType, frozenset[ProviderCapability]] = {
    TaskType.GENERATION: frozenset(
        {
            ProviderCapability.TEXT_TO_IMAGE,
            ProviderCapability.IMAGE_TO_IMAGE,
            ProviderCapability.REFERENCE_IMAGE,
            ProviderCapability.OUTPUT_SIZE,
        }
    ),
    TaskType.EDITING: frozenset(
        {
            ProviderCapability.IMAGE_EDIT,
            ProviderCapability.INPAINT,
            ProviderCapability.REFERENCE_IMAGE,
            ProviderCapability.OUTPUT_SIZE,
        }
    ),
    TaskType.REFINE: frozenset(
        {
            ProviderCapability.UPSCALE_2X,
            ProviderCapability.UPSCALE_4X,
            ProviderCapability.UPSCALE_FLOAT,
            ProviderCapability.OUTPUT_SIZE,
        }
    ),
    TaskType.VIDEO_GENERATION: frozenset({ProviderCapability.IMAGE_TO_VIDEO}),
    TaskType.BACKGROUND_REMOVAL: frozenset({ProviderCapability.BACKGROUND_REMOVAL}),
    # Any app may be called, and there is one for everything.
    TaskType.EXPERIMENTAL_FAL: frozenset(ProviderCapability),
}


class FalStandardConfig(JsonBody):
    """Settings of tasks that fal's apps do."""

    provider_type: Literal["FAL_STANDARD"] = "FAL_STANDARD"
    fal_app_id: str | None = Field(
        default=None,
        max_length=200,
        pattern=APP_ID,
        description="The app to run, as `owner/app` or `owner/app/path`. The request's own `fal_app_id` comes before "
        "it; without either the operator's app for the operation is run.",
    )
    fal_request_id: str | None = Field(
        default=None,
        pattern=REQUEST_ID,
        description="A request that was submitted to the app earlier: its result is collected, and nothing is "
        "submitted or paid.",
    )
    additional_static_params: FreeObject | None = Field(
        default=None,
        description="Arguments for the app, which replace those made of the request; null takes one away.",
    )


class FalStandard(FalProvider[FalStandardConfig]):
    """FAL_STANDARD."""

    name = ProviderType.FAL_STANDARD
    config_model = FalStandardConfig

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return _OFFERS.get(kind.name, frozenset())

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        self.account(settings)
        checked_operation(self.name, operation, Draw, Edit, Refine, Animate, RemoveBackground, CallApp)
        assert operation is not None and isinstance(config, FalStandardConfig)  # noqa: S101, PT018 - see `config_model`
        _app_of(operation, config, settings)
        several = isinstance(operation, Draw) and operation.count > 1
        several = several or (isinstance(operation, RemoveBackground) and len(operation.images) > 1)
        if config.fal_request_id and several:
            raise InvalidInput("One request is followed, and this task needs several.", field=_CONFIG_REQUEST)
        match operation:
            case Draw():
                refuse_loras(self.name, operation)
            case Edit():
                most = 0 if operation.mask else _MOST_REFERENCES
                check_edit(self.name, operation, masks=True, references=most)
            case Refine():
                check_refine(self.name, operation, most=CLARITY_MOST)

    def request_id(self, config: FalStandardConfig) -> str | None:
        return config.fal_request_id

    def static(self, config: FalStandardConfig) -> dict[str, Any] | None:
        return config.additional_static_params

    async def work(self, assignment: Assignment[FalStandardConfig]) -> None:
        app = _app_of(assignment.operation, assignment.config, assignment.settings)
        match assignment.operation:
            case Draw() as operation:
                await self._draw(assignment, operation, app)
            case Edit() as operation:
                await self.edit(assignment, operation, app)
            case Refine() as operation:
                await self.refine(assignment, operation, app)
            case RemoveBackground() as operation:
                await self._cut_out(assignment, operation, app)
            case Animate() as operation:
                arguments = await animate_arguments(operation, assignment.context)
                made = await self.call(assignment, "clip", app, arguments)
                publish(assignment.context, made, seed=operation.seed, model=app)
            case CallApp() as operation:
                made = await self.call(assignment, "app", app, operation.arguments, needs_files=False)
                assignment.context.note(result=made.data)
                publish(assignment.context, made, model=app)

    async def _draw(self, assignment: Assignment[FalStandardConfig], operation: Draw, app: str) -> None:
        """Each image is a request of its own: an app numbers the seeds of several as it likes."""
        seeds = [(operation.seed + index) % (MAX_SEED + 1) for index in range(operation.count)]
        arguments = await draw_arguments(operation, assignment.context)
        made = await all_of(
            [
                self.call(assignment, f"image/{index}", app, arguments | {"seed": seed})
                for index, seed in enumerate(seeds)
            ]
        )
        for seed, one in zip(seeds, made, strict=True):
            size = operation.width, operation.height
            await publish_at(assignment.context, one, size, seed=seed, model=app)

    async def _cut_out(self, assignment: Assignment[FalStandardConfig], operation: RemoveBackground, app: str) -> None:
        async def cut_out(index: int, image: Picture) -> Collected:
            arguments = await cutout_arguments(image, assignment.context)
            return await self.call(assignment, f"image/{index}", app, arguments)

        await publish_cutouts(assignment.context, operation, cut_out, model=app)


_PURPOSES: Mapping[type[Operation], str] = {
    Draw: "draw",
    Edit: "edit",
    Refine: "refine",
    RemoveBackground: "remove_background",
    Animate: "animate",
    CallApp: "call_app",
}


def _app_of(operation: Operation, config: FalStandardConfig, settings: Settings) -> str:
    """The app that does an operation: the request's, else the configuration's, else that of the settings."""
    purpose = _PURPOSES[type(operation)]
    if isinstance(operation, Draw) and operation.image is not None:
        purpose = "image_to_image"
    if isinstance(operation, Edit) and operation.mask is not None:
        purpose = "inpaint"
    asked = getattr(operation, "app", None)
    return app_for(settings, purpose, asked or config.fal_app_id, "fal_app_id" if asked else _CONFIG_APP)
