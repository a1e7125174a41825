"""Refines a whole image: tile by tile, then its faces."""

from dataclasses import dataclass

from PIL import Image

from compute.imaging.colour import match_histogram
from compute.imaging.resize import at_size
from compute.providers.editing.bench import Bench
from compute.providers.editing.consistency import EditedPart, Limits
from compute.providers.editing.editor import ImageEditor
from compute.providers.editing.faces import edit_faces, face_instruction, face_patch, find_faces
from compute.providers.editing.patches import PatchSettings
from compute.providers.editing.tiles import TileSettings, adaptive_resolution, edit_tiles

__all__ = ["RefinePlan", "refine_image", "refine_instruction"]

_INSTRUCTION = (
    "This is a part of a fashion photograph that was enlarged and is soft. Make the same photograph in full sharpness: "
    "threads and weave of the cloth, stitches, edges of seams and buttons, pores and fine hair, texture of surfaces. "
    "Nothing is added, removed or moved: every shape, fold, letter, logo, pattern, colour and shadow stays exactly "
    "where it is, out of focus stays out of focus, and the framing is the same to the pixel."
)
_SHARE_OF_TILES = 0.8


@dataclass(frozen=True, slots=True)
class RefinePlan:
    """What is done with an image.

    Attributes:
        adaptive: The first version: tiles are edited at the least resolution that keeps their detail, get the colours
            of the original by mean and spread in L*a*b*, and faces are edited again in a close view. The second one
            edits all at 4K, matches histograms, and does nothing to faces.
        face_expand: How much larger than a face its close view is.
        face_prompt: What faces should look like.
    """

    adaptive: bool
    tiles: int
    feather: int
    limits: Limits
    retries: int
    workers: int | None
    seed: int
    face_expand: float = 0.5
    prompt: str | None = None
    face_prompt: str | None = None
    strength: float | None = None
    keeps_images: bool = False


def refine_instruction(prompt: str | None) -> str:
    """What an editor is told about a tile; `prompt` says what the detail should look like."""
    return f"{_INSTRUCTION}\nThe detail should look like this: {prompt}" if prompt else _INSTRUCTION


async def refine_image(
    bench: Bench, editor: ImageEditor, image: Image.Image, plan: RefinePlan
) -> tuple[Image.Image, list[EditedPart]]:
    """Refine an RGB image, which is modified.

    Raises:
        ProviderFailed, CallUncertain: as `ImageEditor.edit`.
    """
    faces = await find_faces(bench, image) if plan.adaptive else []
    end = _SHARE_OF_TILES if faces else 1.0
    refined, parts = await edit_tiles(bench, editor, image, _tile_settings(plan), share=(0.0, end))
    if faces:
        parts += await edit_faces(bench, editor, refined, faces, _face_settings(plan), expand=plan.face_expand)
        bench.progress(1.0)
    return refined, parts


def _tile_settings(plan: RefinePlan) -> TileSettings:
    return TileSettings(
        refine_instruction(plan.prompt),
        tiles=plan.tiles,
        feather=plan.feather,
        limits=plan.limits,
        retries=plan.retries,
        workers=plan.workers,
        resolution=adaptive_resolution if plan.adaptive else _always_4k,
        finish=face_patch if plan.adaptive else _with_histogram,
        seed=plan.seed,
        strength=plan.strength,
        keeps_images=plan.keeps_images,
    )


def _face_settings(plan: RefinePlan) -> PatchSettings:
    return PatchSettings(
        # Other than the face fixer's, which may follow as the task's fallback.
        "tile-face",
        face_instruction(prompt=plan.face_prompt),
        feather=plan.feather,
        limits=plan.limits,
        retries=plan.retries,
        finish=face_patch,
        seed=plan.seed,
        strength=plan.strength,
        keeps_images=plan.keeps_images,
    )


def _always_4k(size: tuple[int, int]) -> str:
    return "4K"


def _with_histogram(edited: Image.Image, original: Image.Image) -> Image.Image:
    return match_histogram(at_size(edited, original.size), original)
