"""The demo world's pictures: what they show, how they stay the same at every size, and what training never sees."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tools.demo_model.palette import BACKGROUNDS, COLORS, SKINS, Tone
from tools.demo_model.scenes import (
    GARMENTS,
    NEW_GARMENT,
    POSES,
    PRODUCT_POSES,
    WEARERS,
    Scene,
    combination_is_held_out,
    labels,
    random_scenes,
    render,
)

EVERY_SHAPE = [
    Scene(garment, "red", "white", pose, wearer)
    for garment in (*GARMENTS, NEW_GARMENT)
    for wearer in (None, *WEARERS)
    for pose in (PRODUCT_POSES if wearer is None else POSES)
]


def garment_mask(scene: Scene, size: int = 128) -> np.ndarray:
    shown = labels(scene, size)
    return (shown >= Tone.GARMENT) & (shown <= Tone.GARMENT_FOLD)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def name(scene: Scene) -> str:
    return f"{scene.garment}-{scene.pose}-{scene.wearer}"


@pytest.mark.parametrize("scene", [Scene("dress", "red", "white"), Scene("hat", "blue", "gray", "walking", "man", 2)])
@pytest.mark.parametrize("size", [64, 96, 128, 256, 512])
def test_a_scene_looks_the_same_at_every_size(scene: Scene, size: int) -> None:
    picture = render(scene, size)
    largest = render(scene, 1024).resize((size, size), Image.Resampling.BOX)
    assert (picture.mode, picture.size) == ("RGB", (size, size))
    assert np.abs(np.asarray(picture).astype(float) - np.asarray(largest)).mean() < 2.5


@pytest.mark.parametrize("size", [0, 63, 1025])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="from 64 to 1024"):
        render(Scene("dress", "red", "white"), size)


def test_the_same_scene_gives_the_same_pixels() -> None:
    for scene in random_scenes(0, 5):
        assert render(scene, 128).tobytes() == render(replace(scene), 128).tobytes()


@pytest.mark.parametrize("scene", EVERY_SHAPE, ids=name)
def test_the_garment_is_large_and_wholly_inside_the_picture(scene: Scene) -> None:
    for placed in (replace(scene, x=0.03, y=0.02, scale=1.06), replace(scene, x=-0.03, y=-0.02, scale=1.06)):
        mask = garment_mask(placed)
        assert mask.mean() > 0.02
        assert not np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any()


@pytest.mark.parametrize("color", COLORS)
def test_a_garment_is_painted_in_its_colour_before_its_background(color: str) -> None:
    background = "beige"
    picture = np.asarray(render(Scene("coat", color, background), 128)).reshape(-1, 3)
    colours, counts = np.unique(picture, axis=0, return_counts=True)
    most = [tuple(one) for one in colours[np.argsort(counts)[::-1][:2]].tolist()]
    assert most == [BACKGROUNDS[background], COLORS[color]]


@pytest.mark.parametrize("garment", [*GARMENTS, NEW_GARMENT])
def test_left_is_the_mirror_of_right(garment: str) -> None:
    left, right = (garment_mask(Scene(garment, "red", "white", pose)) for pose in ("left", "right"))
    assert overlap(left, right[:, ::-1]) > 0.93
    assert overlap(left, right) < 0.9


def test_each_attribute_changes_the_picture() -> None:
    scene = Scene("shirt", "red", "white", wearer="woman")
    others = [
        replace(scene, garment="coat"),
        replace(scene, color="blue"),
        replace(scene, background="gray"),
        replace(scene, wearer="man"),
        replace(scene, wearer=None),
        replace(scene, skin=1),
        replace(scene, x=0.03),
        replace(scene, scale=1.06),
        *(replace(scene, pose=pose) for pose in POSES if pose != scene.pose),
    ]
    pictures = [render(one, 64).tobytes() for one in (scene, *others)]
    assert len(set(pictures)) == len(pictures)


def test_scenes_follow_from_their_seed() -> None:
    assert list(random_scenes(1, 50)) == list(random_scenes(1, 50))
    assert list(random_scenes(1, 50)) == list(random_scenes(1, 100))[:50]
    assert list(random_scenes(1, 50)) != list(random_scenes(2, 50))


def test_scenes_cover_the_world_but_for_the_new_garment() -> None:
    drawn = list(random_scenes(3, 3000))
    assert {scene.garment for scene in drawn} == set(GARMENTS)
    assert NEW_GARMENT not in GARMENTS
    assert {scene.color for scene in drawn} == set(COLORS)
    assert {scene.background for scene in drawn} == set(BACKGROUNDS)
    assert {scene.pose for scene in drawn if scene.wearer} == set(POSES)
    assert {scene.pose for scene in drawn if scene.wearer is None} == set(PRODUCT_POSES)
    assert {scene.skin for scene in drawn} == set(range(len(SKINS)))
    assert not [scene for scene in drawn if scene.color == scene.background]


def test_held_out_combinations_are_a_tenth_and_never_in_training() -> None:
    def combinations(held_out: bool) -> set[tuple[str, str, str]]:
        return {(scene.garment, scene.color, scene.background) for scene in random_scenes(4, 4000, held_out)}

    trained, kept = combinations(False), combinations(True)
    assert not trained & kept
    assert all(combination_is_held_out(*one) for one in kept)
    assert 0.07 < len(kept) / len(trained | kept) < 0.15
    for place, names in enumerate((GARMENTS, COLORS, BACKGROUNDS)):
        assert {one[place] for one in kept} == set(names)


def test_the_new_garment_is_drawn_when_asked_for() -> None:
    assert {scene.garment for scene in random_scenes(5, 8, garments=(NEW_GARMENT,))} == {NEW_GARMENT}
