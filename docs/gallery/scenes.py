"""What the gallery shows: requests of every type on pictures that code draws."""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw

from compute.schemas.enums import TaskType
from tests import pictures
from tools.demo_model.scenes import Scene as DemoScene
from tools.demo_model.scenes import render

__all__ = ["SCENES", "Scene"]


@dataclass(frozen=True)
class Scene:
    """One request: `inputs` are stored images by path, `asked` the rest of the body."""

    type: TaskType
    title: str
    asked: dict[str, Any]
    inputs: dict[str, Image.Image] = field(default_factory=dict)


def _mask(size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    mask = Image.new("L", size, 0)
    left, top, right, bottom = box
    ImageDraw.Draw(mask).ellipse((left * size[0], top * size[1], right * size[0], bottom * size[1]), fill=255)
    return mask


_PRODUCT = pictures.product((384, 384))
_FIGURE = pictures.full_figure((320, 480))
_PORTRAIT = pictures.portrait((384, 384))
_SCENE = pictures.scene((480, 320))
_WORN = render(DemoScene("dress", "green", "beige", wearer="woman"), 256)
_WARM_WALL = Image.new("RGB", (320, 480), (236, 214, 190))

SCENES = [
    Scene(
        TaskType.GENERATION,
        "from a prompt, 1024 x 1024; drawn at 128 x 128",
        {"prompt": "a red dress on a white background", "seed": 13},
    ),
    Scene(
        TaskType.EDITING,
        "inside a mask; outside it every pixel stays (random weights)",
        {"base_image": "in/figure.png", "mask": "in/mask.png", "prompt": "a blue jacket", "steps": 4, "seed": 7},
        {"in/figure.png": _FIGURE, "in/mask.png": _mask(_FIGURE.size, (0.25, 0.25, 0.75, 0.6))},
    ),
    Scene(
        TaskType.EDITING,
        "by instruction, with a reference (random weights)",
        {
            "base_image": "in/figure.png",
            "reference_images": [{"url": "in/product.png", "type": "garment"}],
            "prompt": "the person wears the garment",
            "steps": 4,
            "seed": 7,
        },
        {"in/figure.png": _FIGURE, "in/product.png": _PRODUCT},
    ),
    Scene(
        TaskType.REFINE,
        "four times the size; denoise 0.3",
        {
            "base_image_url": "in/worn.png",
            "upscale_factor": 4,
            "upscale_denoise": 0.3,
            "upscale_prompt": "a woman wearing a green dress on a beige background",
            "upscale_seed": 7,
        },
        {"in/worn.png": _WORN},
    ),
    Scene(
        TaskType.VIDEO_GENERATION,
        "one second at 12 frames per second (random weights)",
        {"input_image_url": "in/product.png", "prompt": "it turns", "duration": 1, "fps": 12, "steps": 2, "seed": 7},
        {"in/product.png": _PRODUCT},
    ),
    Scene(
        TaskType.BACKGROUND_REMOVAL,
        "GrabCut and a guided filter",
        {"input_image_paths": ["in/product.png", "in/portrait.png"]},
        {"in/product.png": _PRODUCT, "in/portrait.png": _PORTRAIT},
    ),
    Scene(
        TaskType.BACKGROUND_FIX,
        "COLOR_SHIFT towards a palette",
        {"base_image": "in/figure.png", "palette_image": "in/wall.png", "strategy": "COLOR_SHIFT"},
        {"in/figure.png": _FIGURE, "in/wall.png": _WARM_WALL},
    ),
    Scene(
        TaskType.BACKGROUND_FIX,
        "REPLACE_IMAGE",
        {"base_image": "in/figure.png", "background_image_url": "in/scene.png", "strategy": "REPLACE_IMAGE"},
        {"in/figure.png": _FIGURE, "in/scene.png": _SCENE},
    ),
    Scene(
        TaskType.BACKGROUND_FIX,
        "REPLACE_PROMPT: a blue background",
        {"base_image": "in/worn.png", "background_prompt": "a green dress on a blue background", "seed": 7},
        {"in/worn.png": _WORN},
    ),
    Scene(
        TaskType.FACE_ENHANCER,
        "strength 0.2",
        {"input_image": "in/portrait.png", "strength": 0.2, "steps": 10},
        {"in/portrait.png": _PORTRAIT},
    ),
    Scene(
        TaskType.DETAIL_ENHANCER,
        "a shirt's texture from a reference",
        {
            "base_image": "in/figure.png",
            "reference_image": "in/product.png",
            "detail_label": "shirt",
            "strength": 0.3,
            "steps": 10,
        },
        {"in/figure.png": _FIGURE, "in/product.png": _PRODUCT},
    ),
    Scene(
        TaskType.IMAGE_ADJUSTER,
        "padded to 1:1 with margins around the subject",
        {"input_image": "in/figure.png", "mode": "pad", "aspect_ratio": 1.0, "margin_top": 0.1, "margin_bottom": 0.1},
        {"in/figure.png": _FIGURE},
    ),
    Scene(
        TaskType.IMAGE_ADJUSTER,
        "cropped to 3:4 from the left, warmer, more contrast",
        {
            "input_image": "in/scene.png",
            "mode": "crop",
            "aspect_ratio": 0.75,
            "cropping_position": "left",
            "warmth": 0.5,
            "contrast": 0.3,
        },
        {"in/scene.png": _SCENE},
    ),
]
