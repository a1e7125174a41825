"""REFINE: what is asked for is what comes out, in the size, the detail and the faces of the picture."""

import uuid
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compute.errors import InvalidInput, OutOfMemory
from compute.imaging.resize import resized
from compute.imaging.tiles import Axis, TileGrid
from compute.schemas.enums import ProviderCapability
from compute.tasks.types.refine import CreateRefineTask, Refine
from compute.worker.protocol import GenerateRequest, Job, Latents, OnStep, Prepared, Progress, StagedModel, Started
from tests.pictures import portrait, scene
from tests.unit.tasks.types.worker import Outcome, make_worker, prepare, run_type, tiny_flux_model

VISIBLE = 2.0
"""Mean difference per pixel and channel, of 255, that anybody would see."""


class SmallTiles(Refine):
    """The same with tiles that suit a tiny model."""

    tile = 96
    overlap = 32


async def refine(home: Path, picture: Image.Image, **fields: Any) -> Outcome:
    request = {"base_image_url": "base.png", "upscale_seed": 1, "upscale_steps": 4, "upscale_denoise": 0.5} | fields
    return await run_type(SmallTiles(), request, make_worker(home, tiny_flux_model()), {"base.png": picture})


async def spec_of(home: Path, picture: Image.Image, inputs: dict[str, Any] | None = None, **fields: Any) -> Any:
    request = {"base_image_url": "base.png"} | fields
    return await prepare(Refine(), request, make_worker(home), {"base.png": picture}, **(inputs or {}))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(pixels(one) - pixels(other)).mean())


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), "gray")


@pytest.mark.parametrize(
    "change",
    [
        {"upscale_seed": 2},
        {"upscale_prompt": "oil on canvas"},
        {"upscale_steps": 6},
        {"upscale_denoise": 0.75},
        {"upscale_enabled": False},
    ],
    ids=lambda change: "".join(change),
)
async def test_every_parameter_changes_the_picture(tmp_path: Path, change: dict[str, Any]) -> None:
    base = await refine(tmp_path, scene((96, 64)), upscale_factor=1.5)
    other = await refine(tmp_path, scene((96, 64)), upscale_factor=1.5, **change)
    assert distance(base.images[0], other.images[0]) > VISIBLE


@pytest.mark.parametrize(
    ("size", "fields", "expected"),
    [
        ((96, 64), {}, (96, 64)),
        ((96, 64), {"upscale_factor": 2}, (192, 128)),
        ((33, 65), {"upscale_factor": 1.3}, (43, 84)),
        ((96, 64), {"target_width": 60}, (60, 40)),
        ((96, 64), {"target_height": 100}, (150, 100)),
        ((96, 64), {"target_width": 64, "target_height": 96}, (64, 96)),
        ((96, 64), {"upscale_factor": 1.5, "target_width": 144, "target_height": 96}, (144, 96)),
        ((101, 1), {"upscale_factor": 2}, (202, 2)),
        ((1, 1), {"upscale_factor": 8}, (8, 8)),
    ],
)
async def test_the_size_is_the_one_that_was_asked_for(
    tmp_path: Path, size: tuple[int, int], fields: dict[str, Any], expected: tuple[int, int]
) -> None:
    outcome = await refine(tmp_path, scene((101, 101)).crop((0, 0, *size)), **fields)
    assert outcome.images[0].size == expected
    assert (outcome.artifacts[0].width, outcome.artifacts[0].height) == expected


async def test_the_same_request_gives_the_same_bytes_and_a_seed_of_its_own_is_shown(tmp_path: Path) -> None:
    first = await refine(tmp_path, scene((96, 64)), upscale_seed=None, upscale_factor=1.5)
    again = await refine(tmp_path, scene((96, 64)), upscale_seed=first.public["upscale_seed"], upscale_factor=1.5)
    assert first.files == again.files
    assert first.artifacts[0].seed == first.public["upscale_seed"]


@pytest.mark.parametrize("without_drawing", [{"upscale_denoise": 0}, {"upscale_enabled": False}])
async def test_without_drawing_it_is_the_resized_picture(tmp_path: Path, without_drawing: dict[str, Any]) -> None:
    outcome = await refine(tmp_path, scene((96, 64)), upscale_factor=3, **without_drawing)
    assert np.array_equal(pixels(outcome.images[0]), pixels(resized(scene((96, 64)), (288, 192))))
    assert outcome.metadata["timings"]["draw_ms"] == 0
    assert any(isinstance(event, Started) for event in outcome.events)


async def test_more_denoise_leads_further_from_the_picture_and_leaves_its_colours(tmp_path: Path) -> None:
    plain = resized(scene((96, 64)), (192, 128))
    drawn = [
        (await refine(tmp_path, scene((96, 64)), upscale_factor=2, upscale_denoise=denoise)).images[0]
        for denoise in (0.25, 0.5, 1.0)
    ]
    away = [distance(image, plain) for image in drawn]
    assert away == sorted(away)
    assert np.abs(pixels(drawn[1]).mean(axis=(0, 1)) - pixels(plain).mean(axis=(0, 1))).max() < 12


async def test_no_seam_shows_between_the_tiles_of_a_model(tmp_path: Path) -> None:
    outcome = await refine(tmp_path, scene((256, 200)), upscale_factor=2, upscale_steps=2)
    grid = TileGrid.split(512, 400, tile=96, overlap=32, multiple=16)
    assert outcome.metadata["tiles"] == len(grid) == 48
    made = pixels(outcome.images[0])
    ratios = [border_energy(grid.across, made.swapaxes(0, 1)), border_energy(grid.down, made)]
    assert sum(ratios) / 2 < 1.05


def border_energy(axis: Axis, along: np.ndarray) -> float:
    """Gradient energy across the borders of tiles, as a multiple of that where only one tile counts.

    The tiny model leaves a pattern of 8 pixels, in whose rhythm tiles begin and end: like is compared with like.
    """
    energy = (np.diff(along, axis=0) ** 2).mean(axis=(1, 2))
    borders = {start - 1 for start in axis.starts[1:]} | {start + axis.tile - 1 for start in axis.starts[:-1]}
    alone = {
        start + int(place)
        for index, start in enumerate(axis.starts)
        for place in np.flatnonzero(axis.weights(index) == 1)
    }
    inside = (alone - borders) & set(range(7, len(energy), 8))
    return float(energy[sorted(borders)].mean() / energy[sorted(inside)].mean())


async def test_a_picture_that_fits_is_one_tile(tmp_path: Path) -> None:
    assert (await refine(tmp_path, scene((48, 32)), upscale_factor=2)).metadata["tiles"] == 1


async def test_tiles_differ_in_their_noise(tmp_path: Path) -> None:
    drawn = pixels((await refine(tmp_path, blank(160, 96), upscale_denoise=1)).images[0])
    left, right = drawn[:, 20:60] - drawn[:, 20:60].mean(), drawn[:, 84:124] - drawn[:, 84:124].mean()
    assert abs((left * right).mean()) < 0.3 * left.std() * right.std()


async def test_transparency_is_kept_and_hides_no_colours_in_the_edges(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    picture.paste((200, 60, 60, 255), (16, 16, 48, 48))
    outcome = await refine(tmp_path, picture, upscale_factor=2, upscale_enabled=False)
    made = outcome.images[0]
    assert made.mode == "RGBA"
    assert np.array_equal(pixels(made.getchannel("A")), pixels(resized(picture.getchannel("A"), (128, 128))))
    seen = pixels(made)[pixels(made)[..., 3] > 16]
    assert np.abs(seen[:, :3] - (200, 60, 60)).max() < 8
    drawn = await refine(tmp_path, picture, upscale_factor=2)
    assert np.array_equal(pixels(drawn.images[0])[..., 3], pixels(made)[..., 3])
    assert distance(drawn.images[0], made) > VISIBLE


async def test_gray_stays_gray(tmp_path: Path) -> None:
    outcome = await refine(tmp_path, scene((64, 48)).convert("L"), upscale_factor=2)
    assert outcome.images[0].mode == "L"


FACE = (40, 30, 120, 110)
"""Where `portrait` of 160 x 160 has its face: left, top, right and bottom."""


async def with_face(home: Path, **fields: Any) -> Outcome:
    """A portrait whose face is drawn anew, and nothing else."""
    face = {"face_detail_enabled": True, "face_detail_seed": 1, "face_detail_denoise": 0.1}
    return await refine(home, portrait((160, 160)), **({"upscale_enabled": False} | face | fields))


@pytest.mark.parametrize(
    "change",
    [
        {"face_detail_enabled": False},
        {"face_detail_seed": 2},
        {"face_detail_prompt": "an old man"},
        {"face_detail_steps": 20},
        {"face_detail_denoise": 0.3},
        {"face_detail_denoise": 0},
    ],
    ids=lambda change: "".join(f"{name}={value}" for name, value in change.items()),
)
async def test_every_parameter_of_faces_changes_the_face(tmp_path: Path, change: dict[str, Any]) -> None:
    base, other = await with_face(tmp_path), await with_face(tmp_path, **change)
    assert base.metadata["face_detected"]
    assert distance(base.images[0].crop(FACE), other.images[0].crop(FACE)) > VISIBLE


async def test_what_is_no_face_stays_as_it_is(tmp_path: Path) -> None:
    face = await with_face(tmp_path)
    corner = slice(0, 16)
    assert np.array_equal(pixels(face.images[0])[corner, corner], pixels(portrait((160, 160)))[corner, corner])
    nobody = await refine(tmp_path, scene((96, 64)), upscale_enabled=False, face_detail_enabled=True)
    assert np.array_equal(pixels(nobody.images[0]), pixels(scene((96, 64))))
    assert nobody.metadata["face_detected"] is False


async def test_faces_come_after_the_tiles(tmp_path: Path) -> None:
    outcome = await with_face(tmp_path, upscale_enabled=True, upscale_denoise=0.2, upscale_factor=1.5)
    assert outcome.images[0].size == (240, 240)
    assert (outcome.metadata["tiles"], outcome.metadata["face_attempts"] > 0) == (16, True)
    fractions = [event.fraction for event in outcome.events if isinstance(event, Progress)]
    assert any(fraction == pytest.approx(0.8) for fraction in fractions)
    assert len([fraction for fraction in fractions if fraction > 0.8]) > 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"upscale_factor": 0.5}, "upscale_factor"),
        ({"upscale_factor": 100}, "upscale_factor"),
        ({"target_width": 0}, "target_width"),
        ({"target_height": 20_000}, "target_height"),
        ({"upscale_steps": 0}, "upscale_steps"),
        ({"upscale_denoise": 1.1}, "upscale_denoise"),
        ({"face_detail_denoise": -0.1}, "face_detail_denoise"),
        ({"face_detail_steps": 201}, "face_detail_steps"),
        ({"upscale_seed": -1}, "upscale_seed"),
        ({"base_image_url": ""}, "base_image_url"),
        ({"base_image": "base.png"}, "base_image"),
        ({"upscale_facto": 2}, "upscale_facto"),
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        CreateRefineTask.model_validate({"base_image_url": "base.png"} | fields)
    assert [each["loc"][0] for each in error.value.errors()] == [field]


def test_the_base_image_has_two_names() -> None:
    assert CreateRefineTask.model_validate({"base_image": "base.png"}).base_image_url == "base.png"


def test_only_the_base_image_is_required() -> None:
    with pytest.raises(ValidationError) as error:
        CreateRefineTask.model_validate({})
    assert len(error.value.errors()) == 1


@pytest.mark.parametrize(
    ("size", "fields", "field"),
    [
        ((100, 100), {"upscale_factor": 2, "target_width": 300}, "upscale_factor"),
        ((100, 100), {"upscale_factor": 2, "target_width": 200, "target_height": 300}, "upscale_factor"),
        ((1024, 1024), {"upscale_factor": 8}, "upscale_factor"),
        ((100, 100), {"target_width": 8000, "target_height": 8001}, "target_width"),
        ((10, 100), {"target_width": 4000}, "target_width"),
        ((100, 10), {"target_height": 4000}, "target_height"),
        ((16_385, 1), {}, "base_image_url"),
        ((3000, 1), {"upscale_factor": 6}, "upscale_factor"),
    ],
)
async def test_a_size_that_cannot_be_is_refused(
    tmp_path: Path, size: tuple[int, int], fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        await spec_of(tmp_path, blank(*size), {"max_pixels": 64_000_000}, **fields)
    assert error.value.field == field


async def test_the_sample_of_the_documentation_is_taken(tmp_path: Path) -> None:
    sample = {
        "task_type": "REFINE",
        "base_image_url": "base.png",
        "target_width": 2048,
        "target_height": 3072,
        "upscale_enabled": True,
        "upscale_factor": 2,
        "upscale_steps": 20,
        "upscale_denoise": 0.3,
        "face_detail_enabled": True,
        "face_detail_steps": 10,
        "face_detail_denoise": 0.2,
    }
    spec = await spec_of(tmp_path, blank(1024, 1536), **sample)
    assert (spec["width"], spec["height"]) == (2048, 3072)


@pytest.mark.parametrize(
    ("fields", "capability", "field"),
    [
        ({"upscale_factor": 2}, "UPSCALE_2X", "upscale_factor"),
        ({"upscale_factor": 4.0}, "UPSCALE_4X", "upscale_factor"),
        ({"upscale_factor": 8}, "UPSCALE_8X", "upscale_factor"),
        ({"upscale_factor": 3}, "UPSCALE_FLOAT", "upscale_factor"),
        ({"upscale_factor": 2.5}, "UPSCALE_FLOAT", "upscale_factor"),
        ({"target_width": 64}, "OUTPUT_SIZE", "target_width"),
        ({"target_height": 64}, "OUTPUT_SIZE", "target_height"),
        ({}, "OUTPUT_SIZE", "base_image_url"),
        ({"upscale_factor": 2, "face_detail_enabled": True}, "FACE_DETAIL", "face_detail_enabled"),
    ],
)
@pytest.mark.parametrize("listing", ["active_provider_capabilities", "fallback_provider_capabilities"])
async def test_what_is_asked_for_must_be_offered(
    tmp_path: Path, listing: str, fields: dict[str, Any], capability: str, field: str
) -> None:
    everything = sorted(ProviderCapability)
    await spec_of(tmp_path, blank(32, 32), **fields, **{listing: everything})
    others = [offered for offered in everything if offered != capability]
    with pytest.raises(InvalidInput, match=f"needs {capability}, which {listing} does not offer") as error:
        await spec_of(tmp_path, blank(32, 32), **fields, **{listing: others})
    assert error.value.field == field


async def test_the_answer_shows_what_was_asked_and_what_was_chosen(tmp_path: Path) -> None:
    outcome = await refine(tmp_path, scene((32, 32)), upscale_factor=1.5, fal_app_id="an/app")
    shown = outcome.public
    assert (shown["upscale_factor"], shown["upscale_steps"], shown["upscale_denoise"]) == (1.5, 4, 0.5)
    assert (shown["face_detail_steps"], shown["face_detail_denoise"]) == (10, 0.2)
    assert isinstance(shown["face_detail_seed"], int)
    assert (shown["fal_app_id"], shown["target_width"], shown["target_height"]) == ("an/app", None, None)
    assert shown["result_image_path"] == outcome.artifacts[0].path
    assert shown["result_image_path"].startswith("refines/")


@dataclass
class RunsOut(StagedModel):
    """A model whose device has no memory left for its third draw."""

    inner: StagedModel
    draws: int = 0

    @property
    def name(self) -> str:
        return self.inner.name

    def prepare(self, request: GenerateRequest) -> Prepared:
        return self.inner.prepare(request)

    def denoise(self, prepared: Prepared, on_step: OnStep) -> Latents:
        self.draws += 1
        if self.draws == 3:
            raise OutOfMemory("CUDA out of memory")
        return self.inner.denoise(prepared, on_step)

    def decode(self, latents: Latents) -> Image.Image:
        image: Image.Image = self.inner.decode(latents)
        return image


async def test_a_failure_in_the_middle_is_the_runs_failure(tmp_path: Path) -> None:
    model = RunsOut(tiny_flux_model())
    request = {"base_image_url": "base.png", "upscale_steps": 2, "upscale_denoise": 0.5}
    with pytest.raises(OutOfMemory, match="CUDA out of memory"):
        await run_type(SmallTiles(), request, make_worker(tmp_path, model), {"base.png": scene((240, 200))})
    assert model.draws == 3


async def test_a_run_that_is_closed_stops_drawing(tmp_path: Path) -> None:
    worker = make_worker(tmp_path, tiny_flux_model())
    request = {"base_image_url": "base.png", "upscale_steps": 4, "upscale_denoise": 0.5}
    spec = await prepare(SmallTiles(), request, worker, {"base.png": scene((240, 200))})
    async with aclosing(SmallTiles().run(Job(uuid.uuid4(), "REFINE", 1, spec), worker.worker)) as events:
        fractions = [event.fraction async for event in _until_a_third(events)]
    assert fractions[-1] < 0.5
    again = await run_type(SmallTiles(), request, worker, {"base.png": scene((48, 32))})
    assert len(again.images) == 1


async def _until_a_third(events: Any) -> Any:
    async for event in events:
        if isinstance(event, Progress):
            yield event
            if event.fraction > 1 / 3:
                return
