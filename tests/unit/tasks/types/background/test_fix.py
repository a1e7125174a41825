"""BACKGROUND_FIX: the background follows the parameters, the subject follows nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compute.errors import InvalidInput
from compute.imaging.lab import lab_from_srgb
from compute.imaging.segmentation.segment import subject_mask
from compute.tasks.types.background.fix import BackgroundFix, BackgroundFixStrategy, CreateBackgroundFixTask
from compute.worker.protocol import Progress, StagedModel
from tests.pictures import scene
from tests.unit.imaging.cutouts import bottle
from tests.unit.imaging.onnx_files import brightness_model
from tests.unit.tasks.types.worker import Outcome, make_worker, prepare, run_type, tiny_flux_model

BASE = bottle((120, 160)).image
MATTE = np.asarray(subject_mask(BASE))
SUBJECT, FAR = MATTE == 255, np.zeros(MATTE.shape, bool)
FAR[:, :8] = FAR[:, -8:] = True
BEIGE = (238, 208, 178)
FILES = {"base.png": BASE, "palette.png": Image.new("RGB", (48, 48), BEIGE), "behind.png": scene((120, 80))}
SHIFT = {"base_image": "base.png", "palette_image": "palette.png"}
REPLACE = {"base_image": "base.png", "background_image_url": "behind.png"}
DRAW = {"base_image": "base.png", "background_prompt": "a beach at dusk", "seed": 7, "steps": 2}
VISIBLE = 2.0
"""Mean difference per pixel and channel, of 255, that anybody would see."""


async def fix(home: Path, request: dict[str, Any], **fields: Any) -> Outcome:
    model: StagedModel | None = tiny_flux_model() if "background_prompt" in request else None
    return await run_type(BackgroundFix(), request | fields, make_worker(home, model), FILES)


def pixels(outcome: Outcome) -> np.ndarray:
    return np.asarray(outcome.images[0]).astype(int)


def lab_of(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    return lab_from_srgb(picture.astype(np.uint8))[where].mean(axis=0)


@pytest.mark.parametrize("request_", [SHIFT, REPLACE, DRAW], ids=["shift", "replace", "draw"])
async def test_the_background_changes_and_the_subject_does_not(tmp_path: Path, request_: dict[str, Any]) -> None:
    outcome = await fix(tmp_path, request_)
    result, original = pixels(outcome), np.asarray(BASE).astype(int)
    assert outcome.images[0].size == BASE.size
    assert np.array_equal(result[SUBJECT], original[SUBJECT])
    assert np.abs(result - original)[FAR].mean() > 5
    assert outcome.metadata["segmentation_model"] == "grabcut"
    assert outcome.public["result_image_path"] == outcome.artifacts[0].path
    assert outcome.public["base_image_path"] == "base.png"


# --- COLOR_SHIFT -----------------------------------------------------------------------------------------------------


async def test_a_shift_brings_the_palette_s_colour(tmp_path: Path) -> None:
    outcome = await fix(tmp_path, SHIFT, edge_blur_sigma=0, mask_expansion=0, shadow_threshold=60, light_threshold=90)
    target = lab_from_srgb(np.uint8([[BEIGE]]))[0, 0]
    away = MATTE == 0
    assert np.linalg.norm(lab_of(pixels(outcome), away) - target) < 2
    assert outcome.metadata["target_lab"] == pytest.approx(target.tolist(), abs=0.5)
    assert outcome.metadata["shifted_share"] == pytest.approx(away.mean(), abs=0.05)


async def test_the_palette_s_own_subject_is_not_its_background(tmp_path: Path) -> None:
    palette = bottle((96, 128)).image
    files = FILES | {"palette.png": palette}
    outcome = await run_type(BackgroundFix(), SHIFT, make_worker(tmp_path), files)
    lightness, a, _ = outcome.metadata["target_lab"]
    assert lightness > 80
    assert abs(a) < 2, "neither the green nor the red of the bottle"


async def test_shadow_and_light_thresholds_say_what_moves(tmp_path: Path) -> None:
    moved = []
    for shadow, light in ((50, 80), (150, 220), (215, 235), (250, 255)):
        outcome = await fix(tmp_path, SHIFT, shadow_threshold=shadow, light_threshold=light)
        moved.append(outcome.metadata["shifted_share"])
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > moved[2] + 0.1
    assert moved[3] == 0
    higher = pixels(await fix(tmp_path, SHIFT, shadow_threshold=200, light_threshold=220))
    lower = pixels(await fix(tmp_path, SHIFT, shadow_threshold=200, light_threshold=254))
    assert np.abs(higher - lower)[FAR].mean() > 1


async def test_a_shadow_is_left_alone(tmp_path: Path) -> None:
    picture = bottle().image
    outcome = await run_type(BackgroundFix(), SHIFT, make_worker(tmp_path), FILES | {"base.png": picture})
    lightness = lab_from_srgb(np.asarray(picture))[..., 0] * 2.55
    dark = (lightness < 150) & (np.asarray(subject_mask(picture)) == 0)
    assert dark.sum() > 50
    assert np.array_equal(pixels(outcome)[dark], np.asarray(picture)[dark])


@pytest.mark.parametrize("request_", [SHIFT | {"edge_blur_sigma": 0}, REPLACE], ids=["shift", "replace"])
async def test_expansion_keeps_a_rim_in_pixels_or_as_a_share(tmp_path: Path, request_: dict[str, Any]) -> None:
    original = np.asarray(BASE).astype(int)

    def kept(outcome: Outcome) -> int:
        return int((np.abs(pixels(outcome) - original).sum(axis=-1) == 0).sum())

    none, some, more = [kept(await fix(tmp_path, request_, mask_expansion=count)) for count in (0, 5, 20)]
    share = kept(await fix(tmp_path, request_, mask_expansion_percentage=20 / 160))
    assert none < some < more == share


@pytest.mark.parametrize("request_", [SHIFT, REPLACE, DRAW], ids=["shift", "replace", "draw"])
@pytest.mark.parametrize("change", [{"mask_expansion": 16}, {"edge_blur_sigma": 9}, {"blend_strength": 0}],
                         ids=lambda change: "".join(change))  # fmt: skip
async def test_every_edge_parameter_changes_the_picture_near_the_edge_alone(
    tmp_path: Path, request_: dict[str, Any], change: dict[str, Any]
) -> None:
    base = request_ | {"edge_blur_sigma": 2, "mask_expansion": 3}
    one, other = pixels(await fix(tmp_path, base)), pixels(await fix(tmp_path, base | change))
    changed = np.abs(one - other).sum(axis=-1) > 6
    assert changed.sum() > 80
    assert not changed[SUBJECT].any()


async def test_a_wider_blur_is_a_softer_transition(tmp_path: Path) -> None:
    """The steepest step along a line from the bottle to the left, where the shift sets in."""
    steps = []
    for sigma in (0, 3, 9):
        result = pixels(await fix(tmp_path, SHIFT, edge_blur_sigma=sigma, mask_expansion=8, shadow_threshold=50))
        difference = (result - np.asarray(BASE).astype(int))[88:106, 4:36, 2].mean(axis=0)
        steps.append(float(np.abs(np.diff(difference)).max()))
    assert steps[0] > 1.5 * steps[1] > 1.5 * 1.5 * steps[2]


# --- replacement -----------------------------------------------------------------------------------------------------


async def test_the_new_background_covers_and_no_fringe_of_the_old_is_left(tmp_path: Path) -> None:
    truth = bottle((288, 384))
    files = {"base.png": truth.image, "behind.png": Image.new("RGB", (30, 20), (0, 200, 40))}
    outcome = await run_type(BackgroundFix(), REPLACE, make_worker(tmp_path), files)
    assert np.abs(pixels(outcome) - truth.on((0, 200, 40)))[truth.edge].mean() < 12
    assert (pixels(outcome)[:, 0] == (0, 200, 40)).all()


async def test_a_cut_out_base_is_put_before_the_background(tmp_path: Path) -> None:
    cut = Image.new("RGBA", (64, 64), (10, 20, 30, 0))
    cut.paste((200, 30, 30, 255), (20, 20, 40, 40))
    files = FILES | {"base.png": cut, "behind.png": Image.new("RGB", (8, 8), (0, 0, 90))}
    outcome = await run_type(BackgroundFix(), REPLACE, make_worker(tmp_path), files)
    assert outcome.images[0].getpixel((30, 30)) == (200, 30, 30)
    assert outcome.images[0].getpixel((5, 5)) == (0, 0, 90)
    assert outcome.metadata["segmentation_model"] == "alpha"


@pytest.mark.parametrize("change", [{"seed": 8}, {"background_prompt": "a wall of bricks"}, {"steps": 4}],
                         ids=lambda change: "".join(change))  # fmt: skip
async def test_what_is_drawn_follows_its_parameters(tmp_path: Path, change: dict[str, Any]) -> None:
    one, other = pixels(await fix(tmp_path, DRAW)), pixels(await fix(tmp_path, DRAW | change))
    assert np.abs(one - other)[MATTE == 0].mean() > VISIBLE
    assert np.array_equal(one[SUBJECT], other[SUBJECT])


async def test_a_drawing_can_be_repeated_and_tells_its_seed_and_progress(tmp_path: Path) -> None:
    without = {name: value for name, value in DRAW.items() if name != "seed"}
    first = await fix(tmp_path, without)
    again = await fix(tmp_path, without, seed=first.public["seed"])
    assert first.files == again.files
    assert first.artifacts[0].seed == first.public["seed"]
    assert sum(isinstance(event, Progress) for event in first.events) >= 2


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((192, 256), (192, 256)), ((100, 37), (96, 32)), ((3, 3), (16, 16)), ((4000, 3000), (1184, 880))],
)
async def test_it_is_drawn_at_a_size_that_the_model_can_draw(
    tmp_path: Path, size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    spec = await prepare(BackgroundFix(), DRAW, make_worker(tmp_path), {"base.png": Image.new("RGB", size)})
    assert (spec["drawn_width"], spec["drawn_height"]) == drawn


async def test_the_segmentation_model_that_is_named_is_used(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    folder = worker.worker.models_root / "rembg"
    folder.mkdir(parents=True)
    (folder / "u2netp.onnx").write_bytes(brightness_model())
    request = REPLACE | {"provider_config": {"rembg_model": "u2netp"}}
    outcome = await run_type(BackgroundFix(), request, worker, FILES)
    assert outcome.metadata["segmentation_model"] == "u2netp"
    # This one takes what is bright for the subject: the backdrop stays, the bottle goes.
    assert np.abs(pixels(outcome) - np.asarray(BASE))[25:37, 55:65].mean() > 20


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "strategy", "queue", "roles"),
    [
        (SHIFT, "COLOR_SHIFT", "image", set()),
        (REPLACE, "REPLACE_IMAGE", "image", set()),
        (DRAW, "REPLACE_PROMPT", "inference", {"draw"}),
        (DRAW | {"strategy": "REPLACE_PROMPT"}, "REPLACE_PROMPT", "inference", {"draw"}),
    ],
)
async def test_the_strategy_follows_from_what_is_given_and_chooses_the_queue(
    tmp_path: Path, request_: dict[str, Any], strategy: str, queue: str, roles: set[str]
) -> None:
    kind, checked = BackgroundFix(), CreateBackgroundFixTask.model_validate(request_)
    spec = await prepare(kind, request_, make_worker(tmp_path), FILES)
    assert spec["strategy"] == BackgroundFixStrategy(strategy)
    assert (kind.queue_for(checked), kind.roles_for(checked)) == (queue, roles)


async def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    shift = await prepare(BackgroundFix(), SHIFT, make_worker(tmp_path), FILES)
    assert shift["mask_expansion_percentage"] == 0.005
    assert (shift["shadow_threshold"], shift["light_threshold"]) == (150, 220)
    assert (shift["edge_blur_sigma"], shift["blend_strength"]) == (20, 1)
    replaced = await prepare(BackgroundFix(), REPLACE, make_worker(tmp_path), FILES)
    assert (replaced["mask_expansion_percentage"], replaced["edge_blur_sigma"]) == (0, 0)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"base_image": "base.png"}, "palette_image"),
        (SHIFT | REPLACE | {"strategy": "REPLACE_IMAGE"}, "palette_image"),
        ({"base_image": "base.png", "strategy": "REPLACE_IMAGE"}, "background_image_url"),
        ({"base_image": "base.png", "strategy": "REPLACE_PROMPT"}, "background_prompt"),
        (SHIFT | {"background_image_url": "behind.png"}, "palette_image"),
        (REPLACE | {"background_prompt": "a beach"}, "background_image_url"),
        (REPLACE | {"shadow_threshold": 100}, "shadow_threshold"),
        (DRAW | {"light_threshold": 100}, "light_threshold"),
        (SHIFT | {"seed": 1}, "seed"),
        (REPLACE | {"steps": 4}, "steps"),
        (SHIFT | {"light_threshold": 100}, "light_threshold"),
        (SHIFT | {"mask_expansion": 4, "mask_expansion_percentage": 0.1}, "mask_expansion"),
        (SHIFT | {"provider_config": {"rembg_model": "u4net"}}, "provider_config.rembg_model"),
        (SHIFT | {"provider_config": {"rembg_model": 4}}, "provider_config.rembg_model"),
        (SHIFT | {"provider_config": {"rembg": "u2net"}}, "provider_config.rembg"),
        (SHIFT | {"base_image": "absent.png"}, "base_image"),
        (SHIFT | {"palette_image": "absent.png"}, "palette_image"),
        (REPLACE | {"background_image_url": "absent.png"}, "background_image_url"),
    ],
)
async def test_what_does_not_go_together_is_refused_by_name(
    tmp_path: Path, request_: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await prepare(BackgroundFix(), request_, make_worker(tmp_path), FILES)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_image", ""),
        ("strategy", "COLOUR_SHIFT"),
        ("mask_expansion_percentage", 1.1),
        ("mask_expansion", -1),
        ("shadow_threshold", 256),
        ("light_threshold", -1),
        ("edge_blur_sigma", -0.1),
        ("edge_blur_sigma", 501),
        ("blend_strength", 2),
        ("background_prompt", " "),
        ("steps", 0),
        ("seed", -1),
        ("colour", "red"),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        CreateBackgroundFixTask.model_validate(SHIFT | {field: value})
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_the_base_image_has_two_names_and_is_given_once() -> None:
    assert CreateBackgroundFixTask.model_validate({"base_image_url": "a.png"}).base_image == "a.png"
    with pytest.raises(ValidationError, match="base_image_url"):
        CreateBackgroundFixTask.model_validate({"base_image_url": "a.png", "base_image": "b.png"})


async def test_a_base_without_a_subject_fails_as_bad_input(tmp_path: Path) -> None:
    files = FILES | {"base.png": Image.new("RGB", (64, 64), "grey")}
    with pytest.raises(InvalidInput, match="No subject") as refused:
        await run_type(BackgroundFix(), SHIFT, make_worker(tmp_path), files)
    assert refused.value.field == "base_image"


async def test_the_palette_image_of_a_replacement_is_what_is_put_behind(tmp_path: Path) -> None:
    named = await fix(tmp_path / "named", REPLACE)
    request = {"base_image": "base.png", "palette_image": "behind.png", "strategy": "REPLACE_IMAGE"}
    outcome = await fix(tmp_path / "palette", request)
    assert np.array_equal(pixels(outcome), pixels(named))
    assert outcome.public["background_image_path"] == "behind.png"
