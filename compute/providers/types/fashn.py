"""FASHN_STANDARD: garments are put on people, images are edited, and backgrounds are removed by FASHN's models."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from compute.errors import InvalidInput
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.calls.call import Collected
from compute.providers.vendors.cutouts import publish_cutouts
from compute.providers.vendors.fashn import FashnQueue, edit_inputs, fashn_account
from compute.providers.vendors.offers import check_edit, checked_operation
from compute.providers.vendors.pictures import data_uri, publish_at
from compute.providers.vendors.queued import REQUEST_ID, queued
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Edit, Operation, Picture, RemoveBackground
from compute.tasks.registry import TaskKind

__all__ = ["FashnStandard", "FashnStandardConfig"]

_GARMENTS = frozenset({"garment", "product"})
_BACKGROUND_REMOVE = "background-remove"
_OFFERS: Mapping[TaskType, frozenset[ProviderCapability]] = {
    TaskType.EDITING: frozenset(
        {ProviderCapability.IMAGE_EDIT, ProviderCapability.REFERENCE_IMAGE, ProviderCapability.OUTPUT_SIZE}
    ),
    TaskType.BACKGROUND_REMOVAL: frozenset({ProviderCapability.BACKGROUND_REMOVAL}),
}


class FashnStandardConfig(JsonBody):
    """Settings of tasks that FASHN's models do."""

    provider_type: Literal["FASHN_STANDARD"] = "FASHN_STANDARD"
    fashn_task_id: str | None = Field(
        default=None,
        pattern=REQUEST_ID,
        description="A prediction that was started earlier: its result is collected, and nothing is submitted or paid.",
    )
    max_image_height: int = Field(
        default=2000,
        ge=64,
        le=16_384,
        description="Pixels; a higher image is scaled down before it is sent. FASHN advises 2000.",
    )
    max_wait_seconds: int | None = Field(
        default=None,
        ge=1,
        le=86_400,
        description="Longest that FASHN may take for one prediction; by default the operator's limit.",
    )
    poll_interval: int = Field(
        default=2,
        ge=1,
        le=60,
        description="Seconds between looks at a prediction. Without it the first look comes after 2 and later ones "
        "less often.",
    )


class FashnStandard(RemoteProvider[FashnStandardConfig]):
    """FASHN_STANDARD. An edit with a reference, which is a garment, is a try-on."""

    name = ProviderType.FASHN_STANDARD
    config_model = FashnStandardConfig
    queue = "fashn"

    def account(self, settings: Settings) -> Account:
        return fashn_account(settings, user=self.name)

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return _OFFERS.get(kind.name, frozenset())

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        self.account(settings)
        if isinstance(operation, RemoveBackground):
            if getattr(config, "fashn_task_id", None) and len(operation.images) > 1:
                field = "provider_config.fashn_task_id"
                raise InvalidInput("One prediction is followed, and this task needs several.", field=field)
            return
        edit = checked_operation(self.name, operation, Edit)
        check_edit(self.name, edit, masks=False, references=1)
        for reference in edit.references:
            if reference.shows and reference.shows.lower() not in _GARMENTS:
                raise InvalidInput(f"{self.name} takes a garment as reference, nothing else.", field=reference.field)

    def reopen(self, vendor: str, endpoint: str, settings: Settings) -> FashnQueue | None:
        return FashnQueue(self.account(settings), settings.fashn_base_url) if vendor == "fashn" else None

    async def work(self, assignment: Assignment[FashnStandardConfig]) -> None:
        if isinstance(assignment.operation, RemoveBackground):
            await self._cut_out(assignment, assignment.operation)
        else:
            await self._edit(assignment, checked_operation(self.name, assignment.operation, Edit))

    async def _edit(self, assignment: Assignment[FashnStandardConfig], edit: Edit) -> None:
        settings = assignment.settings
        uris = [await self._image(assignment, one) for one in (edit.image, *edit.references)]
        model, inputs = edit_inputs(settings, uris, edit.prompt, edit.seed)
        made = await self._call(assignment, "image", model, inputs)
        await publish_at(assignment.context, made, (edit.width, edit.height), seed=edit.seed, model=model)

    async def _cut_out(self, assignment: Assignment[FashnStandardConfig], operation: RemoveBackground) -> None:
        async def cut_out(index: int, picture: Picture) -> Collected:
            inputs = {"image": await self._image(assignment, picture)}
            return await self._call(assignment, f"image/{index}", _BACKGROUND_REMOVE, inputs)

        await publish_cutouts(assignment.context, operation, cut_out, model=_BACKGROUND_REMOVE)

    async def _image(self, assignment: Assignment[FashnStandardConfig], picture: Picture) -> str:
        return await data_uri(assignment.context, picture, max_height=assignment.config.max_image_height)

    async def _call(
        self, assignment: Assignment[FashnStandardConfig], part: str, model: str, inputs: dict[str, Any]
    ) -> Collected:
        config, settings = assignment.config, assignment.settings
        made = await queued(
            assignment,
            part,
            FashnQueue(self.account(settings), settings.fashn_base_url),
            {"model_name": model, "inputs": inputs},
            followed=config.fashn_task_id,
            wait=config.max_wait_seconds,
            poll=config.poll_interval if "poll_interval" in config.model_fields_set else None,
        )
        assignment.context.note(fashn_task_id=made.vendor_id)
        return made
