"""The picture of a training's loss."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from compute.training.loop.plot import plot_loss

WHITE = (255, 255, 255)
BLUE, AMBER = np.array([37, 99, 235]), np.array([245, 158, 11])


def plotted(losses: list[float], *, name: str = "red-dress", rate: float = 1e-4) -> np.ndarray:
    """Its pixels, (500, 900, 3)."""
    steps = range(1, len(losses) + 1)
    data = plot_loss(steps, losses, [rate] * len(losses), name=name, total_steps=len(losses))
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size) == ("PNG", (900, 500))
    return np.asarray(image.convert("RGB"))


def rows_of(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The rows in which a colour is, above the legend."""
    near = np.abs(pixels[:432, 60:].astype(int) - colour).sum(axis=-1) < 30
    rows: np.ndarray = np.flatnonzero(near.any(axis=1))
    return rows


def falling(steps: int) -> list[float]:
    noise = np.random.default_rng(0).gamma(2, 0.05, steps)
    values: list[float] = (np.exp(-np.arange(steps) / max(steps / 3, 1)) + noise).tolist()
    return values


@pytest.mark.parametrize("steps", [1, 2, 60, 1600, 1601, 100_000])
def test_any_number_of_steps_is_drawn(steps: int) -> None:
    pixels = plotted(falling(steps))
    assert rows_of(pixels, BLUE).size
    assert rows_of(pixels, AMBER).size
    assert tuple(pixels[0, 0]) == WHITE


def test_a_curve_that_falls_is_higher_at_its_beginning() -> None:
    blue = np.abs(plotted(falling(1000))[:430].astype(int) - BLUE).sum(axis=-1) < 30
    begin, end = (np.flatnonzero(blue[:, columns].any(axis=1)).mean() for columns in (slice(60, 160), slice(700, 800)))
    assert begin < end - 100


def test_losses_that_are_no_numbers_are_left_out() -> None:
    losses = falling(100)
    hurt = [*losses[:50], float("nan"), float("inf"), *losses[50:]]
    assert rows_of(plotted(hurt), BLUE).size
    assert not rows_of(plotted([float("nan")]), BLUE).size


def test_one_wild_step_does_not_press_the_rest_flat() -> None:
    calm = falling(1000)
    wild = [*calm[:500], 3.0, *calm[501:]]
    before = slice(100, 400)
    heights = [np.ptp(rows_of(plotted(losses)[:, before], BLUE)) for losses in (calm, wild)]
    assert heights[1] > 0.7 * heights[0]


def test_losses_and_rates_may_all_be_the_same_or_nothing() -> None:
    for value in (0.0, 0.3, -2.0):
        assert rows_of(plotted([value] * 20, rate=0.0), BLUE).size


def test_the_same_numbers_give_the_same_bytes_and_no_figure_stays() -> None:
    first, second = (plot_loss([1, 2], [0.5, 0.4], [1e-4] * 2, name="a", total_steps=9) for _ in range(2))
    assert first == second
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize(("steps", "losses"), [([], []), ([1, 2], [0.5]), ([1], [0.5, 0.4])])
def test_numbers_that_do_not_belong_together_are_refused(steps: list[int], losses: list[float]) -> None:
    with pytest.raises(ValueError, match="as many losses"):
        plot_loss(steps, losses, [1e-4] * len(steps), name="a", total_steps=2)
