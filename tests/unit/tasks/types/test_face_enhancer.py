"""FACE_ENHANCER: faces change as they were told to and stay the same faces; nothing else changes at all."""

from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compute.errors import InvalidInput
from compute.tasks.types.face_enhancer import CreateFaceEnhancerTask, FaceEnhancer
from compute.worker.context import RunContext, run_work
from compute.worker.ops.face import FaceOutcome, FaceSettings, enhance_faces
from compute.worker.ops.patch import PatchSettings, SimilarityLimits, working_size
from compute.worker.protocol import Job, StagedModel, Started
from tests.pictures import full_figure, portrait, scene
from tests.unit.tasks.types.retoucher import Retoucher
from tests.unit.tasks.types.worker import Outcome, make_worker, prepare, run_type, tiny_flux_model

KIND = FaceEnhancer()
FACE = portrait((160, 160))
SMALL = {"input_image": "in.png", "seed": 1, "steps": 4, "working_size": 128}


async def enhance(tmp_path: Path, model: StagedModel, picture: Image.Image = FACE, **changes: Any) -> Outcome:
    return await run_type(KIND, SMALL | changes, make_worker(tmp_path, model), {"in.png": picture})


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, int)


def change(outcome: Outcome, picture: Image.Image = FACE) -> float:
    """How far the result is from the picture, in grey levels."""
    return float(np.abs(pixels(outcome.images[0]) - pixels(picture)).mean())


async def test_a_face_is_drawn_anew_and_nothing_else_is_touched(tmp_path: Path) -> None:
    picture = full_figure((240, 360))
    outcome = await enhance(tmp_path, Retoucher(), picture)
    (face,) = outcome.metadata["faces"]
    left, top, right, bottom = face["box"]
    changed = (pixels(outcome.images[0]) != pixels(picture)).any(axis=-1)
    assert changed[top:bottom, left:right].mean() > 0.4
    changed[top:bottom, left:right] = False
    assert not changed.any()
    assert outcome.public["face_detected"] is True
    assert outcome.public["attempts_used"] == 1
    assert outcome.public["fallback_used"] is False
    assert 0.75 <= outcome.public["final_ssim_score"] < 1
    assert outcome.public["result_image_path"] == outcome.artifacts[0].path
    assert outcome.artifacts[0].path.startswith("face_enhancements/")
    assert any(isinstance(event, Started) for event in outcome.events)


async def test_without_a_face_the_picture_comes_back_unchanged(tmp_path: Path) -> None:
    picture = scene((200, 130))
    model = Retoucher()
    outcome = await enhance(tmp_path, model, picture)
    assert outcome.images[0].tobytes() == picture.tobytes()
    assert model.requests == []
    assert outcome.public["face_detected"] is False
    assert outcome.public["attempts_used"] == 0
    assert outcome.public["fallback_used"] is False
    assert outcome.public["final_ssim_score"] is None


async def test_a_drawing_that_is_another_face_is_tried_again_with_less_noise_and_another_seed(tmp_path: Path) -> None:
    model = Retoucher(damage=0.2)
    outcome = await enhance(tmp_path, model, strength=1.0)
    strengths = [request.strength for request in model.requests]
    assert outcome.public["attempts_used"] == len(strengths) == 2
    assert strengths == pytest.approx([0.4, 0.24])
    assert [request.seed for request in model.requests] == [1, 2]
    assert outcome.public["fallback_used"] is False
    assert outcome.public["final_ssim_score"] >= 0.75


async def test_when_no_attempt_keeps_the_face_it_is_sharpened_and_that_is_said(tmp_path: Path) -> None:
    outcome = await enhance(tmp_path, tiny_flux_model())
    assert outcome.public["attempts_used"] == 3
    assert outcome.public["fallback_used"] is True
    assert outcome.public["final_ssim_score"] > 0.9, "that of what is published"
    assert 0.1 < change(outcome) < 8
    assert [face["fallback_used"] for face in outcome.metadata["faces"]] == [True]


async def test_strength_decides_how_much_changes_and_zero_is_nothing(tmp_path: Path) -> None:
    changes = [change(await enhance(tmp_path, Retoucher(), strength=strength)) for strength in (0, 0.3, 0.6, 1)]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert changes[3] > 2 * changes[1]


async def test_strength_decides_about_the_fallback_too(tmp_path: Path) -> None:
    little, much = [await enhance(tmp_path, Retoucher(damage=9), strength=strength) for strength in (0.3, 1)]
    assert little.public["fallback_used"] is much.public["fallback_used"] is True
    assert change(much) > 1.5 * change(little)


async def test_identity_is_preserved_by_less_noise_and_stricter_checks(tmp_path: Path) -> None:
    keeping, free = Retoucher(), Retoucher()
    kept = await enhance(tmp_path, keeping, preserve_identity=True)
    freed = await enhance(tmp_path, free, preserve_identity=False)
    assert (keeping.requests[0].strength, free.requests[0].strength) == pytest.approx((0.2, 0.35))
    assert change(freed) > 1.3 * change(kept)
    assert kept.public["final_ssim_score"] > freed.public["final_ssim_score"]


async def test_what_is_too_different_for_one_identity_may_do_for_a_looser_one(tmp_path: Path) -> None:
    """The same noise on the face, 0.28, once under each check."""
    strict = await enhance(tmp_path, Retoucher(damage=0.3), preserve_identity=True, strength=0.7)
    loose = await enhance(tmp_path, Retoucher(damage=0.3), preserve_identity=False, strength=0.4)
    assert strict.public["attempts_used"] > 1
    assert loose.public["attempts_used"] == 1


@pytest.mark.parametrize("changes", [{"seed": 2}, {"prompt": "freckles"}, {"steps": 9}, {"working_size": 64}])
async def test_every_other_parameter_changes_the_face(tmp_path: Path, changes: dict[str, Any]) -> None:
    before, after = await enhance(tmp_path, Retoucher()), await enhance(tmp_path, Retoucher(), **changes)
    assert np.abs(pixels(before.images[0]) - pixels(after.images[0])).max() > 3


async def test_the_same_request_gives_the_same_picture(tmp_path: Path) -> None:
    first, second = await enhance(tmp_path, tiny_flux_model()), await enhance(tmp_path, tiny_flux_model())
    assert first.artifacts[0].sha256 == second.artifacts[0].sha256


ANYTHING = SimilarityLimits(least_ssim=-1, most_lpips=9, most_dists=9)


async def faces_by_tiny_flux(
    tmp_path: Path, picture: Image.Image = FACE, *, faces: int = 4, **changes: Any
) -> FaceOutcome:
    """`enhance_faces` on the real pipeline, whatever it draws."""
    given = {"prompt": "a face", "steps": 4, "denoise": 0.5, "seed": 1, "side": 64, "limits": ANYTHING}
    settings = FaceSettings(PatchSettings(**(given | changes)), faces=faces)
    outcomes = []

    async def work(context: RunContext) -> None:
        async with context.device():
            outcomes.append(await enhance_faces(context, picture, settings))

    job = Job(uuid4(), KIND.name, 1, {})
    async for _ in run_work(job, make_worker(tmp_path, tiny_flux_model()).worker, work):
        pass
    return outcomes[0]


@pytest.mark.parametrize(
    "changes", [{"prompt": "another"}, {"steps": 8}, {"denoise": 0.9}, {"seed": 2}, {"guidance_scale": 9}, {"side": 80}]
)
async def test_the_real_pipeline_hears_every_setting(tmp_path: Path, changes: dict[str, Any]) -> None:
    before, after = await faces_by_tiny_flux(tmp_path), await faces_by_tiny_flux(tmp_path, **changes)
    assert not before.fallback_used
    assert np.abs(pixels(before.image) - pixels(after.image)).max() >= 2


async def test_several_faces_are_drawn_each_with_noise_of_its_own_and_no_more_than_asked(tmp_path: Path) -> None:
    wall = Image.new("RGB", (480, 160), (180, 184, 190))
    for left, side in ((0, 150), (150, 130), (290, 110)):
        wall.paste(portrait((side, side)), (left, 5))
    model = Retoucher(damage=0.1)
    outcome = await enhance(tmp_path, model, wall)
    assert len(outcome.metadata["faces"]) == outcome.public["attempts_used"] == 3
    assert len({request.seed for request in model.requests}) == 3
    assert outcome.public["final_ssim_score"] == min(face["scores"]["ssim"] for face in outcome.metadata["faces"])
    two = await faces_by_tiny_flux(tmp_path, wall, faces=2)
    assert len(two.faces) == 2


@pytest.mark.parametrize("mode", ["L", "RGBA"])
async def test_gray_stays_gray_and_transparent_stays_transparent(tmp_path: Path, mode: str) -> None:
    picture = FACE.convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(FACE.size))
    outcome = await enhance(tmp_path, Retoucher(), picture)
    assert outcome.images[0].mode == mode
    assert change(outcome, picture) > 0
    if mode == "RGBA":
        assert outcome.images[0].getchannel("A").tobytes() == picture.getchannel("A").tobytes()


async def test_progress_covers_the_attempts(tmp_path: Path) -> None:
    outcome = await enhance(tmp_path, tiny_flux_model())
    fractions = [event.fraction for event in outcome.events if hasattr(event, "fraction")]
    assert fractions == pytest.approx([1 / 3, 2 / 3, 1])


async def test_learned_scores_are_null_without_weights_and_the_metadata_says_why(tmp_path: Path) -> None:
    outcome = await enhance(tmp_path, Retoucher())
    assert outcome.public["final_lpips_score"] is outcome.public["final_dists_score"] is None
    assert "lpips_weights.pt" in outcome.metadata["scores_missing"]


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((100, 100), 1024, (512, 512)),
        ((400, 400), 1024, (800, 800)),
        ((3000, 3000), 1024, (1024, 1024)),
        ((320, 160), 1024, (640, 320)),
        ((100, 100), 64, (64, 64)),
        ((900, 3), 64, (64, 16)),
    ],
)
def test_the_model_draws_at_a_size_on_its_grid(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert working_size(size, side=side, multiple=16) == expected


async def test_a_face_larger_than_the_model_draws_keeps_its_own_fine_detail(tmp_path: Path) -> None:
    """At strength next to nothing a face of 400 pixels, drawn at 64, must not come back blurred."""
    picture = portrait((400, 400))
    outcome = await enhance(tmp_path, Retoucher(damage=0.0), picture, working_size=64, strength=0.05)
    assert np.abs(pixels(outcome.images[0]) - pixels(picture)).max() <= 6


def test_the_other_dialect_is_understood() -> None:
    request = CreateFaceEnhancerTask.model_validate(
        {"task_type": "FACE_ENHANCER", "base_image_url": "in.png", "strength": 0.5, "preserve_identity": True}
    )
    assert request.input_image == "in.png"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strength": 1.1}, "strength"),
        ({"strength": -0.1}, "strength"),
        ({"steps": 0}, "steps"),
        ({"working_size": 63}, "working_size"),
        ({"seed": -1}, "seed"),
        ({"base_image_url": "in.png"}, "base_image_url"),
        ({"input_image": ""}, "input_image"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateFaceEnhancerTask.model_validate(SMALL | changes)
    assert caught.value.errors()[0]["loc"] == (field,)


async def test_an_input_that_is_too_small_or_gone_is_named(tmp_path: Path) -> None:
    check = partial(prepare, KIND, SMALL, make_worker(tmp_path))
    with pytest.raises(InvalidInput, match="at least 32 pixels") as small:
        await check({"in.png": Image.new("RGB", (31, 200))})
    assert small.value.field == "input_image"
    with pytest.raises(InvalidInput) as gone:
        await check({"other.png": FACE})
    assert gone.value.field == "input_image"
