"""Translates plain words to slider values: `slightly warmer, much more contrast`.

Recognised are the words of `_MEANINGS`, and `more` / `less` before those of `_SLIDERS`. A word before them halves
(`slightly`, `a bit`) or doubles (`much`, `very`) the strength, `not` cancels it. Everything else is ignored.
"""

import re

from compute.imaging.adjustment.sliders import Adjustments

__all__ = ["KNOWN_WORDS", "read_adjustments"]

_STEP = 0.25
_SLIDERS = {
    "brightness": "brightness",
    "light": "brightness",
    "contrast": "contrast",
    "saturation": "saturation",
    "colour": "saturation",
    "colours": "saturation",
    "color": "saturation",
    "colors": "saturation",
    "warmth": "warmth",
}
_STEPS: dict[tuple[str, float], str] = {
    ("brightness", 1): "bright brighter brighten lighter lighten",
    ("brightness", -1): "dark darker darken dimmer",
    ("contrast", 1): "contrasty punchy punchier crisp crisper",
    ("contrast", -1): "flat flatter soft softer",
    ("saturation", 1): "saturated vivid vibrant colourful colorful",
    ("saturation", -1): "desaturated muted pale paler faded",
    ("saturation", -4): "monochrome greyscale grayscale",
    ("warmth", 1): "warm warmer golden",
    ("warmth", -1): "cool cooler cold colder",
}
_MEANINGS = {word: meaning for meaning, words in _STEPS.items() for word in words.split()}
_DIRECTIONS = {"more": 1, "increase": 1, "higher": 1, "raise": 1, "less": -1, "decrease": -1, "reduce": -1, "lower": -1}
_STRENGTHS = {"slightly": 0.5, "bit": 0.5, "little": 0.5, "touch": 0.5, "much": 2.0, "very": 2.0, "strongly": 2.0}
_NEGATIONS = {"not", "no", "without", "never", "dont"}
_BLACK_AND_WHITE = re.compile(r"\bblack[ -](and|&)[ -]white\b|\bb ?& ?w\b")

KNOWN_WORDS = "brighter, darker, warmer, cooler, vivid, muted, black and white, more or less contrast"


def read_adjustments(text: str) -> Adjustments | None:
    """The adjustments requested by a text, each clipped to -1 to 1; None if it contains none."""
    values = dict.fromkeys(("brightness", "contrast", "saturation", "warmth"), 0.0)
    understood = False
    direction, strength = 0, 1.0
    for word in re.findall(r"[a-z]+", _BLACK_AND_WHITE.sub("monochrome", text.lower().replace("'", ""))):
        direction = _DIRECTIONS.get(word, direction)
        strength = 0.0 if word in _NEGATIONS else strength * _STRENGTHS.get(word, 1.0)
        if word in _MEANINGS:
            slider, steps = _MEANINGS[word]
            steps *= direction or 1
        elif word in _SLIDERS and direction:
            slider, steps = _SLIDERS[word], direction
        else:
            continue
        values[slider] += steps * strength * _STEP
        understood = True
        direction, strength = 0, 1.0
    clipped = {slider: min(max(value, -1.0), 1.0) for slider, value in values.items()}
    return Adjustments(**clipped) if understood else None
