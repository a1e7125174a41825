"""The cut of each garment: its outlines on a body, in the body's measures (see `tools.demo_model.body`)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tools.demo_model.body import Body, Outline, aside, ellipse, limb, smooth, symmetric
from tools.demo_model.palette import Tone

__all__ = ["CUTS", "Cut", "Layer"]

_SLEEVE_END = 0.98


@dataclass(frozen=True, slots=True)
class Layer:
    """Parts with one common outline, which hides the layers below.

    Attributes:
        parts: Polygons.
        tone: The fill; its shade, outline and fold are the three tones that follow.
        patches: Polygons in a tone of their own on top, without an outline.
        folds: Lines on top, in the tone of folds.
    """

    parts: list[Outline]
    tone: Tone = Tone.GARMENT
    patches: list[tuple[Outline, Tone]] = field(default_factory=list)
    folds: list[Outline] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cut:
    """A garment's layers.

    Attributes:
        behind: Drawn behind the wearer.
        sleeves: The left one and the right one.
        middle: Drawn over the wearer, below the neck and the head.
        opening: The skin at the neck, or the lining of a garment without wearer.
        over: Drawn over neck and head.
        hooded: The opening shows the face; hair is hidden.
        bare_legs: The wearer has no trousers below it.
    """

    middle: list[Layer] = field(default_factory=list)
    sleeves: tuple[Layer, Layer] | None = None
    behind: list[Layer] = field(default_factory=list)
    opening: Outline | None = None
    over: list[Layer] = field(default_factory=list)
    hooded: bool = False
    bare_legs: bool = False


def _line(*points: tuple[float, float]) -> Outline:
    return np.array(points, np.float64)


def _mirrored(line: Outline) -> list[Outline]:
    return [line, line * (-1, 1)]


def _sleeves(body: Body, widths: tuple[float, float, float], until: float = _SLEEVE_END, cuff: float = 0.0) -> Cut:
    """A cut of two sleeves alone; `cuff` is its length as a share of the arm's."""
    layers = []
    for arm in body.arms:
        tube = limb(arm, widths, until)
        folds = [limb(arm, widths, until - cuff)[6:8]] if cuff else []
        layers.append(Layer([tube, ellipse(tuple(arm[0]), (widths[0] / 2, widths[0] / 2))], folds=folds))
    return Cut(sleeves=(layers[0], layers[1]))


def _round_neck(width: float, depth: float, top: float = 0.196) -> Outline:
    return smooth(symmetric([(width, top), (width, top), (width * 0.8, top + depth * 0.8), (0.0, top + depth)]))


def _v_neck(width: float, depth: float, top: float = 0.196) -> Outline:
    return symmetric([(width, top), (0.0, top + depth)])


def _dress(body: Body) -> Cut:
    shift = body.turn * 0.02
    bodice = smooth(symmetric([
        (0.06, 0.198), (0.06, 0.198), (0.098, 0.204), (0.098, 0.204), (0.088, 0.26), (0.112, 0.295), (0.112, 0.295),
        (0.096, 0.35), (0.074, 0.408), (0.074, 0.408), (0.2, 0.735), (0.205, 0.765), (0.12, 0.785), (0.0, 0.79),
    ]))  # fmt: skip
    folds = [
        _line((-0.078, 0.408), (0.0, 0.416), (0.078, 0.408)),
        _line((shift - 0.03, 0.46), (shift - 0.075, 0.77)),
        _line((shift + 0.03, 0.46), (shift + 0.075, 0.77)),
    ]
    return Cut([Layer([bodice], folds=folds)], opening=_round_neck(0.062, 0.068, 0.19), bare_legs=True)


def _t_shirt(body: Body) -> Cut:
    torso = symmetric([
        (0.05, 0.204), (0.108, 0.222), (0.126, 0.25), (0.114, 0.31), (0.112, 0.42), (0.118, 0.53), (0.0, 0.538),
    ])  # fmt: skip
    sleeves = _sleeves(body, (0.088, 0.104, 0.108), 0.5)
    layer = Layer([torso], folds=[_line((-0.117, 0.51), (0.0, 0.517), (0.117, 0.51))])
    return Cut([layer], sleeves.sleeves, opening=_round_neck(0.05, 0.05))


def _shirt(body: Body) -> Cut:
    shift = body.turn * 0.022
    torso = smooth(symmetric([
        (0.046, 0.204), (0.046, 0.204), (0.112, 0.226), (0.12, 0.25), (0.106, 0.33), (0.106, 0.33), (0.096, 0.42),
        (0.112, 0.52), (0.108, 0.545), (0.06, 0.575), (0.0, 0.58),
    ]))  # fmt: skip
    placket = _line((shift, 0.25), (shift, 0.578))
    buttons = [(ellipse((shift, y), (0.009, 0.009)), Tone.GARMENT_OUTLINE) for y in (0.30, 0.37, 0.44, 0.51)]
    collar = [
        _line((side * 0.044, 0.186), (side * 0.066, 0.214), (side * 0.05 + shift, 0.272), (shift, 0.236))
        for side in (-1, 1)
    ]
    sleeves = _sleeves(body, (0.072, 0.074, 0.064), cuff=0.13)
    return Cut(
        [Layer([torso], patches=buttons, folds=[placket])],
        sleeves.sleeves,
        opening=_v_neck(0.044, 0.05),
        over=[Layer([side]) for side in collar],
    )


def _hoodie(body: Body) -> Cut:
    shift = body.turn * 0.02
    torso = smooth(symmetric([
        (0.05, 0.20), (0.11, 0.216), (0.136, 0.25), (0.132, 0.36), (0.138, 0.48), (0.138, 0.505), (0.112, 0.525),
        (0.112, 0.55), (0.112, 0.55), (0.0, 0.555), (0.0, 0.555),
    ]))  # fmt: skip
    pocket = aside(_line((-0.055, 0.40), (-0.085, 0.485), (0.085, 0.485), (0.055, 0.40), (-0.055, 0.40)), shift)
    strings = _mirrored(_line((0.026, 0.235), (0.03, 0.315)))
    hood = smooth(symmetric([
        (0.0, -0.012), (0.07, -0.004), (0.118, 0.06), (0.122, 0.13), (0.112, 0.20), (0.08, 0.24), (0.0, 0.252),
    ]))  # fmt: skip
    sleeves = _sleeves(body, (0.094, 0.102, 0.078), cuff=0.1)
    band = _line((-0.115, 0.517), (0.115, 0.517))
    return Cut(
        [Layer([torso], folds=[pocket, band]), Layer([hood])],
        sleeves.sleeves,
        opening=ellipse((shift, 0.112), (0.07, 0.088)),
        over=[Layer([], folds=[aside(string, shift) for string in strings])],
        hooded=True,
    )


def _coat(body: Body) -> Cut:
    shift = body.turn * 0.022
    torso = smooth(symmetric([
        (0.046, 0.202), (0.046, 0.202), (0.112, 0.222), (0.128, 0.25), (0.118, 0.34), (0.104, 0.42), (0.126, 0.52),
        (0.168, 0.81), (0.168, 0.81), (0.0, 0.82), (0.0, 0.82),
    ]))  # fmt: skip
    belt = symmetric([(0.112, 0.405), (0.112, 0.44)])
    lapels = [
        _line((side * 0.044, 0.188), (side * 0.076, 0.222), (side * 0.084, 0.275), (shift, 0.37), (side * 0.028, 0.25))
        for side in (-1, 1)
    ]
    front = _line((shift, 0.37), (shift, 0.818))
    buttons = [
        (ellipse((shift + side * 0.04, y), (0.011, 0.011)), Tone.GARMENT_OUTLINE)
        for side in (-1, 1)
        for y in (0.50, 0.58)
    ]
    sleeves = _sleeves(body, (0.084, 0.086, 0.088), cuff=0.14)
    return Cut(
        [Layer([torso], patches=[*buttons, (belt, Tone.GARMENT_FOLD)], folds=[front])],
        sleeves.sleeves,
        opening=_v_neck(0.044, 0.15),
        over=[Layer([side]) for side in lapels],
    )


def _skirt(body: Body) -> Cut:
    shift = body.turn * 0.015
    flare = smooth(symmetric([
        (0.088, 0.385), (0.088, 0.385), (0.092, 0.42), (0.20, 0.69), (0.205, 0.71), (0.12, 0.732), (0.0, 0.738),
    ]))  # fmt: skip
    band = symmetric([(0.09, 0.384), (0.092, 0.418)])
    folds = [_line((x * 0.38 + shift, 0.45), (x + shift, 0.715)) for x in (-0.115, -0.04, 0.04, 0.115)]
    return Cut([Layer([flare], patches=[(band, Tone.GARMENT_FOLD)], folds=folds)], bare_legs=True)


def _legged(body: Body, widths: tuple[float, float, float], until: float) -> list[Outline]:
    seat = symmetric([(0.092, 0.385), (0.094, 0.42), (0.108, 0.495), (0.11, 0.53), (0.06, 0.55), (0.0, 0.55)])
    return [seat, *(limb(leg, widths, until) for leg in body.legs)]


def _trousers(body: Body) -> Cut:
    parts = _legged(body, (0.098, 0.098, 0.1), 0.99)
    band = symmetric([(0.092, 0.384), (0.094, 0.415)])
    creases = [leg[[0, 2]] * 0.55 + leg[[1, 2]] * 0.45 for leg in body.legs]
    fly = _line((body.turn * 0.015, 0.415), (body.turn * 0.015, 0.54))
    return Cut([Layer(parts, patches=[(band, Tone.GARMENT_FOLD)], folds=[*creases, fly])])


def _shorts(body: Body) -> Cut:
    parts = _legged(body, (0.098, 0.124, 0.13), 0.37)
    band = symmetric([(0.092, 0.384), (0.094, 0.415)])
    fly = _line((body.turn * 0.015, 0.415), (body.turn * 0.015, 0.54))
    return Cut([Layer(parts, patches=[(band, Tone.GARMENT_FOLD)], folds=[fly])], bare_legs=True)


def _hat(body: Body) -> Cut:
    shift = body.turn * 0.018
    crown = aside(smooth(symmetric([
        (0.0, -0.075), (0.055, -0.078), (0.088, -0.055), (0.096, 0.05), (0.096, 0.05), (0.0, 0.06),
    ])), shift)  # fmt: skip
    brim = ellipse((shift, 0.052), (0.19, 0.034))
    band = aside(symmetric([(0.0895, -0.004), (0.0935, 0.034)]), shift)
    return Cut(over=[Layer([brim]), Layer([crown], patches=[(band, Tone.GARMENT_OUTLINE)])])


def _boots(body: Body) -> Cut:
    layers = []
    for side, leg in zip((-1, 1), body.legs, strict=True):
        toes = body.turn or side
        knee, ankle = leg[1], leg[2]
        top = knee + (ankle - knee) * 0.12
        foot = smooth(_line(
            (-0.046, -0.06), (0.046, -0.06), (0.05, -0.005), (0.11, 0.012), (0.122, 0.05), (0.122, 0.062),
            (0.122, 0.062), (-0.046, 0.062), (-0.046, 0.062),
        )) * (toes, 1) + ankle  # fmt: skip
        shaft = limb(np.stack([top, (top + ankle) / 2, ankle]), (0.104, 0.096, 0.092))
        sole = _line((-0.046, 0.048), (0.122, 0.048), (0.122, 0.062), (-0.046, 0.062)) * (toes, 1) + ankle
        cuff = _line((-0.05, 0.0), (0.05, 0.0)) + top + (0, 0.03)
        layers.append(Layer([shaft, foot], patches=[(sole, Tone.GARMENT_OUTLINE)], folds=[cuff]))
    if body.turn > 0:
        layers.reverse()
    return Cut(layers)


def _kimono(body: Body) -> Cut:
    shift = body.turn * 0.02
    robe = symmetric([
        (0.046, 0.202), (0.118, 0.226), (0.122, 0.36), (0.118, 0.46), (0.142, 0.875), (0.0, 0.885),
    ])  # fmt: skip
    sash = symmetric([(0.122, 0.375), (0.12, 0.462)])
    folds = [_line((0.03 + shift, 0.462), (0.055 + shift, 0.88)), _line((-0.05, 0.21), (0.04 + shift, 0.375))]
    layers = []
    for arm in body.arms:
        hand = arm[0] + (arm[2] - arm[0]) * 0.97
        drop = np.array((0.0, 0.2))
        panel = np.stack([arm[0] - (0, 0.034), hand - (0, 0.03), hand + drop, arm[0] * 0.4 + hand * 0.6 + drop * 1.08])
        layers.append(Layer([panel, limb(arm, (0.08, 0.076, 0.07), 0.94), ellipse(tuple(arm[0]), (0.04, 0.04))]))
    return Cut(
        [Layer([robe], patches=[(sash, Tone.GARMENT_OUTLINE)], folds=folds)],
        (layers[0], layers[1]),
        opening=_v_neck(0.046, 0.11),
    )


CUTS: dict[str, Callable[[Body], Cut]] = {
    "dress": _dress,
    "t-shirt": _t_shirt,
    "trousers": _trousers,
    "skirt": _skirt,
    "coat": _coat,
    "hoodie": _hoodie,
    "shorts": _shorts,
    "shirt": _shirt,
    "hat": _hat,
    "boots": _boots,
    "kimono": _kimono,
}
"""Every garment's cut for a body."""
