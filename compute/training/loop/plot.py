"""Plots the loss of a training over its steps."""

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["plot_loss"]

_SIZE, _DPI = (9.0, 5.0), 100
"""900 x 500 pixels."""
_COLUMNS = 800
"""About the width of the axes in pixels."""
_MARKED = 3
"""Up to so many points get markers, because a line would be hardly visible."""
_INK, _GREY, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_LOSS, _RATE = "#2563eb", "#f59e0b"


def plot_loss(
    steps: Sequence[int], losses: Sequence[float], learning_rates: Sequence[float], *, name: str, total_steps: int
) -> bytes:
    """Return a PNG of 900 x 500 pixels: the loss of every step faint, smoothed in front, the learning rate at the
    right.

    Args:
        steps: Numbers of the steps, ascending; at least one.
        losses: One for each step. Those that are not finite are left out.
        learning_rates: One for each step.
        name: Name of the training, for the title.
        total_steps: Number of steps of the whole training.

    Raises:
        ValueError: the sequences differ in length, or there are no steps.
    """
    # The parts of matplotlib without global state; pyplot would keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not len(steps) == len(losses) == len(learning_rates) or not steps:
        raise ValueError("there must be as many losses and learning rates as steps, and at least one")
    x, rates = np.asarray(steps, np.float64), np.asarray(learning_rates, np.float64)
    loss = np.asarray(losses, np.float64)
    finite = np.isfinite(loss)
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    right = axes.twinx()
    _draw_loss(axes, x[finite], loss[finite])
    _draw_rate(right, x, rates)
    _arrange(axes, right, x)
    done = int(x[-1])
    of = f"{done:,} steps" if done >= total_steps else f"step {done:,} of {total_steps:,}"
    axes.set_title(name, loc="left", color=_INK, fontsize=13, fontweight="bold", pad=12)
    axes.set_title(of, loc="right", color=_GREY, fontsize=11, pad=12)
    lines = [*axes.get_lines(), *right.get_lines()]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, labelcolor=_INK)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _draw_loss(axes: "Axes", x: "Numbers", loss: "Numbers") -> None:
    if not x.size:
        return
    marker = "o" if x.size <= _MARKED else ""
    outline = _outline(x, loss)
    axes.plot(*outline, color=_LOSS, alpha=0.3, linewidth=0.8, marker=marker, label="loss")
    smooth = _smoothed(loss)
    at = _spread(x.size)
    last = f"smoothed: {smooth[-1]:.4g} at the end"
    axes.plot(x[at], smooth[at], color=_LOSS, linewidth=2.4, solid_capstyle="round", marker=marker, label=last)
    low, high = np.percentile(outline[1], [0, 99.5])
    margin = 0.06 * (high - low) or max(abs(high), 1e-3)
    # One outlier must not flatten the rest.
    axes.set_ylim(max(low - margin, 0.0) if low >= 0 else low - margin, max(high, float(smooth.max())) + margin)


def _draw_rate(axes: "Axes", x: "Numbers", rates: "Numbers") -> None:
    at = _spread(x.size)
    marker = "o" if x.size <= _MARKED else ""
    axes.plot(x[at], rates[at], color=_RATE, linewidth=1.4, linestyle=(0, (5, 2)), marker=marker, label="learning rate")
    axes.set_ylim(0, 1.1 * float(np.nanmax(rates, initial=0.0)) or 1.0)


def _arrange(axes: "Axes", right: "Axes", x: "Numbers") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    room = 0.5 if x.size == 1 else 0
    axes.set_xlim(float(x[0]) - room, float(x[-1]) + room)
    axes.xaxis.set_major_locator(
        FixedLocator(x.tolist()) if x.size == 1 else MaxNLocator(8, integer=True, steps=[1, 2, 5, 10])
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    right.yaxis.set_major_locator(MaxNLocator(5))
    right.yaxis.set_major_formatter(FuncFormatter(_short))
    # The loss is in front, so its axes must be transparent.
    axes.set_zorder(right.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.set_xlabel("step", color=_GREY)
    axes.set_ylabel("loss", color=_LOSS)
    right.set_ylabel("learning rate", color=_RATE)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for one in (axes, right):
        one.tick_params(colors=_GREY, length=0, labelsize=9.5)
        for spine in one.spines.values():
            spine.set_visible(False)
    axes.spines["bottom"].set(visible=True, color=_GRID)


def _short(value: float, _position: object = None) -> str:
    """`8e-5` instead of `8e-05`."""
    number, _, exponent = f"{value:.3g}".partition("e")
    return f"{number}e{int(exponent)}" if exponent else number


def _smoothed(loss: "Numbers") -> "Numbers":
    """An exponential moving average over about a twentieth of the steps, corrected for its start."""
    keep = 1 - 1 / min(max(loss.size / 20, 4.0), 500.0)
    smooth = np.empty_like(loss)
    total, weight = 0.0, 0.0
    for index, value in enumerate(loss.tolist()):
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        smooth[index] = total / weight
    return smooth


def _outline(x: "Numbers", y: "Numbers") -> tuple["Numbers", "Numbers"]:
    """Minimum and maximum of each column of pixels, which a line through all points would cover."""
    if x.size <= 2 * _COLUMNS:
        return x, y
    edges = np.linspace(0, x.size, _COLUMNS + 1).astype(int)
    chosen = []
    for begin, end in pairwise(edges.tolist()):
        part = y[begin:end]
        chosen += sorted({begin + int(part.argmin()), begin + int(part.argmax())})
    return x[chosen], y[chosen]


def _spread(size: int) -> "NDArray[np.intp]":
    """Indices for a smooth line, first and last included."""
    return np.unique(np.linspace(0, size - 1, min(size, _COLUMNS)).astype(np.intp))
