"""FREEPIK_MAGNIFIC: Magnific's creative upscaler, which invents detail."""

from typing import Any, Literal

from pydantic import Field

from compute.errors import InvalidInput
from compute.providers.base import Assignment
from compute.providers.vendors.magnific import CREATIVE, MagnificProvider
from compute.providers.vendors.offers import check_refine, checked_operation
from compute.schemas.enums import ProviderType
from compute.schemas.fields import Prompt
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Operation, Refine

__all__ = ["FreepikMagnific", "FreepikMagnificConfig"]

_FACTORS = (2, 4, 8, 16)
_MOST_PIXELS = 25_300_000

Style = Literal[
    "standard",
    "soft_portraits",
    "hard_portraits",
    "art_n_illustration",
    "videogame_assets",
    "nature_n_landscapes",
    "films_n_photography",
    "3d_renders",
    "science_fiction_n_horror",
]


def _level(description: str) -> Any:
    return Field(default=0, ge=-10, le=10, description=f"{description} From -10 to 10.")


class FreepikMagnificConfig(JsonBody):
    """Settings of Magnific's creative upscaler."""

    provider_type: Literal["FREEPIK_MAGNIFIC"] = "FREEPIK_MAGNIFIC"
    creativity: int = _level("How much is invented.")
    hdr: int = _level("How much definition and contrast is added.")
    resemblance: int = _level("How close the result stays to the image.")
    fractality: int = _level("How much small detail each square pixel gets, and how strong the prompt is in it.")
    engine: Literal["automatic", "magnific_illusio", "magnific_sharpy", "magnific_sparkle"] = Field(
        default="automatic", description="The engine: soft (illusio), sharp (sharpy) or in between (sparkle)."
    )
    optimized_for: Style = Field(default="standard", description="What the image shows.")
    defaultPrompt: Prompt | None = Field(  # noqa: N815 - the contract's spelling
        default=None, description="The prompt of requests that have none."
    )


class FreepikMagnific(MagnificProvider[FreepikMagnificConfig]):
    """FREEPIK_MAGNIFIC."""

    name = ProviderType.FREEPIK_MAGNIFIC
    config_model = FreepikMagnificConfig
    mode = CREATIVE

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        self.account(settings)
        refine = checked_operation(self.name, operation, Refine)
        check_refine(self.name, refine, most=_FACTORS[-1])
        if refine.base_size is None:
            return
        width, height = (side * _factor(refine) for side in refine.base_size)
        if width * height > _MOST_PIXELS:
            raise InvalidInput(
                f"{self.name} enlarges this image {_factor(refine)} times, to {width} x {height}; at most "
                f"{_MOST_PIXELS / 1e6:g} megapixels are made.",
                field=refine.size_field,
            )

    async def work(self, assignment: Assignment[FreepikMagnificConfig]) -> None:
        refine, config = checked_operation(self.name, assignment.operation, Refine), assignment.config
        parameters = {
            "scale_factor": f"{_factor(refine)}x",
            "creativity": config.creativity,
            "hdr": config.hdr,
            "resemblance": config.resemblance,
            "fractality": config.fractality,
            "engine": config.engine,
            "optimized_for": config.optimized_for,
        }
        if prompt := refine.prompt or config.defaultPrompt:
            parameters["prompt"] = prompt
        await self.refine(assignment, refine, parameters)


def _factor(refine: Refine) -> int:
    """The least of its factors that is enough."""
    return next((factor for factor in _FACTORS if factor * 1.01 >= refine.factor), _FACTORS[-1])
