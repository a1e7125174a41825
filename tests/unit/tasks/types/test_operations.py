"""Operations that each type asks of a provider elsewhere, for requests as they are prepared."""

from pathlib import Path
from typing import Any

import pytest

from compute.tasks.operations import Animate, Draw, Edit, EnhanceFaces, Operation, Picture, Refine, RemoveBackground
from compute.tasks.registry import find_kind
from tests.pictures import scene
from tests.unit.tasks.types.worker import make_worker, prepare


async def operation_of(home: Path, task_type: str, **fields: Any) -> Operation | None:
    request = {"origin_instance": "test"} | fields
    files = {"base.png": scene((96, 64)), "other.png": scene((64, 64))}
    every_role = frozenset({"draw", "edit", "fill", "video"})
    spec = await prepare(find_kind(task_type), request, make_worker(home), files, roles=every_role)
    return find_kind(task_type).operation(spec)


async def test_a_generation_is_a_drawing(tmp_path: Path) -> None:
    asked = {"prompt": "a house", "width": 64, "height": 32, "seed": 7, "num_outputs": 2, "negative_prompt": "rain"}
    assert await operation_of(tmp_path, "GENERATION", **asked, fal_app_id="a/b") == Draw(
        prompt="a house",
        width=64,
        height=32,
        seed=7,
        count=2,
        negative_prompt="rain",
        steps=28,
        guidance_scale=3.5,
        app="a/b",
    )


@pytest.mark.parametrize(("influence", "strength"), [(None, 0.7), (0.25, 0.75), (80, 0.2), (100, 0.01)])
async def test_influence_of_a_reference_is_what_may_not_change(
    tmp_path: Path, influence: float | None, strength: float
) -> None:
    asked = {"prompt": "a house", "reference_image_url": "base.png", "reference_image_strength": influence}
    operation = await operation_of(tmp_path, "GENERATION", **asked)
    assert isinstance(operation, Draw)
    assert operation.image == Picture("base.png", "reference_image_path")
    assert operation.strength == pytest.approx(strength)


async def test_loras_of_a_generation_are_named_by_their_fields(tmp_path: Path) -> None:
    asked = {"prompt": "a house", "style_model_path": "s.safetensors", "product_model_path": "p.safetensors"}
    operation = await operation_of(tmp_path, "GENERATION", **asked)
    assert isinstance(operation, Draw)
    assert operation.loras == ("product_model_path", "style_model_path")


async def test_an_edit_numbers_its_references(tmp_path: Path) -> None:
    references = [{"url": "other.png", "type": "garment"}, "other.png"]
    asked = {"base_image": "base.png", "prompt": "Put it on.", "reference_images": references, "seed": 7}
    operation = await operation_of(tmp_path, "EDITING", **asked)
    assert isinstance(operation, Edit)
    told = "Image 1 is the one to change; image 2 shows the garment, image 3 shows another picture."
    assert operation.prompt == f"Put it on. {told}"
    assert operation.references == (
        Picture("other.png", "reference_images.0", "garment"),
        Picture("other.png", "reference_images.1"),
    )
    assert (operation.image, operation.width, operation.height) == (Picture("base.png", "base_image"), 96, 64)


async def test_an_edit_says_its_strength_only_if_the_request_does(tmp_path: Path) -> None:
    asked = {"base_image_url": "base.png", "prompt": "red", "mask": "other.png"}
    usual, own = [await operation_of(tmp_path, "EDITING", **asked | more) for more in ({}, {"strength": 0.4})]
    assert isinstance(usual, Edit)
    assert isinstance(own, Edit)
    assert (usual.strength, own.strength) == (None, 0.4)
    assert (usual.prompt, usual.mask, usual.image.field) == ("red", Picture("other.png", "mask"), "base_image_url")


async def test_a_refinement_knows_its_factor(tmp_path: Path) -> None:
    asked = {"base_image_url": "base.png", "upscale_seed": 7}
    doubled = await operation_of(tmp_path, "REFINE", **asked, upscale_factor=2, upscale_prompt="wool")
    assert isinstance(doubled, Refine)
    assert (doubled.width, doubled.height, doubled.factor, doubled.base_size) == (192, 128, 2.0, (96, 64))
    assert (doubled.prompt, doubled.denoise, doubled.steps, doubled.seed) == ("wool", 0.3, 20, 7)
    assert (doubled.face_prompt, doubled.size_field) == (None, "upscale_factor")
    wide = await operation_of(tmp_path, "REFINE", **asked, target_width=288, target_height=64)
    assert isinstance(wide, Refine)
    assert (wide.factor, wide.size_field, wide.prompt) == (3.0, "target_width", None)


async def test_a_refinement_without_new_detail_asks_for_none_and_faces_are_asked_for(tmp_path: Path) -> None:
    asked = {"base_image_url": "base.png", "upscale_enabled": False, "face_detail_enabled": True}
    operation = await operation_of(tmp_path, "REFINE", **asked)
    assert isinstance(operation, Refine)
    assert (operation.denoise, operation.face_denoise) == (0.0, 0.2)
    assert operation.face_prompt


async def test_a_clip_begins_with_its_image(tmp_path: Path) -> None:
    asked = {"input_image_url": "base.png", "prompt": "it turns", "width": 96, "height": 64, "duration": 2, "seed": 7}
    image = Picture("base.png", "input_image_url")
    assert await operation_of(tmp_path, "VIDEO_GENERATION", **asked) == Animate(image, "it turns", 96, 64, 2, 24, 7)


async def test_faces_are_enhanced_as_much_as_asked(tmp_path: Path) -> None:
    asked = {"input_image": "base.png", "strength": 0.4, "seed": 7, "preserve_identity": False}
    image = Picture("base.png", "input_image")
    assert await operation_of(tmp_path, "FACE_ENHANCER", **asked) == EnhanceFaces(image, 0.4, 7, None, False)


async def test_a_batch_of_backgrounds_keeps_its_order(tmp_path: Path) -> None:
    asked = {"input_image_paths": ["base.png", "other.png"], "output_format": "webp"}
    images = Picture("base.png", "input_image_paths.0"), Picture("other.png", "input_image_paths.1")
    assert await operation_of(tmp_path, "BACKGROUND_REMOVAL", **asked) == RemoveBackground(images, "webp")


async def test_adjustments_are_this_clusters_work(tmp_path: Path) -> None:
    assert find_kind("IMAGE_ADJUSTER").operation({}) is None
