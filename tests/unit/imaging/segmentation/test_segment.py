"""Cut-outs of pictures whose truth is known."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from compute.errors import InvalidInput, TaskFailed
from compute.imaging.segmentation.foreground import cut_out, foreground_colours
from compute.imaging.segmentation.matting import guided_coefficients, refine_matte
from compute.imaging.segmentation.segment import GRABCUT, REMBG_MODELS, SEGMENTATION_MODELS, subject_mask
from tests.unit.imaging.cutouts import Cutout, bottle, mug, person, shirt_on_bokeh
from tests.unit.imaging.onnx_files import brightness_model, channels_model, write_sam


def share_of(mask: Image.Image) -> np.ndarray:
    return np.asarray(mask).astype(np.float32) / 255


@pytest.mark.parametrize(
    ("draw", "whole", "edge"),
    [(bottle, 0.002, 0.08), (mug, 0.002, 0.08), (shirt_on_bokeh, 0.003, 0.12), (person, 0.012, 0.2)],
)
def test_a_subject_is_cut_out_almost_perfectly(draw: Callable[[], Cutout], whole: float, edge: float) -> None:
    """Mean error of the matte over the picture, and over its mixed pixels."""
    truth = draw()
    error = np.abs(share_of(subject_mask(truth.image)) - truth.share)
    assert error.mean() < whole
    assert error[truth.edge].mean() < edge


def test_inside_it_is_full_and_outside_it_is_empty() -> None:
    truth = bottle()
    mask = np.asarray(subject_mask(truth.image))
    assert (mask[truth.share == 1] == 255).mean() > 0.99
    assert (mask[truth.share == 0] == 0).mean() > 0.995
    assert mask[truth.edge].std() > 40, "edges are soft"


def test_the_backdrop_shows_through_a_handle() -> None:
    mask = np.asarray(subject_mask(mug().image))
    assert mask[105, 126] == 0
    assert mask[105, 80] == 255


def test_hair_that_stands_off_is_kept() -> None:
    truth = person()
    mask = share_of(subject_mask(truth.image))
    hair = np.zeros_like(truth.share, bool)
    hair[:44] = truth.share[:44] > 0.5
    assert hair.sum() > 40
    assert (mask[hair] > 0.3).mean() > 0.7


def test_its_edge_is_as_fine_at_twice_the_working_size() -> None:
    truth = bottle((768, 1024))
    error = np.abs(share_of(subject_mask(truth.image)) - truth.share)
    assert error.mean() < 0.001
    assert error[truth.edge].mean() < 0.12


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (9, 9), (64, 48)])
@pytest.mark.parametrize("colour", ["white", "black", "#809080"])
def test_without_a_subject_the_mask_is_empty(size: tuple[int, int], colour: str) -> None:
    mask = subject_mask(Image.new("RGB", size, colour))
    assert (mask.mode, mask.size) == ("L", size)
    assert mask.getbbox() is None


def test_in_a_picture_that_is_the_same_all_over_the_subject_is_the_middle() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    mask = np.asarray(subject_mask(Image.fromarray(noise).resize((384, 384), Image.Resampling.NEAREST)))
    assert mask[150:234, 150:234].mean() > 128
    assert mask[:20].mean() < 30


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1"])
def test_pictures_of_any_mode_have_a_mask(mode: str) -> None:
    truth = mug((96, 96))
    mask = subject_mask(truth.image.convert(mode))
    error = np.abs(share_of(mask) - truth.share).mean()
    assert (mask.mode, mask.size) == ("L", (96, 96))
    # Dithering to black and white leaves little of a backdrop.
    assert error < (0.25 if mode == "1" else 0.02)


def test_transparency_is_the_mask() -> None:
    image = bottle((96, 128)).image.convert("RGBA")
    alpha = Image.linear_gradient("L").resize(image.size)
    image.putalpha(alpha)
    assert subject_mask(image).tobytes() == alpha.tobytes()


def test_the_same_picture_gives_the_same_mask_in_any_thread() -> None:
    picture = person((96, 128)).image
    with ThreadPoolExecutor(3) as threads:
        masks = set(threads.map(lambda _: subject_mask(picture).tobytes(), range(6)))
    assert len(masks) == 1


def test_no_halo_shows_on_another_background() -> None:
    """The fringe: how far edge pixels are from the truth before black, white and green, of 255."""
    for truth, share_of_naive in ((bottle((384, 512)), 0.4), (mug((384, 384)), 0.5)):
        mask = subject_mask(truth.image)
        cut, naive = cut_out(truth.image, mask), truth.image.copy()
        naive.putalpha(mask)
        for colour in ((0, 0, 0), (255, 255, 255), (0, 255, 0)):
            fringe, old = (_fringe(truth, image, colour) for image in (cut, naive))
            assert fringe < 12
            assert fringe < old * share_of_naive


def test_an_edge_out_of_focus_is_followed_to_its_end() -> None:
    """A dark disc with an edge some 20 pixels wide: before black, no pale ring is left around it."""
    y, x = np.mgrid[-1:1:192j, -1:1:192j]
    disc = (np.hypot(x, y) < 0.55).astype(np.float32)
    share = np.asarray(Image.fromarray(np.uint8(disc * 255)).filter(ImageFilter.GaussianBlur(4.5))) / np.float32(255)
    colours = np.broadcast_to(np.float32((60, 40, 30)), (192, 192, 3))
    pixels = colours * share[..., None] + np.float32((196, 198, 204)) * (1 - share[..., None])
    truth = Cutout(Image.fromarray(np.round(pixels).astype(np.uint8)), share, colours)
    mask = subject_mask(truth.image)
    assert np.abs(share_of(mask) - share)[truth.edge].mean() < 0.04
    assert _fringe(truth, cut_out(truth.image, mask), (0, 0, 0)) < 8


def _fringe(truth: Cutout, cut: Image.Image, colour: tuple[int, int, int]) -> float:
    plate = Image.new("RGBA", cut.size, colour)
    plate.alpha_composite(cut)
    seen = np.asarray(plate.convert("RGB")).astype(np.float32)
    return float(np.abs(seen - truth.on(colour))[truth.edge].mean())


def test_colours_are_the_subjects_own_and_nothing_of_the_backdrop_is_left() -> None:
    truth = bottle()
    mask = np.asarray(subject_mask(truth.image))
    pixels = np.asarray(truth.image)
    colours = foreground_colours(pixels, mask)
    assert np.array_equal(colours[mask == 255], pixels[mask == 255])
    far = mask.copy()
    far[:] = 0
    far[:10] = 1
    assert not colours[far == 1].any()


def test_the_guided_filter_follows_the_edges_of_its_guide() -> None:
    """He, Sun, Tang: with a guide that explains the mask, the filtered mask is as sharp as the guide."""
    guide = np.zeros((40, 40, 3), np.float32)
    guide[:, 20:] = (0.8, 0.5, 0.3)
    blunt = np.clip((np.arange(40, dtype=np.float32)[None] - 14) / 12, 0, 1).repeat(40, 0)
    slopes, offset = guided_coefficients(guide, blunt, 6, 1e-6)
    filtered = (slopes * guide).sum(axis=-1) + offset
    step = (filtered[20, 20] - filtered[20, 19]) / (blunt[20, 20] - blunt[20, 19])
    assert step > 4
    flat = np.full_like(guide, 0.5)
    slopes, offset = guided_coefficients(flat, blunt, 6, 1e-6)
    assert np.abs(slopes).max() < 1e-3, "a flat guide leaves a mean"


def test_a_matte_stays_certain_away_from_the_edge() -> None:
    coarse = np.zeros((32, 32), np.uint8)
    coarse[8:24, 8:24] = 255
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    matte = refine_matte(noise, coarse)
    assert matte.shape == (256, 256)
    assert (matte[110:140, 110:140] == 255).all()
    assert (matte[:24] == 0).all()


def test_a_large_picture_takes_little_more_memory_than_itself() -> None:
    """In floating point, a single copy of it would take four times its own memory."""
    picture = bottle((96, 128)).image.resize((2160, 2880), Image.Resampling.BICUBIC)
    tracemalloc.start()
    cut = cut_out(picture, subject_mask(picture))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert cut.size == picture.size
    assert peak < 6 * 2160 * 2880 * 3


# --- rembg -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def models_root(tmp_path: Path) -> Path:
    folder = tmp_path / "rembg"
    folder.mkdir()
    for name in REMBG_MODELS:
        if name != "sam":
            content = channels_model() if name == "u2net_cloth_seg" else brightness_model()
            (folder / f"{name}.onnx").write_bytes(content)
    write_sam(folder)
    return tmp_path


@pytest.mark.parametrize("model", REMBG_MODELS)
def test_every_listed_model_runs_from_its_file(model: str, models_root: Path) -> None:
    """The files mark what is bright (for clothes: what is green), which GrabCut would not find in the corner."""
    image = Image.new("RGB", (90, 60), (150, 20, 20))
    image.paste((190, 255, 190), (0, 0, 45, 60))
    image = image.filter(ImageFilter.GaussianBlur(3))
    mask = np.asarray(subject_mask(image, model=model, models_root=models_root))
    assert (mask[:, :30] == 255).all()
    assert (mask[:, 60:] == 0).all()


def test_a_model_is_loaded_without_compiling_anything(models_root: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from compute.imaging.segmentation.segment import load_segmenter; "
        "load_segmenter('u2net', pathlib.Path(sys.argv[1]))"
    )
    compiled = tmp_path / "compiled"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(compiled)}
    subprocess.run([sys.executable, "-c", code, str(models_root)], env=environment, check=True)  # noqa: S603
    assert not [file for file in compiled.rglob("*") if file.is_file()]


def test_a_model_is_loaded_once(models_root: Path) -> None:
    from compute.imaging.segmentation.segment import load_segmenter

    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(lambda _: load_segmenter("u2net", models_root), range(8)))
    assert len({id(segmenter) for segmenter in loaded}) == 1


def test_a_picture_that_the_network_sees_nothing_in_has_an_empty_mask(models_root: Path) -> None:
    assert subject_mask(Image.new("RGB", (40, 40), "grey"), model="u2net", models_root=models_root).getbbox() is None


@pytest.mark.parametrize("model", REMBG_MODELS)
@pytest.mark.parametrize("root", [True, False])
def test_an_absent_file_is_named_and_not_fetched(model: str, root: bool, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no rembg/\S+\.onnx below") as refused:
        subject_mask(bottle().image, model=model, models_root=tmp_path if root else None)
    assert refused.value.field == "provider_config.rembg_model"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_a_failure_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "rembg").mkdir()
    (tmp_path / "rembg" / "u2netp.onnx").write_bytes(b"no model")
    with pytest.raises(TaskFailed, match="u2netp could not be loaded"):
        subject_mask(bottle().image, model="u2netp", models_root=tmp_path)


def test_an_unknown_model_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="known: grabcut, u2net, u2netp") as refused:
        subject_mask(bottle().image, model="../u2net")
    assert refused.value.field == "provider_config.rembg_model"
    assert GRABCUT in SEGMENTATION_MODELS


def test_asking_which_models_there_are_loads_no_picture_library() -> None:
    code = "import sys, compute.imaging.segmentation.segment; print({'cv2', 'rembg', 'onnxruntime'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert answer.stdout.strip() == "set()"
