"""FAL_SHOOTIFY_REFINER: one upscaler on fal."""

from typing import Any, Literal

from pydantic import Field

from compute.providers.base import Assignment
from compute.providers.vendors.fal.arguments import CLARITY_MOST
from compute.providers.vendors.fal.provider import FalProvider, app_for
from compute.providers.vendors.fal.queue import APP_ID
from compute.providers.vendors.offers import check_refine, checked_operation
from compute.providers.vendors.queued import REQUEST_ID
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Operation, Refine
from compute.tasks.registry import TaskKind

__all__ = ["FalShootifyRefiner", "FalShootifyRefinerConfig"]

_OFFERS = frozenset(
    {
        ProviderCapability.UPSCALE_2X,
        ProviderCapability.UPSCALE_4X,
        ProviderCapability.UPSCALE_FLOAT,
        ProviderCapability.OUTPUT_SIZE,
    }
)


class FalShootifyRefinerConfig(JsonBody):
    """Settings of refinements on fal."""

    provider_type: Literal["FAL_SHOOTIFY_REFINER"] = "FAL_SHOOTIFY_REFINER"
    fal_app_id: str = Field(
        default="fal-ai/clarity-upscaler",
        max_length=200,
        pattern=APP_ID,
        description="The app that refines, as `owner/app` or `owner/app/path`. The request's own `fal_app_id` comes "
        "before it.",
    )
    fal_request_id: str | None = Field(
        default=None,
        pattern=REQUEST_ID,
        description="A request that was submitted to the app earlier: its result is collected, and nothing is "
        "submitted or paid.",
    )


class FalShootifyRefiner(FalProvider[FalShootifyRefinerConfig]):
    """FAL_SHOOTIFY_REFINER."""

    name = ProviderType.FAL_SHOOTIFY_REFINER
    config_model = FalShootifyRefinerConfig

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return _OFFERS if kind.name is TaskType.REFINE else frozenset()

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        self.account(settings)
        refine = checked_operation(self.name, operation, Refine)
        check_refine(self.name, refine, most=CLARITY_MOST)
        assert isinstance(config, FalShootifyRefinerConfig)  # noqa: S101 - see `config_model`
        app_for(settings, "refine", refine.app or config.fal_app_id, "fal_app_id")

    def request_id(self, config: FalShootifyRefinerConfig) -> str | None:
        return config.fal_request_id

    async def work(self, assignment: Assignment[FalShootifyRefinerConfig]) -> None:
        operation = checked_operation(self.name, assignment.operation, Refine)
        app = operation.app or assignment.config.fal_app_id
        await self.refine(assignment, operation, app)
