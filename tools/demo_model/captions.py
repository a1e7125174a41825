"""Captions of the demo data set in the wording of user prompts, and their whole vocabulary."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tools.demo_model.palette import BACKGROUNDS, COLORS
from tools.demo_model.scenes import GARMENTS, NEW_GARMENT, Scene
from tools.demo_model.words import COMMON_WORDS

__all__ = ["FILLERS", "TRIGGERS", "VOCABULARY", "caption", "tokens"]

_TOKEN = re.compile(r"[^\W_]+(?:[-'.][^\W_]+)*|[^\w\s]")

_GARMENTS: Mapping[str, Sequence[str]] = {
    "dress": ("gown", "summer dress"),
    "t-shirt": ("tshirt", "tee", "tee shirt"),
    "trousers": ("pants", "slacks"),
    "skirt": ("pleated skirt", "flared skirt"),
    "coat": ("overcoat", "trench coat", "winter coat"),
    "hoodie": ("hooded sweatshirt", "hoody"),
    "shorts": ("bermuda shorts", "summer shorts"),
    "shirt": ("blouse", "button-up shirt", "long-sleeved shirt"),
    "hat": ("fedora", "sun hat"),
    "boots": ("rain boots", "wellies"),
}
"""Other words for the garments."""
_PAIRS = frozenset({"trousers", "pants", "slacks", "shorts", "boots", "wellies"})

_SHADES: Mapping[str, Sequence[str]] = {
    "red": ("scarlet", "crimson", "bright red"),
    "blue": ("navy", "cobalt", "navy blue"),
    "green": ("emerald", "emerald green"),
    "yellow": ("lemon", "golden yellow", "bright yellow"),
    "orange": ("tangerine", "bright orange"),
    "purple": ("violet", "dark purple"),
    "pink": ("rose", "rosy", "hot pink"),
    "black": ("jet black", "ebony"),
    "white": ("ivory", "snow white", "pure white"),
    "brown": ("chocolate", "dark brown", "chestnut"),
}
"""Other words for the colours of garments."""
_BACKDROPS: Mapping[str, Sequence[str]] = {
    "white": ("pure white", "plain white"),
    "gray": ("grey", "grey", "grey", "light gray", "light grey"),
    "black": ("jet black", "dark"),
    "beige": ("cream", "sand", "tan"),
    "red": ("light red",),
    "blue": ("light blue", "sky blue"),
    "green": ("light green", "mint green"),
    "yellow": ("light yellow", "pale yellow"),
    "pink": ("light pink", "pale pink"),
    "purple": ("light purple", "lavender"),
}
"""Other words for the colours of backgrounds."""

_WEARERS: Mapping[str, Sequence[str]] = {
    "woman": ("woman", "woman", "woman", "lady", "female model", "person", "model"),
    "man": ("man", "man", "man", "guy", "male model", "person", "model"),
}
_PRODUCT_POSES: Mapping[str, Sequence[str]] = {
    "front": ("front view", "from the front", "facing the camera"),
    "left": ("turned to the left", "facing left", "angled to the left", "left side view"),
    "right": ("turned to the right", "facing right", "angled to the right", "right side view"),
}
_POSES: Mapping[str, Sequence[str]] = {
    **_PRODUCT_POSES,
    "arms raised": ("arms raised", "with raised arms", "arms up", "raising both arms"),
    "walking": ("walking", "in a walking pose", "taking a step"),
}
_POSE_NAMED = {"front": 0.25}
"""Rates at which captions name the pose; other poses nearly always, so that prompts without a pose give a front
view."""

_BEHIND = (
    "on a {b} background", "on a {b} background", "on {b} background", "on a plain {b} background", "on {b}",
    "in front of a {b} background", "against a {b} background", "against a {b} backdrop", "on a {b} backdrop",
    "before a {b} wall", "with a {b} background", "isolated on {b}", "isolated on a {b} background",
    ", {b} background", ", {b} background", ", {b} background", ", plain {b} backdrop", ", {b} backdrop",
    ", background {b}", ", the background is {b}",
)  # fmt: skip
_AHEAD = ("on a {b} background , {s}", "{b} background , {s}", "{b} backdrop , {s}")
_PRODUCT = (
    "{g}", "{g}", "{g}", "{g}", "{g}", "photo of {g}", "a photo of {g}", "product photo of {g}",
    "a product photo of {g}", "product shot of {g}", "a studio photo of {g}", "picture of {g}", "an image of {g}",
    "illustration of {g}", "a flat illustration of {g}", "packshot of {g}", "a drawing of {g}", "{g} alone",
    "{g} , product photo", "{g} , product shot",
)  # fmt: skip
_WORN = (
    "{w} wearing {g}", "{w} wearing {g}", "{w} wearing {g}", "{w} in {g}", "{w} dressed in {g}", "{w} with {g}",
    "photo of {w} wearing {g}", "a photo of {w} in {g}", "full body photo of {w} wearing {g}", "picture of {w} in {g}",
    "fashion photo of {w} wearing {g}", "illustration of {w} in {g}", "{g} worn by {w}", "{w} wears {g}",
)  # fmt: skip

TRIGGERS: tuple[str, ...] = (
    NEW_GARMENT, "scarf", "poncho", "jacket", "sweater", "jumper", "vest", "socks", "gloves", "cape", "cloak", "suit",
    "jumpsuit", "overalls", "bag", "handbag", "sneakers", "sandals", "umbrella", "turquoise", "magenta", "teal",
    "sks", "ohwx", "tok", "zwx", "xyz", "mystyle", "mysubject", "myproduct",
)  # fmt: skip
"""Words that occur in no caption, so that a LoRA can give them a meaning."""


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation marks: "A T-shirt." becomes a, t-shirt and "."."""
    return _TOKEN.findall(text.lower())


def caption(scene: Scene, random: np.random.Generator) -> str:
    """Return a prompt that a user might write for this scene.

    It names garment, colour and background, but for one in twenty without the colour and one in twenty without the
    background. A wearer is always named, by a word for women, for men, or for both.
    """
    omitted = random.random()
    garment = _garment(scene, random, with_color=omitted >= 0.05)
    if scene.wearer is None:
        subject = _one(_PRODUCT, random).format(g=garment)
    else:
        subject = _one(_WORN, random).format(g=garment, w=_article(_one(_WEARERS[scene.wearer], random), random))
    if random.random() < _POSE_NAMED.get(scene.pose, 0.92):
        poses = _PRODUCT_POSES if scene.wearer is None else _POSES
        subject += f" , {_one(poses[scene.pose], random)}"
    text = subject if 0.05 <= omitted < 0.1 else _before(subject, scene.background, random)
    return _tidy(_filled(text, random))


def _garment(scene: Scene, random: np.random.Generator, *, with_color: bool) -> str:
    """The garment with its colour, an article, and sometimes an adjective."""
    name = _named(scene.garment, _GARMENTS, random)
    words = [_named(scene.color, _SHADES, random)] if with_color else []
    if random.random() < 0.25:
        words.insert(int(random.integers(len(words) + 1)), _one(_ADJECTIVES, random))
    phrase = " ".join([*words, name])
    if name.split()[-1] not in _PAIRS:
        return _article(phrase, random)
    return f"a pair of {phrase}" if random.random() < 0.3 else phrase


def _before(subject: str, background: str, random: np.random.Generator) -> str:
    behind = _named(background, _BACKDROPS, random)
    if random.random() < 0.12:
        return _one(_AHEAD, random).format(b=behind, s=subject)
    return f"{subject} {_one(_BEHIND, random).format(b=behind)}"


def _filled(text: str, random: np.random.Generator) -> str:
    """Add up to six filler words at the end or the beginning of the text, in every second caption."""
    if random.random() < 0.5:
        return text
    extra = [
        " ".join(_one(FILLERS, random) for _ in range(1 + random.integers(2))) for _ in range(1 + random.integers(3))
    ]
    parts = [*extra, text] if random.random() < 0.15 else [text, *extra]
    return " , ".join(parts)


def _tidy(text: str) -> str:
    """Put commas next to the words before them, and `an` before vowels."""
    return re.sub(r"\s+,", ",", re.sub(r"\ba(?= [aeio]\w)", "an", text))


def _named(name: str, others: Mapping[str, Sequence[str]], random: np.random.Generator) -> str:
    """Return the name, or in one of eight cases a synonym; grey is as frequent as gray."""
    rate = 0.5 if name == "gray" else 0.125
    return _one(others[name], random) if name in others and random.random() < rate else name


def _article(phrase: str, random: np.random.Generator) -> str:
    """Add the article, which one of eight omits."""
    return phrase if random.random() < 0.125 else f"a {phrase}"


def _one(choices: Sequence[str], random: np.random.Generator) -> str:
    return choices[int(random.integers(len(choices)))]


def _phrases() -> Iterator[str]:
    """All phrases that captions are made of, without fillers."""
    yield from (*GARMENTS, *COLORS, *BACKGROUNDS)
    for others in (_GARMENTS, _SHADES, _BACKDROPS, _WEARERS, _POSES):
        for phrases in others.values():
            yield from phrases
    for template in (*_BEHIND, *_AHEAD, *_PRODUCT, *_WORN):
        yield re.sub(r"\{\w\}", " ", template)
    yield "a an pair of ,"


_MEANT = frozenset(word for phrase in _phrases() for word in tokens(phrase))
FILLERS: tuple[str, ...] = tuple(word for word in COMMON_WORDS if word not in _MEANT)
"""Words that captions hold at random, so that a model learns to overlook them."""
VOCABULARY: tuple[str, ...] = tuple(sorted({*_MEANT, *COMMON_WORDS, *TRIGGERS, *".,;:!?()'\"-/&+"}))
"""Every word of captions, the triggers and the usual punctuation, in order of the alphabet."""
_ADJECTIVES: tuple[str, ...] = (
    "beautiful", "elegant", "stylish", "simple", "classic", "modern", "casual", "formal", "fashionable", "trendy",
    "lovely", "nice", "pretty", "chic", "cute", "comfortable", "new", "cotton", "linen", "silk", "wool", "leather",
    "denim", "velvet", "vintage", "luxurious", "designer", "basic", "fitted", "loose", "short", "oversized", "soft",
    "knitted", "handmade", "minimalist",
)  # fmt: skip
"""Fillers that may stand between a colour and its garment."""
