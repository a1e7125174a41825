"""SSIM is the published one; LPIPS and DISTS are there when their weights are, and never otherwise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from skimage.metrics import structural_similarity

from compute.imaging.similarity import Scores, compare, missing_weights, ssim
from tests.pictures import portrait, product


def blurred(image: Image.Image, radius: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


PAIRS = [
    (portrait((120, 90)), portrait((120, 90), 1)),
    (product((64, 100)), blurred(product((64, 100)), 2)),
    (product((40, 40)), portrait((40, 40))),
    (Image.new("RGB", (12, 12), "white"), Image.new("RGB", (12, 12), "gray")),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_ssim_is_that_of_scikit_image(first: Image.Image, second: Image.Image) -> None:
    expected = structural_similarity(
        *(np.asarray(image.convert("L")) for image in (first, second)),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(first, second) == pytest.approx(expected, abs=1e-9)


def test_ssim_falls_as_pictures_part() -> None:
    picture = product((100, 100))
    scores = [ssim(picture, blurred(picture, radius)) for radius in (0, 1, 2, 4)]
    assert scores[0] == pytest.approx(1.0)
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.7


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(40, 30\)"):
        ssim(portrait((40, 40)), portrait((40, 30)))
    with pytest.raises(ValueError, match="smaller than the window"):
        ssim(portrait((40, 10)), portrait((40, 10)))


def test_without_weights_the_learned_scores_are_null_and_the_reason_is_said(tmp_path: Path) -> None:
    picture = portrait((40, 40))
    assert compare(picture, picture, models_root=tmp_path) == Scores(ssim=pytest.approx(1.0), lpips=None, dists=None)
    reason = missing_weights(tmp_path)
    assert reason is not None
    assert "vgg16-397923af.pth, lpips_weights.pt, dists_weights.pt not found" in reason


_LAYERS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
           17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}  # fmt: skip


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with files of the real names and layouts, and random weights."""
    root = tmp_path_factory.mktemp("models")
    folder = root / "perceptual"
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    features = {}
    for layer, (inputs, outputs) in _LAYERS.items():
        scale = (2 / (9 * inputs)) ** 0.5
        features[f"features.{layer}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=random) * scale
        features[f"features.{layer}.bias"] = torch.randn(outputs, generator=random) * 0.01
    torch.save(features, folder / "vgg16-397923af.pth")
    linear = [torch.rand(1, width, 1, 1, generator=random) / width for width in (64, 128, 256, 512, 512)]
    torch.save(linear, folder / "lpips_weights.pt")
    alpha, beta = torch.rand(2, 1, 3 + 64 + 128 + 256 + 512 + 512, 1, 1, generator=random)
    total = alpha.sum() + beta.sum()
    torch.save({"alpha": alpha / total, "beta": beta / total}, folder / "dists_weights.pt")
    return root


def test_with_weights_all_scores_are_there_and_fall_together(weighted: Path) -> None:
    picture = product((64, 80))
    assert missing_weights(weighted) is None
    same = compare(picture, picture, models_root=weighted)
    assert (same.lpips, same.dists) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-5))
    little, much = (compare(picture, blurred(picture, radius), models_root=weighted) for radius in (1, 4))
    assert little.ssim > much.ssim
    assert 0 < (little.lpips or 0) < (much.lpips or 0)
    assert 0 < (little.dists or 0) < (much.dists or 0)


PIQ_LPIPS = 0.00067978
PIQ_DISTS = 0.0362058
"""What piq 0.8.0 answered, once, for these weights and these pictures."""


def test_lpips_and_dists_are_those_of_piq(weighted: Path) -> None:
    scores = compare(product((96, 64)), blurred(product((96, 64)), 2), models_root=weighted)
    assert scores.lpips == pytest.approx(PIQ_LPIPS, rel=1e-3)
    assert scores.dists == pytest.approx(PIQ_DISTS, rel=1e-3)


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code of a weight file was run",)


@pytest.mark.parametrize("content", [b"not a weight file", None], ids=["garbage", "code"])
def test_weights_that_cannot_be_trusted_are_refused_with_a_reason(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "perceptual"
    folder.mkdir()
    for name in ("vgg16-397923af.pth", "lpips_weights.pt", "dists_weights.pt"):
        if content is None:
            torch.save({"weights": _Code()}, folder / name)
        else:
            (folder / name).write_bytes(content)
    assert "vgg16-397923af.pth is damaged, or holds more than weights" in (missing_weights(tmp_path) or "")
    assert compare(portrait((40, 40)), portrait((40, 40)), models_root=tmp_path).lpips is None
    assert "was run" not in capsys.readouterr().out
