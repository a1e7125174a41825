"""FAL_GARMENT_FIXER: edits that bring a garment back to what its references show."""

from dataclasses import replace
from typing import Any, Literal

from compute.providers.base import Assignment
from compute.providers.vendors.fal.provider import FalProvider, app_for
from compute.providers.vendors.offers import check_edit, checked_operation
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Edit, Operation
from compute.tasks.registry import TaskKind

__all__ = ["FalGarmentFixer", "FalGarmentFixerConfig"]

_MOST_REFERENCES = 4
_OFFERS = frozenset({ProviderCapability.IMAGE_EDIT, ProviderCapability.REFERENCE_IMAGE, ProviderCapability.OUTPUT_SIZE})
_PURPOSE = "fix_garment"
_WISH = (
    "Correct the garment: its cut, seams, pattern, prints and texture as they are in reality, and as the other images "
    "show them. Keep the person, the pose, the light and the background."
)


class FalGarmentFixerConfig(JsonBody):
    """Settings of corrections of garments on fal; there are none but the operator's `fix_garment` app."""

    provider_type: Literal["FAL_GARMENT_FIXER"] = "FAL_GARMENT_FIXER"


class FalGarmentFixer(FalProvider[FalGarmentFixerConfig]):
    """FAL_GARMENT_FIXER."""

    name = ProviderType.FAL_GARMENT_FIXER
    config_model = FalGarmentFixerConfig

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return _OFFERS if kind.name is TaskType.EDITING else frozenset()

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        self.account(settings)
        edit = checked_operation(self.name, operation, Edit)
        check_edit(self.name, edit, masks=False, references=_MOST_REFERENCES)
        app_for(settings, _PURPOSE, edit.app, "fal_app_id")

    async def work(self, assignment: Assignment[FalGarmentFixerConfig]) -> None:
        edit = checked_operation(self.name, assignment.operation, Edit)
        app = app_for(assignment.settings, _PURPOSE, edit.app, "fal_app_id")
        wish = f"{_WISH} {edit.prompt}".rstrip()
        await self.edit(assignment, replace(edit, prompt=wish), app)
