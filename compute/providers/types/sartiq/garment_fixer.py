"""SARTIQ_ULTIMATE_GARMENT_FIXER: edits the garment in an image, in one close view or two."""

from functools import partial
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from compute.imaging.blend import Box, composite, feather, mask_of
from compute.imaging.resize import Layers, covering_box
from compute.providers.editing.editor import ImageEditor
from compute.providers.editing.editors.choice import most_references
from compute.providers.editing.provider import EditingProvider
from compute.providers.vendors.offers import check_edit
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Edit, Operation, Refine
from compute.tasks.registry import TaskKind
from compute.worker.context import RunContext

__all__ = ["SartiqUltimateGarmentFixer", "SartiqUltimateGarmentFixerConfig"]

_MEND = (
    "This is a part of a fashion photograph. Mend the garment in it: give it the sharp weave, seams, buttons, zips, "
    "prints and letters of a real one. Person, pose, light, background and framing stay exactly as they are."
)
_LIKE_REFERENCES = (
    "The pictures after the first one show the real garment: take its colours, fabric, pattern, cut, logos and letters "
    "from there, and leave how it is worn and how its folds fall as they are in the first picture."
)
_ABILITIES = {
    TaskType.EDITING: {
        ProviderCapability.IMAGE_EDIT,
        ProviderCapability.INPAINT,
        ProviderCapability.REFERENCE_IMAGE,
        ProviderCapability.OUTPUT_SIZE,
    },
    TaskType.REFINE: {ProviderCapability.OUTPUT_SIZE, ProviderCapability.UPSCALE_FLOAT},
}


class SartiqUltimateGarmentFixerConfig(JsonBody):
    """Settings of SARTIQ_ULTIMATE_GARMENT_FIXER."""

    provider_type: Literal["SARTIQ_ULTIMATE_GARMENT_FIXER"] = "SARTIQ_ULTIMATE_GARMENT_FIXER"
    bbox_expand_percent: float = Field(
        default=0.1, ge=0, le=4, description="How much larger than the garment its view is: 0.05 is 5 percent."
    )
    split_threshold: float = Field(
        default=2.0,
        ge=1,
        le=100,
        description="A view whose longer side is more than so many times its shorter one becomes two tiles.",
    )
    feather_px: int = Field(
        default=48, ge=0, le=512, description="Pixels over which the garment blends into the image; 0 for a hard edge."
    )
    ssim_threshold: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Least likeness (SSIM) of a tile to the original. 0 switches it off. A garment may change more "
        "than a face.",
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
    save_debug_images: bool = Field(
        default=False, description="Store every tile before and after; `debug_images` of the metadata has their paths."
    )


class SartiqUltimateGarmentFixer(EditingProvider[SartiqUltimateGarmentFixerConfig]):
    """SARTIQ_ULTIMATE_GARMENT_FIXER.

    The garment lies under the task's mask, if there is one; otherwise it is the one that a reference's type or the
    prompt names, such as `shirt`, found by segmentation. The editor is shown the references, which tell what the real
    garment looks like. Of a refinement, the image is resized and its outfit mended without references.
    """

    name = ProviderType.SARTIQ_ULTIMATE_GARMENT_FIXER
    config_model = SartiqUltimateGarmentFixerConfig
    operations = (Edit, Refine)

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return frozenset(_ABILITIES.get(kind.name, ()))

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        super().check(operation, config, settings)
        if isinstance(operation, Edit):
            check_edit(self.name, operation, masks=True, references=most_references(settings))

    async def refine(
        self,
        context: RunContext,
        operation: Edit | Refine,
        config: SartiqUltimateGarmentFixerConfig,
        editor: ImageEditor,
    ) -> None:
        # These load OpenCV, which the ingress does not need.
        from compute.providers.editing.consistency import Limits, raise_if_all_refused, report
        from compute.providers.editing.garment import garment_patch, split_box
        from compute.providers.editing.patches import PatchSettings, edit_patches, expanded

        base = await context.load(operation.image.path, field=operation.image.field)
        size = operation.width, operation.height
        layers = await context.compute(lambda: Layers.of(base).resized(size))
        mask = await _mask(context, operation, base.size)
        references = await _references(context, operation)
        box = expanded(await _box(context, operation, layers.colours, mask), config.bbox_expand_percent, size)
        boxes = split_box(box, config.split_threshold, 2 * config.feather_px)
        limits = Limits(config.ssim_threshold, config.lpips_threshold, config.dists_threshold)
        settings = PatchSettings(
            "garment",
            _instruction(operation),
            feather=config.feather_px,
            limits=limits,
            retries=config.max_retries,
            finish=garment_patch,
            seed=operation.seed,
            references=references,
            strength=operation.strength if isinstance(operation, Edit) else operation.denoise,
            keeps_images=config.save_debug_images,
        )
        mended = await context.compute(layers.colours.copy)
        parts = [] if settings.strength == 0 else await edit_patches(context, editor, mended, boxes, settings)
        context.note(**report(parts), garment_box=list(box), scores_missing=limits.missing(context.models_root))
        raise_if_all_refused(parts)
        result = await context.compute(partial(_finished, layers, mended, mask, config.feather_px))
        await context.publish(result, seed=operation.seed)


async def _mask(context: RunContext, operation: Edit | Refine, base: tuple[int, int]) -> Image.Image | None:
    """The task's mask at the size of the result; None without one, or with one that is black."""
    if not isinstance(operation, Edit) or operation.mask is None:
        return None
    loaded = await context.load(operation.mask.path, field=operation.mask.field)
    size = operation.width, operation.height

    def scaled() -> Image.Image:
        return mask_of(loaded, base).resize(size, Image.Resampling.BOX, box=covering_box(base, size))

    mask = await context.compute(scaled)
    return mask if mask.getbbox() is not None else None


async def _references(context: RunContext, operation: Edit | Refine) -> tuple[Image.Image, ...]:
    pictures = operation.references if isinstance(operation, Edit) else ()
    return tuple([await context.load(one.path, field=one.field) for one in pictures])


async def _box(context: RunContext, operation: Edit | Refine, image: Image.Image, mask: Image.Image | None) -> Box:
    from compute.providers.editing.garment import find_garment, garment_label

    if mask is not None and (found := mask.getbbox()) is not None:
        return found
    shown = [one.shows for one in operation.references] if isinstance(operation, Edit) else []
    return await find_garment(context, image, garment_label([*shown, operation.prompt]))


def _instruction(operation: Edit | Refine) -> str:
    lines = [_MEND]
    if isinstance(operation, Edit) and operation.references:
        lines.append(_LIKE_REFERENCES)
    if operation.prompt and operation.prompt.strip():
        lines.append(f"In particular: {operation.prompt.strip()}")
    return "\n".join(lines)


def _finished(layers: Layers, mended: Image.Image, mask: Image.Image | None, feather_px: int) -> Image.Image:
    """The result; where the mask is black, the pixels of the original."""
    if mask is not None:
        mended = composite(layers.colours, mended, feather(mask, feather_px))
    return layers.with_colours(mended)
