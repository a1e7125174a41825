"""The colour maths of IMAGE_ADJUSTER, its words, and the room that it adds around a picture."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compute.imaging.adjustment.sliders import Adjustments, adjust
from compute.imaging.adjustment.words import read_adjustments
from compute.imaging.framing.geometry import Framing, plan
from compute.imaging.framing.padding import padded
from compute.imaging.framing.reframe import reframed
from compute.imaging.segmentation.subject_box import subject_box
from tests.pictures import product, scene

SLIDERS = ("brightness", "contrast", "saturation", "warmth")
STEPS = (-1.0, -0.5, -0.05, 0.0, 0.05, 0.5, 1.0)
usual = settings(max_examples=25)
amounts = st.floats(-1, 1)


def colours(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8))


def ramp() -> Image.Image:
    """Every grey once."""
    return Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


def luminance(image: Image.Image) -> np.ndarray:
    coded = values(image.convert("RGB")) / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def colourfulness(image: Image.Image) -> float:
    return float(np.ptp(values(image), axis=-1).mean())


def measure(slider: str, image: Image.Image) -> float:
    """What the slider is meant to move."""
    return {
        "brightness": lambda: values(image).mean(),
        "contrast": lambda: values(image).std(),
        "saturation": lambda: colourfulness(image),
        "warmth": lambda: (values(image)[..., 0] - values(image)[..., 2]).mean(),
    }[slider]()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_zero_is_the_identity_bit_for_bit(mode: str) -> None:
    image = colours().convert(mode)
    assert adjust(image, Adjustments()).tobytes() == image.tobytes()


@pytest.mark.parametrize("slider", SLIDERS)
def test_next_to_zero_is_next_to_the_identity(slider: str) -> None:
    assert np.abs(values(adjust(colours(), Adjustments(**{slider: 1e-6}))) - values(colours())).max() <= 1


@pytest.mark.parametrize("slider", SLIDERS)
def test_a_slider_moves_one_way(slider: str) -> None:
    moved = [measure(slider, adjust(scene((96, 64)), Adjustments(**{slider: step}))) for step in STEPS]
    assert all(one < other for one, other in pairwise(moved))


@usual
@given(brightness=amounts, contrast=amounts)
def test_light_never_changes_places_with_shade(brightness: float, contrast: float) -> None:
    tones = values(adjust(ramp(), Adjustments(brightness, contrast)))[0, :, 0]
    assert (np.diff(tones) >= 0).all()


@pytest.mark.parametrize(
    ("wanted", "mid"), [({"brightness": 1}, 181), ({"brightness": -1}, 64), ({"contrast": 1}, 129)]
)
def test_the_tone_curves_are_the_documented_ones(wanted: dict[str, float], mid: int) -> None:
    tones = values(adjust(ramp(), Adjustments(**wanted)))[0, :, 0]
    assert (tones[0], tones[255]) == (0, 255)
    assert abs(tones[128] - mid) <= 1


@pytest.mark.parametrize(("contrast", "slope"), [(0.5, 2.0), (-0.5, 0.5), (-1.0, 0.25)])
def test_contrast_is_the_slope_at_mid_grey(contrast: float, slope: float) -> None:
    tones = values(adjust(ramp(), Adjustments(contrast=contrast)))[0, :, 0]
    assert abs((tones[144] - tones[112]) / 32 - slope) < 0.07


@usual
@given(saturation=amounts)
def test_greys_stay_neutral_and_luminance_stays_under_saturation(saturation: float) -> None:
    wanted = Adjustments(saturation=saturation)
    assert np.array_equal(values(adjust(ramp(), wanted)), values(ramp()))
    assert np.abs(luminance(adjust(colours(), wanted)) - luminance(colours())).max() < 0.006


def test_without_saturation_there_is_only_grey() -> None:
    assert colourfulness(adjust(colours(), Adjustments(saturation=-1))) == 0


def test_saturation_keeps_gradations_of_strong_colours() -> None:
    """A plain gain would clip these to one and the same red."""
    reds = Image.fromarray(np.array([[[250, 40, 40], [250, 30, 30], [250, 20, 20], [250, 10, 10]]], np.uint8))
    greens = values(adjust(reds, Adjustments(saturation=0.6)))[0, :, 1]
    assert (np.diff(greens) < 0).all()


@pytest.mark.parametrize(("warmth", "kelvin"), [(1.0, 4678), (0.5, 5442), (-0.5, 8080), (-1.0, 10664)])
def test_warmth_moves_white_along_daylight(warmth: float, kelvin: float) -> None:
    """The correlated colour temperature of what white becomes, by McCamy's formula (1992)."""
    red, green, blue = values(adjust(Image.new("RGB", (1, 1), "white"), Adjustments(warmth=warmth)))[0, 0] / 255
    assert max(red, green, blue) == 1
    light = [((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    big_x, big_y, big_z = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light
    )
    x, y = big_x / (big_x + big_y + big_z), big_y / (big_x + big_y + big_z)
    n = (x - 0.3320) / (0.1858 - y)
    assert abs(449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33 - kelvin) < kelvin * 0.02


@pytest.mark.parametrize("slider", SLIDERS)
def test_alpha_is_untouched(slider: str) -> None:
    image = colours()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    changed = adjust(image, Adjustments(**{slider: 0.7}))
    assert changed.mode == "RGBA"
    assert changed.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert changed.convert("RGB").tobytes() == adjust(colours(), Adjustments(**{slider: 0.7})).tobytes()


def test_grey_stays_one_channel_unless_it_is_tinted() -> None:
    grey = colours().convert("L")
    assert adjust(grey, Adjustments(brightness=0.5, saturation=1)).mode == "L"
    assert adjust(grey, Adjustments(warmth=0.5)).mode == "RGB"


def test_large_pictures_are_worked_on_in_bands_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Adjustments(0.2, 0.2, 0.4, -0.3)
    whole = adjust(colours(), wanted)
    monkeypatch.setattr("compute.imaging.adjustment.sliders._BAND_PIXELS", 100)
    assert adjust(colours(), wanted).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("warmer", Adjustments(warmth=0.25)),
        ("Slightly warmer, and much more contrast!", Adjustments(warmth=0.125, contrast=0.5)),
        ("a bit less saturated but brighter", Adjustments(saturation=-0.125, brightness=0.25)),
        ("Black & white", Adjustments(saturation=-1)),
        ("black and white", Adjustments(saturation=-1)),
        ("reduce the warmth", Adjustments(warmth=-0.25)),
        ("darker darker darker darker darker", Adjustments(brightness=-1)),
        ("don't make it cooler", Adjustments()),
        ("make it look like a film still", None),
        ("", None),
    ],
)
def test_words_move_sliders(text: str, expected: Adjustments | None) -> None:
    assert read_adjustments(text) == expected


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (24, 24)])
def test_padding_leaves_the_picture_as_it_is(mode: str, size: tuple[int, int]) -> None:
    image = colours().resize(size).convert(mode)
    result = padded(image, (50, 60), (10, 20))
    assert (result.mode, result.size) == (mode, (50, 60))
    assert result.crop((10, 20, 10 + size[0], 20 + size[1])).tobytes() == image.tobytes()


def test_a_transparent_picture_gets_transparent_room_and_an_opaque_one_does_not() -> None:
    image = colours().convert("RGBA")
    assert padded(image, (40, 40), (8, 8)).getchannel("A").getextrema() == (255, 255)
    image.putpixel((3, 3), (0, 0, 0, 0))
    room = padded(image, (40, 40), (8, 8))
    assert room.getpixel((0, 0)) == (0, 0, 0, 0)
    assert room.crop((8, 8, 32, 32)).tobytes() == image.tobytes()


def test_padding_goes_on_without_an_edge_and_with_the_same_grain() -> None:
    """A studio: light that falls off, and noise. The new rows differ from those inside no more than those do."""
    noise = np.random.default_rng(3).normal(0, 2, (120, 160, 1))
    light = np.linspace(236, 222, 160)[None, :, None]
    studio = Image.fromarray(np.clip(np.round(light + noise).repeat(3, 2), 0, 255).astype(np.uint8))
    result = values(padded(studio, (160, 200), (0, 40)))[..., 0]
    steps = np.abs(np.diff(result.mean(axis=1)))
    assert steps[[39, 159]].max() <= steps[45:155].max() * 1.5
    assert np.abs(result[:40].mean(axis=0) - light[0, :, 0]).max() < 2.5
    assert 0.7 < np.diff(result[:36]).std() / np.diff(result[50:150]).std() < 1.3


def test_what_touches_the_edge_does_not_become_a_stripe() -> None:
    image = product((120, 120)).crop((0, 0, 120, 60))
    result = values(padded(image, (120, 260), (0, 0)))
    assert np.ptp(result[-1], axis=0).max() < 0.35 * np.ptp(result[60], axis=0).max()


def test_padding_is_the_same_every_time_and_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    once = padded(scene((48, 32)), (100, 90), (20, 30)).tobytes()
    assert padded(scene((48, 32)), (100, 90), (20, 30)).tobytes() == once
    monkeypatch.setattr("compute.imaging.framing.padding._BAND_PIXELS", 1)
    assert padded(scene((48, 32)), (100, 90), (20, 30)).tobytes() == once


def test_a_crop_copies_pixels() -> None:
    image = scene((96, 64))
    cut = reframed(image, plan(image.size, Framing("crop", aspect_ratio=1)), "lanczos")
    assert cut.tobytes() == image.crop((16, 0, 80, 64)).tobytes()


def test_each_filter_is_its_own() -> None:
    image = scene((96, 64))
    planned = plan(image.size, Framing("scale", size=(37, 41)))
    made = {
        name: reframed(image, planned, name).tobytes()  # type: ignore[arg-type]
        for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
    }
    assert len(set(made.values())) == 6
    assert made["bicubic"] == image.resize((37, 41), Image.Resampling.BICUBIC).tobytes()


def test_the_box_of_a_subject_leaves_specks_out() -> None:
    mask = Image.new("L", (100, 80))
    mask.paste(255, (20, 10, 60, 70))
    mask.paste(100, (60, 10, 90, 70))
    mask.paste(255, (95, 2, 97, 4))
    assert subject_box(mask) == (20, 10, 60, 70)
    assert subject_box(Image.new("L", (9, 9))) is None
