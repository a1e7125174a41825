"""Regions of a subject, by label."""

import numpy as np
import pytest
from PIL import Image

from compute.imaging.faces import Face, detect_faces
from compute.imaging.segmentation.regions import find_region, region_named
from tests.pictures import figure_mask, full_figure

SIZE = (320, 480)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("tshirt", "upper"),
        ("T-Shirt", "upper"),
        ("shirts", "upper"),
        ("blue_jeans", "lower"),
        ("pants", "lower"),
        ("dresses", "body"),
        ("logos", "logo"),
        ("chest print", "logo"),
        ("shoes", "feet"),
        ("glasses", "subject"),
        ("xyzzy", "subject"),
        ("", "subject"),
        (None, "subject"),
        ("lower", "lower"),
    ],
)
def test_what_a_label_means(label: str | None, name: str) -> None:
    assert region_named(label) == name


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    return detect_faces(full_figure(SIZE))


@pytest.mark.parametrize(
    ("label", "top", "bottom"),
    [("face", 0.08, 0.17), ("shirt", 0.2, 0.5), ("pants", 0.49, 0.94), ("shoes", 0.93, 0.97), (None, 0.04, 0.97)],
)
@pytest.mark.parametrize("with_face", [True, False])
def test_regions_of_a_standing_person(
    label: str | None, top: float, bottom: float, with_face: bool, faces: list[Face]
) -> None:
    """Whether the face was found or not, a region has nearly all of what was drawn there, and little more: `top` and
    `bottom` are those of the drawing in shares of its height."""
    region = find_region(label, figure_mask(SIZE), faces if with_face else [])
    assert top - 0.1 < region.box[1] / SIZE[1] < top + 0.03
    assert bottom - 0.05 < region.box[3] / SIZE[1] < bottom + 0.06


def test_the_mask_ends_softly_at_the_subject_and_never_leaves_it() -> None:
    subject = figure_mask(SIZE)
    region = find_region("tshirt", subject, [])
    outside = np.asarray(subject.crop(region.box)) <= 127
    mask = np.asarray(region.mask)
    assert region.mask.size == (region.box[2] - region.box[0], region.box[3] - region.box[1])
    assert mask[outside].max() == 0
    assert mask.max() == 255
    assert ((mask > 0) & (mask < 255)).mean() > 0.05
    assert mask[0].max() < 200, "it fades where the band is cut, too"


def test_a_garment_laid_flat_is_its_own_region_and_its_logo_the_middle() -> None:
    subject = Image.new("L", (200, 200))
    subject.paste(255, (20, 40, 180, 180))
    assert find_region("shirt", subject, []).box == (20, 40, 180, 180)
    logo = find_region("logo", subject, []).box
    assert logo[0] > 40
    assert logo[2] < 160
    assert logo[3] < 150


def test_where_no_subject_stands_out_it_is_the_whole_picture_to_its_edges() -> None:
    region = find_region("shirt", Image.new("L", (64, 48)), [])
    assert region.box == (0, 0, 64, 48)
    assert np.asarray(region.mask).min() == 255


def test_a_region_that_the_picture_does_not_show_is_the_whole_subject() -> None:
    subject = Image.new("L", (100, 100), 255)
    bust = Face((30, 30, 70, 95), 9.0)
    region = find_region("shoes", subject, [bust])
    assert (region.name, region.box) == ("subject", (0, 0, 100, 100))
