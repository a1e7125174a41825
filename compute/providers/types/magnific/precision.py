"""FREEPIK_MAGNIFIC_PRECISION: Magnific's faithful upscaler, in its second version."""

import math
from typing import Any, Literal

from pydantic import Field

from compute.errors import InvalidInput
from compute.providers.base import Assignment
from compute.providers.vendors.magnific import PRECISION, MagnificProvider
from compute.providers.vendors.offers import check_refine, checked_operation
from compute.schemas.enums import ProviderType
from compute.schemas.fields import Prompt
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Operation, Refine

__all__ = ["FreepikMagnificPrecision", "FreepikMagnificPrecisionConfig"]

_FACTORS = (2, 16)
_WIDEST = 10_060
_NARROWEST = 160
_MOST_RATIO = 3


def _level(default: int, description: str) -> Any:
    return Field(default=default, ge=0, le=100, description=f"{description} From 0 to 100.")


class FreepikMagnificPrecisionConfig(JsonBody):
    """Settings of Magnific's precise upscaler."""

    provider_type: Literal["FREEPIK_MAGNIFIC_PRECISION"] = "FREEPIK_MAGNIFIC_PRECISION"
    sharpen: int = _level(7, "How much edges are sharpened.")
    smart_grain: int = _level(7, "How much fine grain is added.")
    ultra_detail: int = _level(30, "How much fine detail is added.")
    defaultPrompt: Prompt | None = Field(  # noqa: N815 - the contract's spelling
        default=None,
        description="The prompt of requests that have none. This upscaler takes no prompt: it is stored with the "
        "result, as `prompt` of its metadata.",
    )


class FreepikMagnificPrecision(MagnificProvider[FreepikMagnificPrecisionConfig]):
    """FREEPIK_MAGNIFIC_PRECISION."""

    name = ProviderType.FREEPIK_MAGNIFIC_PRECISION
    config_model = FreepikMagnificPrecisionConfig
    mode = PRECISION

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        self.account(settings)
        refine = checked_operation(self.name, operation, Refine)
        check_refine(self.name, refine, most=_FACTORS[1])
        if refine.base_size is None:
            return
        shorter, longer = sorted(refine.base_size)
        if shorter < _NARROWEST or longer > _MOST_RATIO * shorter:
            raise InvalidInput(
                f"{self.name} takes images of at least {_NARROWEST} pixels a side and of a ratio from 1:{_MOST_RATIO} "
                f"to {_MOST_RATIO}:1.",
                field=refine.image.field,
            )
        if longer * _factor(refine) > _WIDEST:
            raise InvalidInput(
                f"{self.name} enlarges this image {_factor(refine)} times, to {longer * _factor(refine)} pixels; at "
                f"most {_WIDEST} a side are made.",
                field=refine.size_field,
            )

    async def work(self, assignment: Assignment[FreepikMagnificPrecisionConfig]) -> None:
        refine, config = checked_operation(self.name, assignment.operation, Refine), assignment.config
        parameters = {
            "scale_factor": _factor(refine),
            "sharpen": config.sharpen,
            "smart_grain": config.smart_grain,
            "ultra_detail": config.ultra_detail,
        }
        if prompt := refine.prompt or config.defaultPrompt:
            assignment.context.note(prompt=prompt)
        await self.refine(assignment, refine, parameters)


def _factor(refine: Refine) -> int:
    """The least whole factor that is enough."""
    return max(_FACTORS[0], math.ceil(refine.factor / 1.01))
