"""DETAIL_ENHANCER: the labelled region gets the reference's detail, and nothing else changes at all."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter
from pydantic import ValidationError

from compute.errors import InvalidInput
from compute.imaging.similarity import ssim
from compute.tasks.types.detail_enhancer import CreateDetailEnhancerTask, DetailEnhancer
from compute.worker.protocol import StagedModel
from tests.pictures import full_figure, product
from tests.unit.tasks.types.retoucher import Retoucher
from tests.unit.tasks.types.worker import Outcome, make_worker, prepare, run_type, tiny_flux_model

KIND = DetailEnhancer()
SHARP = product((160, 160))
SOFT = SHARP.filter(ImageFilter.GaussianBlur(1.5))
PERSON = full_figure((160, 240))
SMALL = {"base_image": "base.png", "reference_image": "reference.png", "seed": 1, "steps": 4, "working_size": 128}


async def enhance(
    tmp_path: Path,
    model: StagedModel,
    picture: Image.Image = SOFT,
    reference: Image.Image = SHARP,
    **changes: Any,
) -> Outcome:
    files = {"base.png": picture, "reference.png": reference}
    return await run_type(KIND, SMALL | changes, make_worker(tmp_path, model), files)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, int)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(pixels(one) - pixels(other)).mean())


def crispness(image: Image.Image) -> float:
    return float(cv2.Laplacian(np.asarray(image.convert("L")), cv2.CV_64F).var())


async def test_the_reference_makes_the_picture_crisper_and_more_like_itself(tmp_path: Path) -> None:
    outcome = await enhance(tmp_path, Retoucher(damage=0), strength=1.0)
    assert crispness(outcome.images[0]) > 1.5 * crispness(SOFT)
    assert ssim(outcome.images[0], SHARP) > ssim(SOFT, SHARP) + 0.02
    assert outcome.public["fallback_used"] is False
    assert outcome.public["region"] == "subject"
    assert outcome.public["result_image_path"].startswith("detail_enhancements/")


@pytest.mark.parametrize(
    ("label", "region", "rows"),
    [("tshirt", "upper", (0.15, 0.6)), ("pants", "lower", (0.4, 1.0)), ("shoes", "feet", (0.8, 1.0))],
)
async def test_only_the_labelled_region_is_touched(
    tmp_path: Path, label: str, region: str, rows: tuple[float, float]
) -> None:
    outcome = await enhance(tmp_path, Retoucher(), PERSON, PERSON, detail_label=label)
    changed = np.flatnonzero((pixels(outcome.images[0]) != pixels(PERSON)).any(axis=(1, 2)))
    assert outcome.public["region"] == region
    assert rows[0] * PERSON.height < changed[0] < changed[-1] < rows[1] * PERSON.height


async def test_the_backdrop_beside_the_subject_is_not_touched(tmp_path: Path) -> None:
    outcome = await enhance(tmp_path, Retoucher(), PERSON, PERSON)
    changed = (pixels(outcome.images[0]) != pixels(PERSON)).any(axis=-1)
    assert changed.any()
    assert not changed[:, :25].any()
    assert not changed[:, -25:].any()


async def test_strength_decides_how_much_changes_and_zero_is_nothing(tmp_path: Path) -> None:
    changes = [
        difference((await enhance(tmp_path, Retoucher(), strength=strength)).images[0], SOFT)
        for strength in (0, 0.2, 0.5, 1)
    ]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert changes[3] > 2 * changes[1]


async def test_preserving_the_original_means_less_transfer_and_less_noise(tmp_path: Path) -> None:
    careful, free = Retoucher(), Retoucher()
    kept = await enhance(tmp_path, careful, preserve_original=True)
    changed = await enhance(tmp_path, free, preserve_original=False)
    assert (careful.requests[0].strength, free.requests[0].strength) == pytest.approx((0.1, 0.25))
    assert difference(changed.images[0], SOFT) > 1.4 * difference(kept.images[0], SOFT)


async def test_preserving_the_original_is_checked_more_strictly(tmp_path: Path) -> None:
    """The same noise on the region, 0.2, once under each check."""
    strict = await enhance(tmp_path, Retoucher(damage=0.6), preserve_original=True, strength=1.0)
    loose = await enhance(tmp_path, Retoucher(damage=0.6), preserve_original=False, strength=0.4)
    assert strict.metadata["attempts_used"] > loose.metadata["attempts_used"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"prompt": "denim"},
        {"steps": 9},
        {"working_size": 64},
        {"reference_image": None},
        {"reference_image": "base.png"},
        {"detail_label": "logo"},
    ],
)
async def test_every_other_parameter_changes_the_picture(tmp_path: Path, changes: dict[str, Any]) -> None:
    before, after = await enhance(tmp_path, Retoucher()), await enhance(tmp_path, Retoucher(), **changes)
    assert np.abs(pixels(before.images[0]) - pixels(after.images[0])).max() > 3


async def test_the_label_is_told_to_the_model_where_no_prompt_is_given(tmp_path: Path) -> None:
    model = Retoucher()
    await enhance(tmp_path, model, detail_label="knitted tshirt")
    assert "knitted tshirt" in model.requests[0].prompt


async def test_without_a_reference_the_detail_that_is_there_is_made_clearer(tmp_path: Path) -> None:
    outcome = await enhance(tmp_path, Retoucher(damage=0), strength=1.0, reference_image=None)
    assert crispness(outcome.images[0]) > 1.2 * crispness(SOFT)
    assert outcome.public["reference_image_path"] is None


async def test_what_the_model_spoils_is_replaced_by_the_transfer_alone(tmp_path: Path) -> None:
    outcome = await enhance(tmp_path, tiny_flux_model(), strength=1.0)
    transferred = await enhance(tmp_path, Retoucher(damage=0), strength=1.0)
    assert outcome.public["fallback_used"] is True
    assert outcome.metadata["attempts_used"] == 2
    assert difference(outcome.images[0], transferred.images[0]) < 1.5
    assert crispness(outcome.images[0]) > 1.5 * crispness(SOFT)


async def test_the_same_request_gives_the_same_picture(tmp_path: Path) -> None:
    first, second = [await enhance(tmp_path, Retoucher()) for _ in range(2)]
    assert first.artifacts[0].sha256 == second.artifacts[0].sha256
    assert first.spec == second.spec


async def test_transparency_says_what_the_subject_is_and_stays(tmp_path: Path) -> None:
    picture = SOFT.convert("RGBA")
    alpha = Image.new("L", picture.size)
    alpha.paste(255, (50, 50, 110, 120))
    picture.putalpha(alpha)
    outcome = await enhance(tmp_path, Retoucher(), picture, detail_label="shirt")
    assert outcome.metadata["region_box"] == [50, 50, 110, 120]
    assert outcome.images[0].getchannel("A").tobytes() == alpha.tobytes()


def test_the_other_dialect_is_understood() -> None:
    request = CreateDetailEnhancerTask.model_validate(
        {"task_type": "DETAIL_ENHANCER", "base_image_url": "base.png", "strength": 0.4, "preserve_original": True}
    )
    assert (request.base_image, request.reference_image) == ("base.png", None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strength": 2}, "strength"),
        ({"steps": 201}, "steps"),
        ({"working_size": 4096}, "working_size"),
        ({"detail_label": "x" * 201}, "detail_label"),
        ({"reference_image": ""}, "reference_image"),
        ({"base_image_url": "base.png"}, "base_image_url"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateDetailEnhancerTask.model_validate(SMALL | changes)
    assert caught.value.errors()[0]["loc"] == (field,)


@pytest.mark.parametrize("field", ["base_image", "reference_image"])
async def test_a_picture_that_is_too_small_is_named(tmp_path: Path, field: str) -> None:
    files = {"base.png": SOFT, "reference.png": SHARP} | {
        f"{field.removesuffix('_image')}.png": Image.new("RGB", (300, 31))
    }
    with pytest.raises(InvalidInput, match="at least 32 pixels") as caught:
        await prepare(KIND, SMALL, make_worker(tmp_path), files)
    assert caught.value.field == field
