"""Captions of the demo world: they say what a scene shows, in the words of users, and in no others."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tools.demo_model.captions import FILLERS, TRIGGERS, VOCABULARY, caption, tokens
from tools.demo_model.palette import BACKGROUNDS, COLORS
from tools.demo_model.scenes import GARMENTS, NEW_GARMENT, Scene, random_scenes

PAIRS = [(scene, caption(scene, np.random.default_rng(index))) for index, scene in enumerate(random_scenes(0, 4000))]


def test_a_text_is_split_into_words_and_punctuation() -> None:
    assert tokens("A red T-shirt, 50mm f1.8 (plain).") == [
        "a", "red", "t-shirt", ",", "50mm", "f1.8", "(", "plain", ")", ".",
    ]  # fmt: skip
    assert tokens(" ") == []


def test_captions_use_the_vocabulary_alone() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert all(tokens(word) == [word] for word in VOCABULARY)
    used = {word for _, text in PAIRS for word in tokens(text)}
    assert used <= set(VOCABULARY)
    assert not used & set(TRIGGERS)
    assert {*GARMENTS, *COLORS, *BACKGROUNDS} <= used


def test_a_caption_names_what_is_seen() -> None:
    """By its usual name, or by another word for it in a few captions; grey is as usual as gray."""
    named: Counter[str] = Counter()
    for scene, text in PAIRS:
        words = tokens(text)
        named["garment"] += scene.garment in words
        named["color"] += scene.color in words
        named["background"] += scene.background in words or (scene.background == "gray" and "grey" in words)
    shares = {attribute: count / len(PAIRS) for attribute, count in named.items()}
    assert shares["garment"] > 0.83
    assert shares["color"] > 0.8
    assert shares["background"] > 0.8


@pytest.mark.parametrize(("attribute", "others"), [("color", "blue"), ("background", "green"), ("garment", "coat")])
def test_one_in_twenty_leaves_the_colour_out_and_one_in_twenty_the_background(attribute: str, others: str) -> None:
    scene = Scene("dress", "red", "white")
    changed = replace(scene, **{attribute: others})
    same = np.mean([
        caption(scene, np.random.default_rng(seed)) == caption(changed, np.random.default_rng(seed))
        for seed in range(2000)
    ])  # fmt: skip
    assert same == 0 if attribute == "garment" else 0.03 < same < 0.08


def test_a_wearer_is_named_and_nobody_else() -> None:
    people = {"woman", "man", "person", "model", "lady", "guy"}
    for scene, text in PAIRS:
        assert bool(people & set(tokens(text))) == (scene.wearer is not None), text
        assert not (scene.wearer == "man" and {"woman", "lady", "female"} & set(tokens(text)))
        assert not (scene.wearer == "woman" and {"man", "guy", "male"} & set(tokens(text)))


@pytest.mark.parametrize(("pose", "word"), [("left", "left"), ("right", "right"), ("walking", "walking")])
def test_a_pose_is_mostly_named_and_never_another(pose: str, word: str) -> None:
    scene = Scene("coat", "red", "white", pose, "man")
    texts = [tokens(caption(scene, np.random.default_rng(seed))) for seed in range(300)]
    assert np.mean([word in text for text in texts]) > 0.6 or pose == "walking"
    for other in {"left", "right", "raised", "walking"} - {word}:
        assert not any(other in text for text in texts)


def test_captions_read_well() -> None:
    for _, text in PAIRS:
        assert text == text.strip().lower()
        assert " ," not in text
        assert "  " not in text
        assert " a orange" not in text
        assert " an red" not in text
        assert len(tokens(text)) <= 40
    assert len({text for _, text in PAIRS}) > 0.8 * len(PAIRS)


def test_fillers_mean_nothing() -> None:
    """A word that stands for something must not be learned to be ignored."""
    assert len(FILLERS) > 1000
    meant = {*GARMENTS, *COLORS, *BACKGROUNDS, *TRIGGERS, "grey", "left", "right", "walking", "woman", "man", "pants"}
    assert not meant & set(FILLERS)


def test_the_same_random_numbers_give_the_same_caption() -> None:
    scene = Scene("hat", "blue", "beige", wearer="woman")
    assert caption(scene, np.random.default_rng(7)) == caption(scene, np.random.default_rng(7))


def test_the_new_garment_has_a_caption_and_a_word_of_its_own() -> None:
    scene = Scene(NEW_GARMENT, "red", "white")
    assert NEW_GARMENT in tokens(caption(scene, np.random.default_rng(0)))
    assert NEW_GARMENT in VOCABULARY
