"""EDITING: what a request asks for shows in the picture, and what the mask covers does not change by a bit."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from compute.errors import InvalidInput
from compute.tasks.types.editing import Editing
from compute.worker.protocol import Role, StagedModel
from tests.pictures import product, scene
from tests.unit.tasks.types.worker import Outcome, TestWorker, make_worker, prepare, run_type

SIZE = (112, 80)
ALL: frozenset[Role] = frozenset({"draw", "edit", "fill"})
BASE_ONLY: frozenset[Role] = frozenset({"draw"})
VISIBLE = 2.0


class QuickEditing(Editing):
    """The same with a tenth of the pixels."""

    work_pixels = 128 * 96


KIND = QuickEditing()


@cache
def three_models() -> StagedModel:
    from compute.pipelines import ModelConfig
    from compute.pipelines.manager import prepare_manager

    families: dict[Role, str] = {"draw": "flux", "edit": "flux-kontext", "fill": "flux-fill"}
    models = {
        role: ModelConfig(model=f"tiny-{family}", family=family, max_sequence_length=128)
        for role, family in families.items()
    }
    return prepare_manager(models, Path(mkdtemp(prefix="compute-models-")))()


def disc(size: tuple[int, int] = SIZE) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).circle((size[0] * 0.6, size[1] * 0.5), min(size) * 0.3, fill=255)
    return mask


def files() -> dict[str, Image.Image]:
    return {
        "base.png": scene(SIZE),
        "other.png": scene(SIZE).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        "shirt.png": product((64, 64)),
        "red.png": Image.new("RGB", (50, 50), "red"),
        "mask.png": disc(),
        "large-mask.png": disc((448, 320)),
        "left.png": disc().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "black.png": Image.new("L", SIZE),
        "large.png": scene((900, 600)),
    }


@pytest.fixture
def worker(tmp_path: Path) -> TestWorker:
    return make_worker(tmp_path, three_models())


async def edit(worker: TestWorker, roles: frozenset[Role] = ALL, **changes: Any) -> Outcome:
    request = {"base_image": "base.png", "prompt": "make it night", "seed": 7, "steps": 2} | changes
    return await run_type(KIND, request, worker, files(), roles=roles)


def pixels(outcome: Outcome) -> np.ndarray:
    return np.asarray(outcome.images[0].convert("RGB")).astype(int)


_unchanged: dict[tuple[frozenset[Role], str | None], np.ndarray] = {}


async def unchanged(worker: TestWorker, roles: frozenset[Role] = ALL, mask: str | None = None) -> np.ndarray:
    """What the request gives as it is, made once."""
    if (roles, mask) not in _unchanged:
        _unchanged[roles, mask] = pixels(await edit(worker, roles, mask=mask))
    return _unchanged[roles, mask]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


async def test_the_same_request_gives_the_same_bytes(worker: TestWorker) -> None:
    first, second = await edit(worker, mask="mask.png"), await edit(worker, mask="mask.png")
    assert first.files == second.files


@pytest.mark.parametrize(
    ("roles", "asked", "role"),
    [
        (ALL, {}, "edit"),
        (ALL, {"mask": "mask.png"}, "fill"),
        (ALL, {"mask": "mask.png", "reference_images": ["shirt.png"]}, "edit"),
        (frozenset({"draw", "edit"}), {"mask": "mask.png"}, "draw"),
        (BASE_ONLY, {}, "draw"),
    ],
)
async def test_the_model_that_can_do_most_of_it_is_taken(
    worker: TestWorker, roles: frozenset[Role], asked: dict[str, Any], role: Role
) -> None:
    spec = await prepare(KIND, {"base_image": "base.png", "prompt": "x"} | asked, worker, files(), roles=roles)
    assert spec["role"] == role
    assert (spec["note"] is None) == (roles != BASE_ONLY)


async def test_without_a_model_for_edits_the_result_says_so(worker: TestWorker) -> None:
    outcome = await edit(worker, BASE_ONLY)
    assert "no model for instruction edits" in outcome.metadata["note"]
    assert "note" not in (await edit(worker)).metadata


PARAMETERS: list[dict[str, Any]] = [
    {"base_image": "other.png"},
    {"prompt": "make it red"},
    {"strength": 0.4},
    {"seed": 8},
    {"mask": "mask.png"},
    {"reference_images": ["red.png"]},
]


@pytest.mark.parametrize("change", PARAMETERS, ids=lambda change: "+".join(change))
async def test_every_parameter_of_an_edit_changes_the_picture(worker: TestWorker, change: dict[str, Any]) -> None:
    assert distance(await unchanged(worker), pixels(await edit(worker, **change))) > VISIBLE


@pytest.mark.parametrize("roles", [ALL, BASE_ONLY], ids=["fill", "inpaint"])
@pytest.mark.parametrize(
    "change",
    [{"prompt": "a pond"}, {"seed": 8}, {"strength": 0.35}, {"mask": "left.png"}],
    ids=lambda change: "+".join(change),
)
async def test_every_parameter_acts_inside_a_mask(
    worker: TestWorker, roles: frozenset[Role], change: dict[str, Any]
) -> None:
    first = await unchanged(worker, roles, "mask.png")
    second = pixels(await edit(worker, roles, **({"mask": "mask.png"} | change)))
    inside = np.asarray(disc()) > 0
    assert distance(first[inside], second[inside]) > VISIBLE


@pytest.mark.parametrize("asked", [{"reference_images": ["shirt.png"]}, {}, {"roles": BASE_ONLY}], ids=str)
async def test_unmasked_pixels_come_back_bit_identical(worker: TestWorker, asked: dict[str, Any]) -> None:
    result = pixels(await edit(worker, mask="mask.png", **asked))
    base, mask = np.asarray(scene(SIZE)).astype(int), np.asarray(disc())
    assert np.array_equal(result[mask == 0], base[mask == 0])
    assert distance(result[mask > 0], base[mask > 0]) > VISIBLE


async def test_a_large_picture_is_worked_on_in_part_and_kept_at_full_size(worker: TestWorker) -> None:
    large = scene((1400, 900))
    mask = Image.new("L", large.size)
    mask.paste(255, (1000, 300, 1100, 420))
    outcome = await run_type(
        KIND,
        {"base_image": "huge.png", "mask": "small.png", "prompt": "a pond", "seed": 1},
        worker,
        {"huge.png": large, "small.png": mask},
        roles=ALL,
    )
    width, height = (outcome.metadata["drawn_at"][side] for side in ("width", "height"))
    assert width * height <= 1.1 * KIND.work_pixels
    assert abs(width - height) <= 16, "the part around the mask, and not the whole picture"
    changed = (pixels(outcome) != np.asarray(large)).any(axis=2)
    assert changed.any()
    assert not changed[np.asarray(mask) == 0].any()


async def test_the_mask_may_have_another_size(worker: TestWorker) -> None:
    outcome = await edit(worker, mask_url="large-mask.png")
    changed = (pixels(outcome) != np.asarray(scene(SIZE))).any(axis=2)
    near = np.asarray(disc().resize((448, 320)).resize(SIZE)) > 0
    assert changed.mean() > 0.1
    assert (changed & ~near).mean() < 0.02


@pytest.mark.parametrize(
    ("mask", "asked", "size"),
    [
        (None, {}, SIZE),
        (None, {"width": 33, "height": 47}, (33, 47)),
        ("mask.png", {"width": 56}, (56, 40)),
        ("mask.png", {"height": 160}, (224, 160)),
    ],
)
async def test_the_size_is_exactly_what_was_asked_for(
    worker: TestWorker, mask: str | None, asked: dict[str, int], size: tuple[int, int]
) -> None:
    outcome = await edit(worker, mask=mask, **asked)
    assert outcome.images[0].size == size
    assert (outcome.public["width"], outcome.public["height"]) == size


async def test_other_proportions_keep_the_middle(worker: TestWorker) -> None:
    outcome = await edit(worker, mask="mask.png", width=80, height=80)
    base = np.asarray(scene(SIZE).crop((16, 0, 96, 80))).astype(int)
    kept = np.asarray(disc().crop((16, 0, 96, 80))) == 0
    assert np.array_equal(pixels(outcome)[kept], base[kept])


@pytest.mark.parametrize("name", ["base_image", "base_image_url", "base_image_data"])
async def test_each_spelling_of_the_base_image_works(worker: TestWorker, name: str) -> None:
    request = {name: "base.png", "prompt": "x"}
    assert (await prepare(KIND, request, worker, files(), roles=ALL))["base_image_path"] == "base.png"


async def test_references_come_in_every_spelling_and_are_named_in_the_prompt(worker: TestWorker) -> None:
    request = {
        "base_image_url": "base.png",
        "reference_images": [{"url": "shirt.png", "type": "garment"}, "red.png"],
        "reference_image_url": "other.png",
        "prompt": "Place the dress naturally on the model.",
    }
    spec = await prepare(KIND, request, worker, files(), roles=ALL)
    assert [one["path"] for one in spec["reference_images"]] == ["shirt.png", "red.png", "other.png"]
    assert spec["prompt"] == request["prompt"]
    assert spec["instruction"] == (
        "Place the dress naturally on the model. To the right of the first picture, in this order: the garment, "
        "another picture, another picture."
    )


async def test_each_reference_and_its_type_change_the_picture(worker: TestWorker) -> None:
    plain = pixels(await edit(worker, reference_images=["red.png"]))
    for references in (["shirt.png"], ["red.png", "shirt.png"], [{"url": "red.png", "type": "garment"}]):
        assert distance(plain, pixels(await edit(worker, reference_images=references))) > VISIBLE / 2


async def test_a_reference_or_a_mask_alone_is_enough(worker: TestWorker) -> None:
    spec = await prepare(
        KIND,
        {"base_image": "base.png", "reference_images": [{"url": "shirt.png", "type": "garment"}]},
        worker,
        files(),
        roles=ALL,
    )
    assert spec["instruction"].startswith("Put the garment from the right into the first picture")
    assert (await edit(worker, prompt="", mask="mask.png")).images


async def test_the_public_fields_say_what_was_asked_and_made(worker: TestWorker) -> None:
    outcome = await edit(worker, mask="mask.png", reference_images=[{"url": "shirt.png", "type": "garment"}])
    assert outcome.public | {"result_image_path": None} == {
        "base_image_path": "base.png",
        "prompt": "make it night",
        "mask_path": "mask.png",
        "strength": 1.0,
        "width": 112,
        "height": 80,
        "seed": 7,
        "steps": 2,
        "fal_app_id": None,
        "reference_images": [{"url": "shirt.png", "type": "garment"}],
        "reference_image_path": "shirt.png",
        "workflow_id": None,
        "fal_request_id": None,
        "result_image_path": None,
    }
    assert outcome.public["result_image_path"] == outcome.artifacts[0].path
    assert outcome.metadata["inputs"].keys() == {"base.png", "mask.png", "shirt.png"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_image_url": "other.png"}, "base_image_url"),
        ({"base_image": None}, "base_image"),
        ({"prompt": "  "}, "prompt"),
        ({"reference_images": ["red.png"] * 5}, "reference_images"),
        ({"reference_images": ["red.png"] * 4, "reference_image_data": "shirt.png"}, "reference_image_data"),
        ({"base_image": "large.png"}, "base_image"),
        ({"width": 400, "height": 300}, "width"),
        ({"height": 5000}, "height"),
        ({"mask": "gone.png"}, "mask"),
        ({"reference_images": ["red.png", {"url": "gone.png"}]}, "reference_images.1"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_refused_by_field(worker: TestWorker, change: dict[str, Any], field: str) -> None:
    request = {"base_image": "base.png", "prompt": "x"} | change
    with pytest.raises(InvalidInput) as caught:
        await prepare(KIND, request, worker, files(), roles=ALL, max_pixels=100_000)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "change",
    [
        {"strength": 0},
        {"strength": 1.5},
        {"width": 15},
        {"height": 20_000},
        {"seed": -1},
        {"reference_images": [{"url": "red.png", "type": "garment", "weight": 1}]},
        {"reference_images": [{"url": "red.png", "type": "a;b"}]},
        {"mask": ""},
        {"mask": "mask.png", "mask_url": "mask.png"},
        {"steps": 0},
        {"guidance": 4},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        KIND.create_model.model_validate({"base_image": "base.png", "prompt": "x"} | change)
    assert caught.value.errors()[0]["loc"][0] in change


async def test_references_need_a_model_that_looks_at_them(worker: TestWorker) -> None:
    with pytest.raises(InvalidInput, match="no model that looks at references") as caught:
        await edit(worker, BASE_ONLY, reference_images=["red.png"])
    assert caught.value.field == "reference_images"


async def test_a_mask_that_opens_nothing_ends_the_task(worker: TestWorker) -> None:
    with pytest.raises(InvalidInput, match="black everywhere") as caught:
        await edit(worker, mask="black.png")
    assert caught.value.field == "mask"
