"""Detail is added, in the picture's own light and colour, and only where both pictures show the same."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from compute.imaging.detail import sharpen, transfer_detail
from compute.imaging.similarity import ssim
from tests.pictures import portrait, product

SHARP = product((160, 160)).crop((35, 40, 125, 150))
SOFT = SHARP.filter(ImageFilter.GaussianBlur(2))
EVERYWHERE = Image.new("L", SHARP.size, 255)


def energy(image: Image.Image) -> float:
    """How much fine detail there is: variance of the Laplacian of the luminance."""
    return float(cv2.Laplacian(np.asarray(image.convert("L")), cv2.CV_64F).var())


def transferred(image: Image.Image, reference: Image.Image, amount: float) -> Image.Image:
    return transfer_detail(image, reference, amount, mask=EVERYWHERE, reference_mask=EVERYWHERE)


@pytest.mark.parametrize("how", [sharpen, lambda image, amount: transferred(image, SHARP, amount)])
def test_the_more_the_crisper_and_nothing_at_zero(how) -> None:
    energies = [energy(how(SOFT, amount)) for amount in (0, 0.3, 0.6, 1)]
    assert energies == sorted(energies)
    assert energies[-1] > 1.3 * energies[0]
    assert how(SOFT, 0).tobytes() == SOFT.tobytes()


def test_the_detail_of_the_same_garment_brings_the_picture_closer_to_it() -> None:
    assert ssim(transferred(SOFT, SHARP, 1.0), SHARP) > ssim(SOFT, SHARP) + 0.05


def test_light_and_colour_stay_those_of_the_picture() -> None:
    blue = product((160, 160), 1).crop((35, 40, 125, 150))
    means = [np.asarray(image).reshape(-1, 3).mean(axis=0) for image in (SOFT, transferred(SOFT, blue, 1.0))]
    assert np.abs(means[0] - means[1]).max() < 4


def test_a_reference_that_lies_otherwise_leaves_no_ghost() -> None:
    """A disc that only the reference has must not appear, though the reference's texture is taken over."""
    reference = SHARP.transpose(Image.Transpose.ROTATE_90).resize(SHARP.size)
    plain = SOFT.copy()
    plain.paste(SOFT.crop((0, 80, 90, 110)).resize((90, 60)), (0, 20))
    result = transferred(plain, reference, 1.0)
    assert energy(result) > 1.1 * energy(plain)
    assert ssim(result, plain) > ssim(result, reference) + 0.2


def test_a_plain_picture_takes_over_texture_but_no_shape() -> None:
    rows, columns = np.mgrid[0:120, 0:120]
    weave = 110 + 30 * np.sin((rows + columns) * 1.6)
    disc = np.hypot(rows - 60, columns - 60) < 20
    plain, woven, printed = (
        Image.fromarray(np.uint8(values)).convert("RGB")
        for values in (np.full((120, 120), 110), weave, np.where(disc, 220, weave))
    )
    mask = Image.new("L", plain.size, 255)
    textured, with_print = (
        np.asarray(transfer_detail(plain, reference, 1.0, mask=mask, reference_mask=mask).convert("L"), float)
        for reference in (woven, printed)
    )
    assert textured.std() > 0.5 * weave.std()
    edge = np.abs(np.hypot(rows - 60, columns - 60) - 20) < 3
    assert np.abs(with_print - 110)[edge].max() < 0.35 * 110


def test_detail_is_never_taken_away() -> None:
    assert energy(transferred(SHARP, SOFT, 1.0)) >= 0.95 * energy(SHARP)


def test_sharpening_keeps_the_colour_of_skin() -> None:
    face = portrait((120, 120))
    means = [np.asarray(image).reshape(-1, 3).mean(axis=0) for image in (face, sharpen(face, 1.0))]
    assert np.abs(np.diff(means[0] - means[1])).max() < 3
