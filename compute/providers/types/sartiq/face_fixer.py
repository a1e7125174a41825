"""SARTIQ_ULTIMATE_FACE_FIXER: edits the faces of an image, each in a close view."""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compute.imaging.resize import Layers
from compute.providers.editing.editor import ImageEditor
from compute.providers.editing.provider import EditingProvider
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.tasks.operations import EnhanceFaces, Refine
from compute.tasks.registry import TaskKind
from compute.worker.context import RunContext

if TYPE_CHECKING:
    from compute.providers.editing.consistency import EditedPart, Limits

__all__ = ["SartiqUltimateFaceFixer", "SartiqUltimateFaceFixerConfig"]

_ABILITIES = {
    TaskType.REFINE: {ProviderCapability.FACE_DETAIL, ProviderCapability.OUTPUT_SIZE, ProviderCapability.UPSCALE_FLOAT},
    TaskType.FACE_ENHANCER: {ProviderCapability.FACE_DETAIL, ProviderCapability.IMAGE_TO_IMAGE},
}


class SartiqUltimateFaceFixerConfig(JsonBody):
    """Settings of SARTIQ_ULTIMATE_FACE_FIXER."""

    provider_type: Literal["SARTIQ_ULTIMATE_FACE_FIXER"] = "SARTIQ_ULTIMATE_FACE_FIXER"
    expand_percent: float = Field(
        default=0.5, ge=0, le=4, description="How much larger than a face its close view is: 0.5 is half."
    )
    face_prompt: str | None = Field(
        default=None,
        min_length=1,
        max_length=2_000,
        description="Which faces are meant, such as `the woman in red`. Every face found is looked at; the editor is "
        "told to leave others as they are. By default all of them are meant.",
    )
    feather_px: int = Field(
        default=32, ge=0, le=512, description="Pixels over which a face blends into the image; 0 for a hard edge."
    )
    ssim_threshold: float = Field(
        default=0.6, ge=0, le=1, description="Least likeness (SSIM) of a face to the original. 0 switches it off."
    )
    lpips_threshold: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Most distance (LPIPS) of a face from the original. 0 switches it off, which saves about 2 GB of "
        "memory. Without its weights it is not checked, and the metadata says so.",
    )
    dists_threshold: float = Field(default=0.0, ge=0, le=1, description="The same by DISTS.")
    max_retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Most further edits, each of them paid, of a face that is not alike. One that never is keeps its "
        "original pixels.",
    )
    save_debug_images: bool = Field(
        default=False, description="Store every face before and after; `debug_images` of the metadata has their paths."
    )


class SartiqUltimateFaceFixer(EditingProvider[SartiqUltimateFaceFixerConfig]):
    """SARTIQ_ULTIMATE_FACE_FIXER. Of a refinement it resizes the image and does its faces. An image without a face is
    returned as it is, and nothing is paid."""

    name = ProviderType.SARTIQ_ULTIMATE_FACE_FIXER
    config_model = SartiqUltimateFaceFixerConfig
    operations = (Refine, EnhanceFaces)

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return frozenset(_ABILITIES.get(kind.name, ()))

    async def refine(
        self,
        context: RunContext,
        operation: Refine | EnhanceFaces,
        config: SartiqUltimateFaceFixerConfig,
        editor: ImageEditor,
    ) -> None:
        # These load OpenCV, which the ingress does not need.
        from compute.providers.editing.consistency import Limits, raise_if_all_refused
        from compute.providers.editing.faces import edit_faces, find_faces

        base = await context.load(operation.image.path, field=operation.image.field)
        layers = await context.compute(partial(Layers.of, base))
        if isinstance(operation, Refine):
            layers = await context.compute(partial(layers.resized, (operation.width, operation.height)))
        limits = Limits(config.ssim_threshold, config.lpips_threshold, config.dists_threshold)
        faces = await find_faces(context, layers.colours)
        parts: list[EditedPart] = []
        if _strength(operation) > 0:
            settings = _settings(operation, config, limits)
            parts = await edit_faces(context, editor, layers.colours, faces, settings, expand=config.expand_percent)
        context.note(**_notes(parts, limits, context), face_detected=bool(faces))
        raise_if_all_refused(parts)
        result = await context.compute(partial(layers.with_colours, layers.colours))
        await context.publish(result, seed=operation.seed)


def _strength(operation: Refine | EnhanceFaces) -> float:
    if isinstance(operation, EnhanceFaces):
        return operation.strength
    return 1.0 if operation.face_denoise is None else operation.face_denoise


def _settings(operation: Refine | EnhanceFaces, config: SartiqUltimateFaceFixerConfig, limits: "Limits") -> Any:
    from compute.providers.editing.faces import face_instruction, face_patch
    from compute.providers.editing.patches import PatchSettings

    if isinstance(operation, EnhanceFaces):
        prompt, keeps_identity = operation.prompt, operation.preserve_identity
    else:
        prompt, keeps_identity = operation.face_prompt, True
    return PatchSettings(
        "face",
        face_instruction(which=config.face_prompt, prompt=prompt, keeps_identity=keeps_identity),
        feather=config.feather_px,
        limits=limits,
        retries=config.max_retries,
        finish=face_patch,
        seed=operation.seed,
        strength=_strength(operation),
        keeps_images=config.save_debug_images,
    )


def _notes(parts: "list[EditedPart]", limits: "Limits", context: RunContext) -> dict[str, Any]:
    """What a task of type FACE_ENHANCER shows, and the rest."""
    from compute.providers.editing.consistency import report

    scores = [part.scores for part in parts if part.scores is not None]
    perceived = {
        f"final_{name}_score": max(
            (getattr(one, name) for one in scores if getattr(one, name) is not None), default=None
        )
        for name in ("lpips", "dists")
    }
    return {
        **report(parts),
        **perceived,
        "attempts_used": sum(part.tries for part in parts),
        "final_ssim_score": min((one.ssim for one in scores), default=None),
        "scores_missing": limits.missing(context.models_root),
    }
