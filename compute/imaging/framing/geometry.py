"""Geometry of crop, pad and scale, with margins around the subject: computes frames, without touching pixels.

A *frame* is a rectangle in the image's coordinates: inside the image (crop), around it (pad) or across its edges
(scale). The content of the frame becomes the result. Each axis is solved by itself; the aspect ratio couples the two.

The rules of one axis: an image of length L, the subject from p to q, margins b before and a after it as shares of the
frame, a frame of length s that starts at f. The margins are kept if f <= p - b*s and f + s >= q + a*s. So s is at
least (q - p) / (1 - a - b). A crop needs 0 <= f and f + s <= L, and with that s <= p / b and s <= (L - q) / a: it is
the largest such frame. Padding needs f <= 0 and f + s >= L, and with that s >= q / (1 - a) and s >= (L - p) / (1 - b):
it is the smallest such frame.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from compute.errors import InvalidInput

__all__ = [
    "AUTO_CROP_LIMIT",
    "FramePlan",
    "Framing",
    "Margins",
    "Mode",
    "Proportions",
    "Resampling",
    "Subject",
    "aspect_difference",
    "plan",
]

Mode = Literal["auto", "crop", "pad", "scale"]
Proportions = Literal["height", "width", "stretch"]
Resampling = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Pillow's filters, by their names in lower case."""
Size = tuple[int, int]
Subject = tuple[float, float, float, float]
"""Left, top, right, bottom of the subject in pixels of the image."""

AUTO_CROP_LIMIT = 0.05
"""Up to this difference of the aspect ratios, `auto` crops; above it, it pads."""

_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Margins:
    """Shares of the result's width (left, right) and height (top, bottom). None means no requirement on that side."""

    left: float | None = None
    top: float | None = None
    right: float | None = None
    bottom: float | None = None


@dataclass(frozen=True, slots=True)
class Framing:
    """A request for framing. Of `aspect_ratio` (width / height) and `size` (width, height) at most one is set.

    Attributes:
        margins: Least margins around the subject; exact for the axis that `proportions` names. None: no subject.
        position: The position of a crop, from (0, 0), top left, to (1, 1), bottom right.
        tolerance: From 0 to 1. An image that deviates by no more than this is left unchanged.
        proportions: For mode scale. `height` and `width` keep the image's proportions and fit that axis exactly,
            so that the other may be cut or padded; `stretch` fits both.
    """

    mode: Mode = "auto"
    aspect_ratio: float | None = None
    size: Size | None = None
    margins: Margins | None = None
    position: tuple[float, float] = (0.5, 0.5)
    tolerance: float = 0.0
    proportions: Proportions = "stretch"

    @property
    def ratio(self) -> float | None:
        """The requested aspect ratio of the result, if any."""
        return self.aspect_ratio if self.size is None else self.size[0] / self.size[1]


@dataclass(frozen=True, slots=True)
class FramePlan:
    """The part `source` of the image (left, top, right, bottom; may cut pixels) goes to `destination`, in whole pixels
    of a result of `size`; the rest of the result is padding."""

    size: Size
    source: tuple[float, float, float, float]
    destination: tuple[int, int, int, int]

    @property
    def pads(self) -> bool:
        return self.destination != (0, 0, *self.size)

    @property
    def resamples(self) -> bool:
        """Whether pixels are resampled; otherwise they are copied."""
        return any(edge != round(edge) for edge in self.source) or (
            self.source[2] - self.source[0],
            self.source[3] - self.source[1],
        ) != (
            self.destination[2] - self.destination[0],
            self.destination[3] - self.destination[1],
        )

    def changes(self, size: Size) -> bool:
        """Whether the plan changes an image of this size at all."""
        return self.pads or self.resamples or self.size != size


def plan(size: Size, framing: Framing, subject: Subject | None = None) -> FramePlan:
    """Plan the framing of an image of `size`. `subject` is needed for margins.

    The result has exactly the requested size, or the aspect ratio within a pixel; margins are kept within two pixels,
    one for a frame's start and one for its length. An image that matches already, within the tolerance, is left
    unchanged.

    Raises:
        InvalidInput: no crop of this image leaves the margins.
    """
    x, y = _axes(size, framing, subject)
    if _matches(x, y, framing):
        return FramePlan(size, (0, 0, *size), (0, 0, *size))
    mode = _resolved(framing, x, y)
    if mode == "scale":
        return _scaled(x, y, framing)
    spans = _crop_spans(x, y, framing.ratio) if mode == "crop" else _pad_spans(x, y, framing.ratio)
    if spans is None:
        raise InvalidInput("No crop of this image leaves these margins; use mode pad or auto.", field="mode")
    whole = _whole(spans, size, framing.ratio, outside=mode == "pad")
    target = framing.size or whole
    if target == whole:
        return _placed(size, (round(x.first(whole[0])), round(y.first(whole[1])), *whole), whole)
    frame = (x.first(spans.width), y.first(spans.height), spans.width, spans.height)
    return _placed(size, frame, target)


def aspect_difference(one: float, other: float) -> float:
    """The relative difference of two aspect ratios: 0.05 for 1.05 against 1."""
    return max(one / other, other / one) - 1


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of the image; see the module's docstring. `has_subject` is False if there is no subject to keep."""

    length: int
    start: float
    end: float
    before: float
    after: float
    anchor: float
    has_subject: bool

    def crops(self) -> tuple[float, float]:
        """The shortest and the longest frame inside the image that can keep the margins."""
        if not self.has_subject:
            return 0, self.length
        longest = float(self.length)
        if self.before:
            longest = min(longest, self.start / self.before)
        if self.after:
            longest = min(longest, (self.length - self.end) / self.after)
        return self.exact(), longest

    def padded(self) -> float:
        """The shortest frame around the image that can keep the margins."""
        if not self.has_subject:
            return self.length
        return max(
            self.length, self.end / (1 - self.after), (self.length - self.start) / (1 - self.before), self.exact()
        )

    def exact(self) -> float:
        """The frame in which the subject fills all but the margins."""
        return (self.end - self.start) / (1 - self.before - self.after)

    def first(self, span: float) -> float:
        """The start of a frame of this length: at its anchor, moved as far as the margins require, within the image."""
        edges = sorted((0.0, self.length - span))
        return _clamped(_clamped(self.anchor * (self.length - span), *self._kept(span)), *edges)

    def first_scaled(self, span: float) -> float:
        """Like `first`, for a frame that may cross the image's edges: the subject is centred if that needs no further
        padding; margins take precedence."""
        wanted = (self.start + self.end - span) / 2
        edges = sorted((0.0, self.length - span))
        kept = self._kept(span)
        return _clamped(_clamped(wanted, *edges), *kept) if kept[0] <= kept[1] else wanted

    def matches(self, slack: float, *, exactly: bool) -> bool:
        """Whether the whole, unchanged image keeps the margins; `slack` as a share of the length."""
        if not self.has_subject:
            return True
        slack += (1 + _ROUNDING) / self.length
        missing = (self.before - self.start / self.length, self.after - 1 + self.end / self.length)
        return all((abs(share) if exactly else share) <= slack for share in missing)

    def _kept(self, span: float) -> tuple[float, float]:
        if not self.has_subject:
            return -math.inf, math.inf
        return self.end - span * (1 - self.after), self.start - span * self.before


class _Spans(NamedTuple):
    """Width and height of a frame; with a ratio, `across` says that the height follows from the width."""

    width: float
    height: float
    across: bool


def _axes(size: Size, framing: Framing, subject: Subject | None) -> tuple[_Axis, _Axis]:
    margins = framing.margins or Margins()
    has_subject = framing.margins is not None and subject is not None
    left, top, right, bottom = subject if has_subject and subject is not None else (0, 0, *size)
    across, down = framing.position
    return (
        _Axis(size[0], left, right, margins.left or 0, margins.right or 0, across, has_subject),
        _Axis(size[1], top, bottom, margins.top or 0, margins.bottom or 0, down, has_subject),
    )


def _matches(x: _Axis, y: _Axis, framing: Framing) -> bool:
    scaled = framing.mode == "scale"
    return (
        _shape_matches((x.length, y.length), framing)
        and x.matches(framing.tolerance, exactly=scaled and framing.proportions == "width")
        and y.matches(framing.tolerance, exactly=scaled and framing.proportions == "height")
    )


def _shape_matches(size: Size, framing: Framing) -> bool:
    if framing.size is not None:
        pairs = zip(size, framing.size, strict=True)
        return all(abs(have / want - 1) <= framing.tolerance for have, want in pairs)
    ratio = framing.aspect_ratio
    if ratio is None:
        return True
    width, height = size
    nearest = width == max(1, round(height * ratio)) or height == max(1, round(width / ratio))
    return nearest or aspect_difference(width / height, ratio) <= framing.tolerance


def _resolved(framing: Framing, x: _Axis, y: _Axis) -> Mode:
    """Resolve `auto`: crop if that loses little and keeps the margins, else pad."""
    if framing.mode != "auto":
        return framing.mode
    ratio = framing.ratio
    if ratio is None or aspect_difference(x.length / y.length, ratio) > AUTO_CROP_LIMIT + _ROUNDING:
        return "pad"
    return "pad" if _crop_spans(x, y, ratio) is None else "crop"


def _crop_spans(x: _Axis, y: _Axis, ratio: float | None) -> _Spans | None:
    """The largest frame inside the image; None if there is none with the margins."""
    (least_x, most_x), (least_y, most_y) = x.crops(), y.crops()
    if ratio is not None:
        across = most_x / ratio <= most_y
        most_x, most_y = (most_x, most_x / ratio) if across else (most_y * ratio, most_y)
    else:
        across = False
    fits = least_x <= most_x + _ROUNDING and least_y <= most_y + _ROUNDING
    return _Spans(most_x, most_y, across) if fits else None


def _pad_spans(x: _Axis, y: _Axis, ratio: float | None) -> _Spans:
    """The smallest frame around the image."""
    width, height = x.padded(), y.padded()
    if ratio is None:
        return _Spans(width, height, across=False)
    across = width / ratio >= height
    return _Spans(width, width / ratio, across) if across else _Spans(height * ratio, height, across)


def _whole(spans: _Spans, size: Size, ratio: float | None, *, outside: bool) -> Size:
    """The frame in whole pixels: the deciding side is rounded towards the available room, the other to the ratio."""
    cut = _up if outside else _down
    width, height = cut(spans.width), cut(spans.height)
    if ratio is not None and spans.across:
        height = max(1, round(width / ratio))
    elif ratio is not None:
        width = max(1, round(height * ratio))
    limit = max if outside else min
    return limit(width, size[0]), limit(height, size[1])


def _scaled(x: _Axis, y: _Axis, framing: Framing) -> FramePlan:
    width, height = x.length, y.length
    ratio = framing.ratio or width / height
    if framing.proportions == "width":
        size = framing.size or (width, max(1, round(width / ratio)))
        spans = (x.exact(), x.exact() / ratio)
    else:
        size = framing.size or (max(1, round(height * ratio)), height)
        spans = (y.exact() * ratio, y.exact())
    if framing.proportions == "stretch":
        return FramePlan(size, (0, 0, width, height), (0, 0, *size))
    first_x = x.start - x.before * spans[0] if framing.proportions == "width" else x.first_scaled(spans[0])
    first_y = y.start - y.before * spans[1] if framing.proportions == "height" else y.first_scaled(spans[1])
    return _placed((width, height), (first_x, first_y, *spans), size)


def _placed(image: Size, frame: tuple[float, float, float, float], size: Size) -> FramePlan:
    """The plan of a frame (left, top, width, height) for a result of `size`."""
    left, source_left, source_right, right = _seen(image[0], frame[0], frame[2], size[0])
    top, source_top, source_bottom, bottom = _seen(image[1], frame[1], frame[3], size[1])
    return FramePlan(size, (source_left, source_top, source_right, source_bottom), (left, top, right, bottom))


def _seen(length: int, first: float, span: float, target: int) -> tuple[int, float, float, int]:
    """One axis: (from, source from, source to, to); at least one pixel is seen."""
    start, end = max(0.0, first), min(float(length), first + span)
    scale = target / span
    seen_from = min(round((start - first) * scale), target - 1)
    return seen_from, start, end, max(seen_from + 1, round((end - first) * scale))


def _clamped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _down(value: float) -> int:
    return max(1, math.floor(value + _ROUNDING))


def _up(value: float) -> int:
    return math.ceil(value - _ROUNDING)
