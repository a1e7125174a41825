"""FREEPIK_MAGNIFIC_PRECISION: Magnific's faithful upscaler, in its second version."""

import math
from typing import Any, Literal

from pydantic import Field

from compute.errors import InvalidInput
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.vendors.magnific import (
    PRECISION,
    UPSCALES,
    MagnificQueue,
    magnific_account,
    magnific_queue,
    mode_of,
)
from compute.providers.vendors.offers import check_refine, checked_operation
from compute.providers.vendors.pictures import data_uri, publish_at
from compute.providers.vendors.queued import queued
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.fields import Prompt
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Operation, Refine
from compute.tasks.registry import TaskKind

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


class FreepikMagnificPrecision(RemoteProvider[FreepikMagnificPrecisionConfig]):
    """FREEPIK_MAGNIFIC_PRECISION."""

    name = ProviderType.FREEPIK_MAGNIFIC_PRECISION
    config_model = FreepikMagnificPrecisionConfig
    queue = "freepik"

    def account(self, settings: Settings) -> Account:
        return magnific_account(settings, user=self.name)

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return UPSCALES if kind.name is TaskType.REFINE else frozenset()

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

    def reopen(self, vendor: str, endpoint: str, settings: Settings) -> MagnificQueue | None:
        return magnific_queue(settings, mode_of(endpoint), user=self.name) if vendor == "magnific" else None

    async def work(self, assignment: Assignment[FreepikMagnificPrecisionConfig]) -> None:
        refine, config = checked_operation(self.name, assignment.operation, Refine), assignment.config
        body = {
            "image": (await data_uri(assignment.context, refine.image)).partition(",")[2],
            "scale_factor": _factor(refine),
            "sharpen": config.sharpen,
            "smart_grain": config.smart_grain,
            "ultra_detail": config.ultra_detail,
        }
        protocol = magnific_queue(assignment.settings, PRECISION, user=self.name)
        made = await queued(assignment, "image", protocol, body)
        if prompt := refine.prompt or config.defaultPrompt:
            assignment.context.note(prompt=prompt)
        await publish_at(assignment.context, made, (refine.width, refine.height), model=PRECISION)


def _factor(refine: Refine) -> int:
    """The least whole factor that is enough."""
    return max(_FACTORS[0], math.ceil(refine.factor / 1.01))
