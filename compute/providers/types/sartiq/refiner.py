"""SARTIQ_ULTIMATE_REFINER: refines an image in tiles that an editor makes anew."""

from functools import partial
from typing import Any, Literal

from pydantic import Field

from compute.imaging.resize import Layers
from compute.providers.editing.editor import ImageEditor
from compute.providers.editing.provider import EditingProvider
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.tasks.operations import Refine
from compute.tasks.registry import TaskKind
from compute.worker.context import RunContext

__all__ = ["SartiqUltimateRefiner", "SartiqUltimateRefinerConfig"]

_ABILITIES = frozenset(
    {
        ProviderCapability.UPSCALE_2X,
        ProviderCapability.UPSCALE_4X,
        ProviderCapability.UPSCALE_8X,
        ProviderCapability.UPSCALE_FLOAT,
        ProviderCapability.OUTPUT_SIZE,
        ProviderCapability.FACE_DETAIL,
    }
)


class SartiqUltimateRefinerConfig(JsonBody):
    """Settings of SARTIQ_ULTIMATE_REFINER."""

    provider_type: Literal["SARTIQ_ULTIMATE_REFINER"] = "SARTIQ_ULTIMATE_REFINER"
    version: Literal["1", "2"] = Field(
        default="1",
        description="1: tiles at the least resolution that keeps their detail, colours matched in L*a*b*, and faces "
        "edited again in a close view. 2: tiles at 4K, histograms matched, nothing more done to faces.",
    )
    num_tiles: int = Field(
        default=4, ge=1, le=64, description="About how many tiles; their layout follows the image's aspect ratio."
    )
    feather_px: int = Field(
        default=64, ge=0, le=512, description="Pixels over which neighbouring tiles blend; 0 for hard edges."
    )
    ssim_threshold: float = Field(
        default=0.6, ge=0, le=1, description="Least likeness (SSIM) of a tile to the original. 0 switches it off."
    )
    lpips_threshold: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Most distance (LPIPS) of a tile from the original. 0 switches it off, which saves about 2 GB of "
        "memory. Without its weights it is not checked, and the metadata says so.",
    )
    dists_threshold: float = Field(default=0.0, ge=0, le=1, description="The same by DISTS.")
    max_retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Most further edits, each of them paid, of a tile that is not alike. One that never is keeps its "
        "original pixels.",
    )
    max_workers: int | None = Field(
        default=4, ge=1, le=64, description="Most tiles that are edited at a time; null for all of them."
    )
    save_debug_tiles: bool = Field(
        default=False, description="Store every tile before and after; `debug_images` of the metadata has their paths."
    )
    face_expand_percent: float = Field(
        default=0.5,
        ge=0,
        le=4,
        description="How much larger than a face its close view is: 0.5 is half. Version 1 only.",
    )


class SartiqUltimateRefiner(EditingProvider[SartiqUltimateRefinerConfig]):
    """SARTIQ_ULTIMATE_REFINER."""

    name = ProviderType.SARTIQ_ULTIMATE_REFINER
    config_model = SartiqUltimateRefinerConfig
    operations = (Refine,)

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return _ABILITIES if kind.name is TaskType.REFINE else frozenset()

    async def refine(
        self, context: RunContext, operation: Refine, config: SartiqUltimateRefinerConfig, editor: ImageEditor
    ) -> None:
        # These load OpenCV, which the ingress does not need.
        from compute.providers.editing.consistency import EditedPart, Limits, raise_if_all_refused, report
        from compute.providers.editing.refiner import RefinePlan, refine_image

        limits = Limits(config.ssim_threshold, config.lpips_threshold, config.dists_threshold)
        plan = RefinePlan(
            adaptive=config.version == "1",
            tiles=config.num_tiles,
            feather=config.feather_px,
            limits=limits,
            retries=config.max_retries,
            workers=config.max_workers,
            seed=operation.seed,
            face_expand=config.face_expand_percent,
            prompt=operation.prompt,
            face_prompt=operation.face_prompt,
            strength=operation.denoise,
            keeps_images=config.save_debug_tiles,
        )
        base = await context.load(operation.image.path, field=operation.image.field)
        size = operation.width, operation.height
        layers = await context.compute(lambda: Layers.of(base).resized(size))
        refined = layers.colours
        parts: list[EditedPart] = []
        if operation.denoise != 0:
            refined, parts = await refine_image(context, editor, refined, plan)
        context.note(**report(parts), scores_missing=limits.missing(context.models_root))
        raise_if_all_refused(parts)
        result = await context.compute(partial(layers.with_colours, refined))
        await context.publish(result, seed=operation.seed)
