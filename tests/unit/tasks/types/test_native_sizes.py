"""Every type that draws leaves the size to its model: the result has the size asked for, and says what was drawn."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compute.pipelines import ModelConfig, load
from compute.schemas.fields import NativeChoice
from compute.tasks.registry import all_kinds, find_kind
from compute.worker.protocol import StagedModel
from tests.pictures import portrait, scene
from tests.unit.tasks.types.worker import Outcome, make_worker, run_type

MOST_PIXELS = {"flux": 64 * 64, "ltx-video": 128 * 96}
"""Clips are drawn on a grid of 32 pixels."""
PICTURE = scene((256, 192))
REQUESTS: dict[str, dict[str, Any]] = {
    "GENERATION": {"prompt": "a dress", "width": 256, "height": 192, "steps": 2, "num_outputs": 2},
    "EDITING": {"base_image": "in.png", "prompt": "a hat", "steps": 2},
    "REFINE": {"base_image_url": "in.png", "upscale_steps": 4},
    "BACKGROUND_FIX": {"base_image": "face.png", "background_prompt": "a beach", "steps": 2},
    "FACE_ENHANCER": {"input_image": "face.png", "steps": 4, "working_size": 256},
    "DETAIL_ENHANCER": {"base_image": "in.png", "steps": 4, "working_size": 256},
    "VIDEO_GENERATION": {
        "input_image_url": "in.png", "width": 256, "height": 192, "steps": 1, "duration_seconds": 1, "fps": 8,
        "cfg_scale": 0,
    },
}  # fmt: skip


@cache
def small_model(family: str, most_pixels: int | None = None) -> StagedModel:
    """A tiny model that says it draws no more than these pixels well, or `MOST_PIXELS`."""
    native = {"native_size": {"most_pixels": most_pixels or MOST_PIXELS[family]}}
    config = ModelConfig.model_validate({"model": f"tiny-{family}", "family": family, "device": "cpu", **native})
    return load(config, Path(mkdtemp(prefix="compute-models-")))


async def run(name: str, tmp_path: Path, **changes: Any) -> Outcome:
    kind = find_kind(name)
    request = {"seed" if name != "REFINE" else "upscale_seed": 3} | REQUESTS[name] | changes
    files = {"in.png": PICTURE, "face.png": portrait((256, 256))}
    return await run_type(kind, request, make_worker(tmp_path, small_model(_family(name))), files)


def _family(name: str) -> str:
    return "ltx-video" if name == "VIDEO_GENERATION" else "flux"


def test_no_type_that_draws_is_left_out() -> None:
    draws = {name for name, kind in all_kinds().items() if "native" in kind.create_model.model_fields}
    assert draws == set(REQUESTS)
    with_prompts = {kind.name for kind in all_kinds().values() if issubclass(kind.create_model, NativeChoice)}
    assert with_prompts == draws - {"BACKGROUND_FIX"}


@pytest.mark.parametrize("name", sorted(REQUESTS))
async def test_it_is_drawn_at_the_models_own_size_and_comes_at_the_size_asked_for(name: str, tmp_path: Path) -> None:
    outcome = await run(name, tmp_path)
    drawn = outcome.metadata["drawn_at"]
    assert drawn["width"] * drawn["height"] <= MOST_PIXELS[_family(name)]
    expected = (256, 256) if name in ("BACKGROUND_FIX", "FACE_ENHANCER") else (256, 192)
    assert {(made.width, made.height) for made in outcome.artifacts} == {expected}
    if name != "DETAIL_ENHANCER":  # which draws a region of any shape
        assert drawn["width"] / drawn["height"] == pytest.approx(expected[0] / expected[1], rel=0.15)


@pytest.mark.parametrize("name", ["GENERATION", "EDITING", "REFINE"])
async def test_who_insists_on_a_size_gets_it_drawn(name: str, tmp_path: Path) -> None:
    drawn = await run(name, tmp_path, native=False)
    assert "drawn_at" not in drawn.metadata
    assert drawn.images[0].tobytes() != (await run(name, tmp_path)).images[0].tobytes()


async def test_outside_of_a_mask_nothing_changes(tmp_path: Path) -> None:
    mask = Image.new("L", PICTURE.size)
    mask.paste(255, (100, 60, 180, 130))
    kind = find_kind("EDITING")
    files = {"in.png": PICTURE, "mask.png": mask}
    request = REQUESTS["EDITING"] | {"mask": "mask.png"}
    outcome = await run_type(kind, request, make_worker(tmp_path, small_model("flux")), files)
    assert outcome.metadata["drawn_at"]["width"] <= 80
    changed = (np.asarray(outcome.images[0]) != np.asarray(PICTURE)).any(axis=-1)
    assert changed[60:130, 100:180].mean() > 0.9
    changed[60:130, 100:180] = False
    assert not changed.any()


async def test_a_large_picture_is_refined_at_once_and_keeps_its_detail(tmp_path: Path) -> None:
    outcome = await run("REFINE", tmp_path, target_width=1024, target_height=768, upscale_denoise=0.1)
    assert outcome.metadata["tiles"] == 1
    assert outcome.images[0].size == (1024, 768)
    plain = np.asarray(PICTURE.resize((1024, 768), Image.Resampling.LANCZOS), int)
    fine = np.asarray(outcome.images[0], int)
    # What differs from one pixel to the next is the picture's; the model, at 64 pixels, can only change the rest.
    assert np.abs(np.diff(fine, axis=1) - np.diff(plain, axis=1)).mean() < 1.0


SHOWN_AT: list[tuple[str, dict[str, Any], tuple[int, int] | None]] = [
    # What is asked for, and the size at which it is drawn by a model that draws up to 128 x 96 pixels.
    ("GENERATION", {"width": 128, "height": 96}, None),
    ("GENERATION", {"width": 256, "height": 192}, (128, 96)),
    ("EDITING", {"base_image": "small.png"}, None),
    ("EDITING", {"base_image": "small.png", "width": 64, "height": 48}, (128, 96)),
    ("EDITING", {"base_image": "odd.png"}, (96, 80)),
    # A large picture and a small result: what was drawn in between was drawn at the size of the result.
    ("EDITING", {"base_image": "in.png", "width": 128, "height": 96}, None),
    ("EDITING", {"base_image": "small.png", "mask": "mask.png"}, None),
    ("EDITING", {"base_image": "small.png", "mask": "mask.png", "width": 64, "height": 48}, (128, 96)),
    ("REFINE", {"base_image_url": "small.png"}, None),
    ("REFINE", {"base_image_url": "odd.png"}, None),
    ("REFINE", {"base_image_url": "in.png"}, (128, 96)),
    ("BACKGROUND_FIX", {"base_image": "head.png"}, None),
    ("VIDEO_GENERATION", {"width": 128, "height": 96}, None),
    ("VIDEO_GENERATION", {"width": 120, "height": 90}, (128, 96)),
]


@pytest.mark.parametrize(("name", "asked", "drawn_at"), SHOWN_AT, ids=str)
async def test_drawn_at_is_there_exactly_when_the_model_drew_at_another_size(
    name: str, asked: dict[str, Any], drawn_at: tuple[int, int] | None, tmp_path: Path
) -> None:
    small = PICTURE.resize((128, 96))
    mask = Image.new("L", small.size)
    mask.paste(255, (40, 30, 90, 70))
    files = {
        "in.png": PICTURE, "small.png": small, "odd.png": PICTURE.resize((100, 75)), "mask.png": mask,
        "head.png": portrait((96, 96)),
    }  # fmt: skip
    request = {"seed" if name != "REFINE" else "upscale_seed": 3} | REQUESTS[name] | asked
    model = small_model(_family(name), 128 * 96)
    outcome = await run_type(find_kind(name), request, make_worker(tmp_path, model), files)
    expected = None if drawn_at is None else {"width": drawn_at[0], "height": drawn_at[1]}
    assert outcome.metadata.get("drawn_at") == expected


async def test_tiles_of_the_models_own_size_are_named(tmp_path: Path) -> None:
    """A model that draws 512 pixels a side: in tiles of 512 where others have 1,024."""
    files = {"in.png": PICTURE}
    request = {"base_image_url": "in.png", "upscale_steps": 1, "upscale_denoise": 1.0, "upscale_seed": 1}
    worker = make_worker(tmp_path, small_model("flux", 512 * 512))
    large = await run_type(find_kind("REFINE"), request | {"target_width": 1024, "target_height": 768}, worker, files)
    assert large.metadata["tiles"] > 1
    drawn = large.metadata["drawn_at"]
    assert max(drawn.values()) <= 512
    whole = await run_type(find_kind("REFINE"), request | {"target_width": 672, "target_height": 384}, worker, files)
    assert whole.metadata["tiles"] == 1, "it is in the range, though it is wider than a square tile"
    assert "drawn_at" not in whole.metadata


@pytest.mark.parametrize("size", [(16, 200), (48, 50), (64, 64), (16, 16), (1, 1)])
async def test_a_small_picture_is_refined_by_a_model_that_draws_small(size: tuple[int, int], tmp_path: Path) -> None:
    files = {"in.png": PICTURE.resize(size)}
    request = {"base_image_url": "in.png", "upscale_steps": 1, "upscale_denoise": 1.0, "upscale_seed": 1}
    outcome = await run_type(find_kind("REFINE"), request, make_worker(tmp_path, small_model("flux")), files)
    assert outcome.images[0].size == size
    assert "drawn_at" not in outcome.metadata
