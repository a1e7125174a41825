"""Specs of tasks, as their types store them, for tests that run them at providers."""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from tests.pictures import portrait, scene
from tests.providers.harness import Desk

__all__ = ["SPECS", "stored"]


@dataclass(frozen=True)
class _Spec:
    """A small task of one type, and the purpose of its app among `fal_apps`."""

    fal_app: str
    fields: dict[str, Any] = field(default_factory=dict)


SPECS = {
    "GENERATION": _Spec(
        "draw",
        {
            "prompt": "a red coat",
            "negative_prompt": None,
            "width": 96,
            "height": 64,
            "seed": 7,
            "num_outputs": 1,
            "steps": 28,
            "guidance_scale": 3.5,
            "loras": [],
            "reference_image_path": None,
            "reference_image_strength": None,
            "fal_app_id": None,
        },
    ),
    "EDITING": _Spec(
        "edit",
        {
            "prompt": "make it red",
            "base_image_field": "base_image",
            "mask_path": None,
            "reference_images": [],
            "strength": 1.0,
            "steps": 28,
            "width": 96,
            "height": 64,
            "seed": 7,
            "fal_app_id": None,
        },
    ),
    "REFINE": _Spec(
        "refine",
        {
            "width": 192,
            "height": 128,
            "factor": 2.0,
            "upscale_factor": 2.0,
            "upscale_enabled": True,
            "upscale_steps": 20,
            "upscale_denoise": 0.3,
            "upscale_prompt": "wool",
            "upscale_seed": 7,
            "face_detail_enabled": False,
            "face_detail_prompt": "a face",
            "face_detail_denoise": 0.2,
            "fal_app_id": None,
        },
    ),
    "VIDEO_GENERATION": _Spec(
        "animate",
        {"prompt": "it turns", "negative_prompt": None, "width": 96, "height": 64, "duration_seconds": 2, "fps": 24}
        | {"seed": 7},
    ),
    "FACE_ENHANCER": _Spec("", {"strength": 0.5, "prompt": None, "preserve_identity": True, "seed": 7}),
    "BACKGROUND_REMOVAL": _Spec("remove_background", {"output_format": "png"}),
}
_IMAGE_FIELDS = {
    "EDITING": "base_image_path",
    "REFINE": "base_image_path",
    "VIDEO_GENERATION": "input_image_path",
    "FACE_ENHANCER": "input_image_path",
}


async def stored(
    desk: Desk,
    task_type: str,
    *,
    size: tuple[int, int] = (96, 64),
    reference_images: int = 0,
    garment: bool = False,
    mask: bool = False,
    images: int = 1,
    loras: int = 0,
    reference: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """A spec whose images are stored. A mask is black in its left half; `garment` says what the references show."""
    spec = SPECS[task_type].fields | fields
    if task_type in _IMAGE_FIELDS:
        spec |= {_IMAGE_FIELDS[task_type]: await desk.store(scene(size))}
    if mask:
        white = Image.new("L", size, 0)
        white.paste(255, (size[0] // 2, 0, *size))
        spec |= {"mask_path": await desk.store(white)}
    if reference_images:
        path = await desk.store(portrait(size))
        shown = "garment" if garment else None
        spec |= {
            "reference_images": [
                {"path": path, "type": shown, "field": f"reference_images.{index}"} for index in range(reference_images)
            ]
        }
    if task_type == "BACKGROUND_REMOVAL":
        spec |= {"input_image_paths": [await desk.store(scene((size[0] + n, size[1]))) for n in range(images)]}
    if loras:
        spec |= {"loras": [{"slot": "subject", "path": "x.safetensors", "weight": 1.0}]}
    if reference:
        spec |= {"reference_image_path": await desk.store(scene(size)), "reference_image_strength": 0.3}
    return spec
