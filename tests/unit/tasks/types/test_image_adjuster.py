"""IMAGE_ADJUSTER: every field of documents 3 and 4 does what it says, and wrong combinations are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compute.errors import InvalidInput
from compute.media.codec import RIGHTS
from compute.media.loader import open_image
from compute.media.rights import Rights
from compute.tasks.types.image_adjuster import CreateImageAdjusterTask, ImageAdjuster
from compute.worker.protocol import Started
from tests.pictures import product, scene
from tests.unit.tasks.types.worker import Outcome, make_worker, prepare, run_type

SIZE = (120, 80)
NO_MODEL: frozenset[Any] = frozenset()


async def run(home: Path, picture: Image.Image, other: Image.Image | None = None, **fields: Any) -> Outcome:
    files = {"in.png": picture} | ({"ref.png": other} if other is not None else {})
    request = {"input_image": "in.png"} | fields
    return await run_type(ImageAdjuster(), request, make_worker(home), files, roles=NO_MODEL)


async def adjusted(home: Path, picture: Image.Image, other: Image.Image | None = None, **fields: Any) -> Image.Image:
    return (await run(home, picture, other, **fields)).images[0]


async def spec_of(home: Path, inputs: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    files = {"in.png": scene(SIZE), "ref.png": scene(SIZE)}
    request = {"input_image": "in.png"} | fields
    return await prepare(ImageAdjuster(), request, make_worker(home), files, roles=NO_MODEL, **(inputs or {}))


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def cut_out(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Its transparency says where its subject is."""
    image = Image.new("RGBA", size)
    image.paste((200, 40, 40, 255), box)
    return image


def box_of(image: Image.Image) -> tuple[int, int, int, int]:
    # A filter that resamples leaves a faint ring around an edge.
    found = image.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    assert found
    return found


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"aspect_ratio": 1}, (120, 120)),
        ({"aspect_ratio": 1.45}, (116, 80)),
        ({"aspect_ratio": 1, "mode": "crop"}, (80, 80)),
        ({"aspect_ratio": 1, "mode": "pad"}, (120, 120)),
        ({"aspect_ratio": 1, "mode": "scale"}, (80, 80)),
        ({"aspect_ratio": 1, "mode": "scale", "scaling_proportions": "width"}, (120, 120)),
        ({"target_width": 60, "target_height": 70}, (60, 70)),
        ({"target_width": 60, "target_height": 70, "mode": "crop"}, (60, 70)),
        ({"target_width": 60, "target_height": 70, "mode": "scale"}, (60, 70)),
        ({"brightness": 0.5}, (120, 80)),
    ],
)
async def test_the_size_is_the_one_that_was_asked_for(
    tmp_path: Path, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    outcome = await run(tmp_path, scene(SIZE), **fields)
    assert outcome.images[0].size == size
    assert (outcome.artifacts[0].width, outcome.artifacts[0].height) == size


async def test_the_modes_are_different_pictures(tmp_path: Path) -> None:
    target = {"target_width": 60, "target_height": 60}
    made = {
        mode: await adjusted(tmp_path, scene(SIZE), mode=mode, **target) for mode in ("auto", "crop", "pad", "scale")
    }
    assert made["auto"].tobytes() == made["pad"].tobytes()
    assert distance(made["crop"], made["pad"]) > 2
    assert distance(made["crop"], made["scale"]) > 2


async def test_a_crop_keeps_the_part_that_is_named(tmp_path: Path) -> None:
    for position, left in (("left", 0), (None, 20), ("center", 20), ("top_right", 40)):
        image = await adjusted(tmp_path, scene(SIZE), mode="crop", aspect_ratio=1, cropping_position=position)
        assert image.tobytes() == scene(SIZE).crop((left, 0, left + 80, 80)).tobytes()


async def test_the_filter_is_the_one_that_is_named(tmp_path: Path) -> None:
    target = {"mode": "scale", "target_width": 50, "target_height": 40}
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        image = await adjusted(tmp_path, scene(SIZE), resampling=name, **target)
        assert image.tobytes() == scene(SIZE).resize((50, 40), Image.Resampling[name.upper()]).tobytes()
    assert (await adjusted(tmp_path, scene(SIZE), **target)).tobytes() == image.tobytes()


async def test_within_the_tolerance_the_shape_stays(tmp_path: Path) -> None:
    for tolerance, size in ((0, (120, 75)), (0.05, (120, 75)), (0.07, SIZE)):
        image = await adjusted(tmp_path, scene(SIZE), mode="crop", aspect_ratio=1.6, tolerance=tolerance)
        assert image.size == size


@pytest.mark.parametrize(
    ("side", "expected"),
    [("left", (75, 0)), ("right", (0, 0)), ("top", (0, 75)), ("bottom", (0, 0))],
)
async def test_each_margin_makes_room_on_its_side(tmp_path: Path, side: str, expected: tuple[int, int]) -> None:
    """The subject fills its picture, so that a margin of 0.5 on one side doubles that side."""
    outcome = await run(tmp_path, cut_out((75, 75), (0, 0, 75, 74)), mode="pad", **{f"margin_{side}": 0.5})
    left, top, _, _ = box_of(outcome.images[0])
    grown = outcome.images[0].width if side in {"left", "right"} else outcome.images[0].height
    assert abs(left - expected[0]) <= 1
    assert abs(top - expected[1]) <= 1
    assert abs(grown - 150) <= 2


async def test_the_subject_is_found_in_a_photograph(tmp_path: Path) -> None:
    picture = product((160, 160))
    outcome = await run(tmp_path, picture, margin_top=0.3, margin_left=0.3)
    found = outcome.metadata["subject_box"]
    image = outcome.images[0]
    grown = (image.width - 160, image.height - 160)
    assert outcome.metadata["padded"]
    assert abs((found[0] + grown[0]) / image.width - 0.3) < 0.02
    assert abs((found[1] + grown[1]) / image.height - 0.3) < 0.02
    apart = np.abs(np.asarray(picture, int) - np.asarray(picture, int)[2, 2]).max(axis=-1) > 60
    rows = np.flatnonzero(apart.any(axis=1))
    assert abs(found[1] - rows[0]) <= 4
    assert abs(found[3] - rows[-1]) <= 4


async def test_margins_come_from_a_reference(tmp_path: Path) -> None:
    reference = cut_out((100, 200), (20, 40, 70, 180))
    picture = cut_out((60, 60), (10, 5, 50, 55))
    outcome = await run(tmp_path, picture, reference, reference_image="ref.png", mode="pad")
    image = outcome.images[0]
    left, top, right, bottom = box_of(image)
    shares = (left / image.width, top / image.height, 1 - right / image.width, 1 - bottom / image.height)
    assert all(have >= want - 0.02 for have, want in zip(shares, (0.2, 0.2, 0.3, 0.1), strict=True))
    assert outcome.metadata["margins"] == pytest.approx({"left": 0.2, "top": 0.2, "right": 0.3, "bottom": 0.1})
    assert set(outcome.metadata["inputs"]) == {"in.png", "ref.png"}


async def test_a_margin_that_is_given_wins_over_the_reference(tmp_path: Path) -> None:
    reference = cut_out((100, 100), (20, 20, 80, 80))
    outcome = await run(tmp_path, cut_out((60, 60), (0, 0, 60, 59)), reference, reference_image="ref.png", margin_top=0)
    assert outcome.metadata["margins"]["top"] == 0
    assert outcome.metadata["margins"]["bottom"] == pytest.approx(0.2)


async def test_scaling_by_height_meets_both_vertical_margins(tmp_path: Path) -> None:
    picture = cut_out((200, 100), (90, 30, 120, 80))
    fields = {"mode": "scale", "margin_top": 0.1, "margin_bottom": 0.15, "target_width": 90, "target_height": 120}
    image = await adjusted(tmp_path, picture, **fields)
    _, top, _, bottom = box_of(image)
    assert image.size == (90, 120)
    assert abs(top - 12) <= 2
    assert abs(bottom - 102) <= 2
    by_width = fields | {"scaling_proportions": "width", "margin_left": 0.2, "margin_right": 0.2}
    left, _, right, _ = box_of(await adjusted(tmp_path, picture, **by_width))
    assert abs(left - 18) <= 2
    assert abs(right - 72) <= 2


@pytest.mark.parametrize("slider", ["brightness", "contrast", "saturation", "warmth"])
async def test_each_slider_has_an_effect_and_zero_has_none(tmp_path: Path, slider: str) -> None:
    assert distance(await adjusted(tmp_path, scene(SIZE), **{slider: 0.4}), scene(SIZE)) > 2
    assert (await adjusted(tmp_path, scene(SIZE), **{slider: 0})).tobytes() == scene(SIZE).tobytes()


async def test_words_do_what_sliders_do_and_sliders_win(tmp_path: Path) -> None:
    said = await run(tmp_path, scene(SIZE), prompt="slightly warmer, much brighter")
    slid = await run(tmp_path, scene(SIZE), warmth=0.125, brightness=0.5)
    assert said.files == slid.files
    assert (said.public["warmth"], said.public["brightness"], said.public["prompt"]) == (
        0.125,
        0.5,
        "slightly warmer, much brighter",
    )
    both = await spec_of(tmp_path, prompt="slightly warmer, much brighter", brightness=-0.3)
    assert (both["warmth"], both["brightness"]) == (0.125, -0.3)


async def test_the_answer_shows_what_was_asked(tmp_path: Path) -> None:
    outcome = await run(tmp_path, scene(SIZE), mode="crop", aspect_ratio=1, cropping_position="left", contrast=0.1)
    public = outcome.public
    assert public["input_image_path"] == "in.png"
    assert public["result_image_path"] == outcome.artifacts[0].path
    assert public["result_image_path"].startswith("adjusted/")
    assert (public["mode"], public["aspect_ratio"], public["cropping_position"]) == ("crop", 1, "left")
    assert (public["contrast"], public["warmth"], public["tolerance"], public["resampling"]) == (0.1, 0, 0, "lanczos")
    assert any(isinstance(event, Started) for event in outcome.events)


async def test_transparency_survives_and_room_is_transparent(tmp_path: Path) -> None:
    picture = cut_out((60, 60), (10, 10, 50, 50))
    image = await adjusted(tmp_path, picture, aspect_ratio=2, brightness=0.5)
    assert (image.mode, image.size) == ("RGBA", (120, 60))
    assert box_of(image) == (40, 10, 80, 50)


async def test_who_made_it_goes_with_the_result(tmp_path: Path) -> None:
    """From a stored image that says so: all of the result's ways keep it, also where the shape changes."""
    picture = scene(SIZE)
    picture.info[RIGHTS] = Rights("Jörg Müller", "© 2026 Studio")
    for fields in ({"aspect_ratio": 1}, {"target_width": 50, "target_height": 50, "mode": "crop"}, {"warmth": 0.2}):
        outcome = await run(tmp_path, picture, **fields)
        assert open_image(outcome.files[0], max_pixels=10**6).info[RIGHTS] == Rights("Jörg Müller", "© 2026 Studio")


def test_document_3_calls_the_image_by_another_name() -> None:
    request = {"task_type": "IMAGE_ADJUSTER", "base_image_url": "https://cdn.example.com/a.png", "brightness": 0.1}
    assert CreateImageAdjusterTask.model_validate(request).input_image == "https://cdn.example.com/a.png"
    with pytest.raises(ValidationError, match="base_image_url"):
        CreateImageAdjusterTask.model_validate(request | {"input_image": "b.png"})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "aspect_ratio"),
        ({"tolerance": 0.5}, "aspect_ratio"),
        ({"aspect_ratio": 1, "target_width": 10, "target_height": 10}, "aspect_ratio"),
        ({"target_width": 10}, "target_height"),
        ({"target_height": 10}, "target_width"),
        ({"margin_left": 0.6, "margin_right": 0.4}, "margin_left"),
        ({"margin_bottom": 1}, "margin_bottom"),
        ({"aspect_ratio": 1, "cropping_position": "top"}, "cropping_position"),
        ({"aspect_ratio": 1, "mode": "pad", "cropping_position": "top"}, "cropping_position"),
        ({"mode": "crop", "brightness": 0.5}, "mode"),
        ({"aspect_ratio": 1, "scaling_proportions": "height"}, "scaling_proportions"),
        ({"mode": "scale", "margin_top": 0.1}, "margin_bottom"),
        ({"mode": "scale", "margin_top": 0.1, "scaling_proportions": "stretch"}, "scaling_proportions"),
        ({"prompt": "a castle in the rain"}, "prompt"),
        ({"target_width": 9000, "target_height": 9000}, "target_width"),
        ({"aspect_ratio": 0.01, "mode": "pad", "inputs": {"max_pixels": 100_000}}, "aspect_ratio"),
        ({"input_image": "gone.png", "brightness": 1}, "input_image"),
        ({"reference_image": "gone.png"}, "reference_image"),
    ],
)
async def test_wrong_combinations_are_refused_before_the_task_exists(
    tmp_path: Path, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await spec_of(tmp_path, **fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "fields",
    [
        {"brightness": 1.1},
        {"warmth": -1.01},
        {"contrast": float("nan")},
        {"aspect_ratio": 0},
        {"aspect_ratio": float("inf")},
        {"target_width": 0, "target_height": 5},
        {"margin_top": -0.1},
        {"tolerance": 1.5},
        {"mode": "fill"},
        {"resampling": "magic"},
        {"cropping_position": "middle", "mode": "crop"},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateImageAdjusterTask.model_validate({"input_image": "in.png"} | fields)
    assert caught.value.errors()[0]["loc"][0] in fields


@pytest.mark.parametrize(
    ("picture", "fields", "field"),
    [
        (Image.new("RGBA", (40, 40)), {"margin_top": 0.1}, "input_image"),
        (cut_out((40, 40), (10, 10, 30, 30)), {"margin_top": 0.4, "mode": "crop", "margin_left": 0.6}, "mode"),
        (cut_out((40, 40), (0, 0, 40, 39)), {"margin_top": 0.9999, "mode": "pad"}, "margin_top"),
    ],
)
async def test_what_only_the_picture_tells_ends_the_task_as_invalid_input(
    tmp_path: Path, picture: Image.Image, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await run(tmp_path, picture, **fields)
    assert caught.value.field == field
