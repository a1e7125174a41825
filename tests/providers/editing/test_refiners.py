"""The refiners of SARTIQ over the stand-in of Google's API and over a model of our own, as runs of tasks."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from compute.deployments.context import LocalWorkerContext
from compute.errors import InvalidInput, ProviderFailed
from compute.providers.editing.provider import EditingProvider
from compute.providers.registry import all_providers
from compute.schemas.enums import ErrorCategory, ProviderType
from compute.settings import Settings
from compute.tasks.operations import Edit, EnhanceFaces, Operation, Picture, Refine, RemoveBackground
from compute.tasks.registry import all_kinds
from compute.worker.protocol import Artifact, Done, Job
from tests.pictures import full_figure, portrait
from tests.providers.editing.benches import photo
from tests.providers.harness import Desk, Outcome, open_desk
from tests.providers.standins.faults import held
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.gemini import Outcome as Ending
from tests.unit.tasks.types.retoucher import Retoucher

REFINER = ProviderType.SARTIQ_ULTIMATE_REFINER
FACES = ProviderType.SARTIQ_ULTIMATE_FACE_FIXER
GARMENTS = ProviderType.SARTIQ_ULTIMATE_GARMENT_FIXER
ALL = (REFINER, FACES, GARMENTS)
ANY = {"ssim_threshold": 0}


@pytest.fixture
async def desk(gemini: Gemini, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path, gemini_api_key=gemini.key, gemini_base_url=gemini.url()) as desk:
        yield desk


async def refining(desk: Desk, image: Image.Image, size: tuple[int, int] | None = None, **more: Any) -> Refine:
    width, height = size or image.size
    return Refine(Picture(await desk.store(image), "base_image_url"), width, height, 1.0, seed=7, **more)


async def run(desk: Desk, operation: Operation, provider: ProviderType, **config: Any) -> Outcome:
    return await desk.do(operation, provider, ANY | config, task_type="REFINE")


def notes(outcome: Outcome) -> dict[str, Any]:
    assert outcome.metadata is not None
    return outcome.metadata


async def pixels(desk: Desk, outcome: Outcome) -> np.ndarray:
    [artifact] = outcome.artifacts
    return np.asarray((await desk.image(artifact.path)).convert("RGB")).astype(int)


def prompts(gemini: Gemini) -> list[str]:
    return [one.json["contents"][0]["parts"][0]["text"] for one in gemini.paid]


def images(gemini: Gemini, call: int = 0) -> list[Image.Image]:
    parts = gemini.paid[call].json["contents"][0]["parts"]
    sent = [base64.urlsafe_b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part]
    return [Image.open(io.BytesIO(one)) for one in sent]


def sizes(gemini: Gemini) -> set[str]:
    return {one.json["generationConfig"]["imageConfig"]["imageSize"] for one in gemini.paid}


async def test_tiles_are_paid_once_each_and_make_one_image(desk: Desk, gemini: Gemini) -> None:
    outcome = await run(desk, await refining(desk, photo(), (400, 300), prompt="knitted wool"), REFINER, num_tiles=4)
    assert (await pixels(desk, outcome)).shape == (300, 400, 3)
    assert gemini.submits == len(desk.ledger.requests) == 4
    assert notes(outcome)["edits"] == 4
    assert notes(outcome)["model"] == "gemini-3-pro-image"
    assert all("knitted wool" in one for one in prompts(gemini))
    assert len(desk.ledger.of("tile/3/try/1")) == 1


async def test_what_is_not_alike_is_not_used(desk: Desk, gemini: Gemini) -> None:
    before = np.asarray(photo()).astype(int)
    outcome = await run(
        desk, await refining(desk, photo()), REFINER, num_tiles=2, ssim_threshold=0.9, max_retries=1, feather_px=0
    )
    assert (await pixels(desk, outcome) == before).all()
    assert (notes(outcome)["edits"], notes(outcome)["parts_unchanged"]) == (4, 2)
    assert all(one["ssim"] < 0.9 for one in notes(outcome)["parts"])


async def test_the_second_version_asks_for_4k_and_leaves_faces(desk: Desk, gemini: Gemini) -> None:
    await run(desk, await refining(desk, portrait()), REFINER, num_tiles=1)
    assert len(gemini.paid) == 2
    assert "face" in prompts(gemini)[1]
    gemini.arrivals.clear()
    await run(desk, await refining(desk, portrait()), REFINER, num_tiles=1, version="2")
    assert len(gemini.paid) == 1
    assert sizes(gemini) == {"4K"}


async def test_faces_are_shown_as_large_as_is_wanted(desk: Desk, gemini: Gemini) -> None:
    sides = []
    for share in (0.0, 1.0):
        gemini.arrivals.clear()
        await run(desk, await refining(desk, portrait()), REFINER, num_tiles=1, face_expand_percent=share)
        sides.append(images(gemini, 1)[0].width)
    assert sides[1] > 1.5 * sides[0]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (3, 3), (None, 4)])
async def test_workers_are_a_limit(desk: Desk, gemini: Gemini, workers: int | None, most: int) -> None:
    answers = asyncio.Event()
    gemini.faults.always("generate", held(answers))
    operation = await refining(desk, photo())
    running = asyncio.create_task(run(desk, operation, REFINER, num_tiles=4, max_workers=workers))
    await gemini.until(lambda: gemini.hanging == most)
    await asyncio.sleep(0.05)
    assert gemini.hanging == most
    running.cancel()
    # A run that is stopped waits for answers that are on their way.
    answers.set()
    await asyncio.wait([running])


@pytest.mark.parametrize(("provider", "field"), [(REFINER, "save_debug_tiles"), (FACES, "save_debug_images")])
async def test_images_to_look_at_are_stored_beside_the_result(
    desk: Desk, gemini: Gemini, provider: ProviderType, field: str
) -> None:
    outcome = await run(desk, await refining(desk, portrait()), provider, **{field: True})
    found = notes(outcome)["debug_images"]
    assert all(path.startswith("refines/") and "/debug/" in path for path in found.values())
    assert {(await desk.image(path)).mode for path in found.values()} == {"RGB"}
    assert len(outcome.artifacts) == 1
    assert "debug_images" not in notes(await run(desk, await refining(desk, portrait()), provider))


@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("field", ["lpips_threshold", "dists_threshold"])
async def test_missing_weights_are_told(desk: Desk, gemini: Gemini, provider: ProviderType, field: str) -> None:
    operation = await refining(desk, portrait((128, 128)))
    assert notes(await run(desk, operation, provider))["scores_missing"] is None
    assert "not found" in notes(await run(desk, operation, provider, **{field: 0.5}))["scores_missing"]


@pytest.mark.parametrize("provider", ALL)
async def test_each_try_is_paid_once_over_all_runs(desk: Desk, gemini: Gemini, provider: ProviderType) -> None:
    operation, task = await refining(desk, portrait()), uuid4()
    strict = {"ssim_threshold": 0.99, "max_retries": 1}
    first = await desk.do(operation, provider, strict, task_type="REFINE", task_id=task)
    submits = gemini.submits
    assert submits == notes(first)["edits"] >= 2
    again = await desk.do(operation, provider, strict, task_type="REFINE", task_id=task, fence=2)
    assert gemini.submits == submits
    assert notes(again)["parts"] == notes(first)["parts"]


@pytest.mark.parametrize("provider", ALL)
async def test_without_denoising_nothing_is_paid(desk: Desk, gemini: Gemini, provider: ProviderType) -> None:
    operation = await refining(desk, portrait((128, 128)), (256, 256), denoise=0.0, face_denoise=0.0)
    outcome = await run(desk, operation, provider)
    assert (await pixels(desk, outcome)).shape == (256, 256, 3)
    assert gemini.submits == 0


@pytest.mark.parametrize("provider", ALL)
async def test_content_that_is_refused_fails_the_task(desk: Desk, gemini: Gemini, provider: ProviderType) -> None:
    gemini.outcomes += [Ending(blocked="PROHIBITED_CONTENT")] * 8
    with pytest.raises(ProviderFailed, match="PROHIBITED_CONTENT") as raised:
        await run(desk, await refining(desk, portrait()), provider)
    assert raised.value.category is ErrorCategory.CONTENT_POLICY


async def test_only_the_face_changes(desk: Desk, gemini: Gemini) -> None:
    image = full_figure()
    given = EnhanceFaces(Picture(await desk.store(image), "input_image"), 0.6, seed=7, prompt="a calm look")
    outcome = await desk.do(given, FACES, ANY | {"feather_px": 0}, task_type="FACE_ENHANCER")
    changed = (await pixels(desk, outcome) != np.asarray(image).astype(int)).any(axis=-1)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert 0 < rows[-1] - rows[0] < image.height / 3
    assert 0 < columns[-1] - columns[0] < image.width / 2
    found = notes(outcome)
    assert (found["face_detected"], found["attempts_used"]) == (True, 1)
    assert isinstance(found["final_ssim_score"], float)
    assert "a calm look" in prompts(gemini)[0]
    assert "same person" in prompts(gemini)[0]
    assert "60" in prompts(gemini)[0]


async def test_a_feather_softens_the_edge_of_a_face(desk: Desk, gemini: Gemini) -> None:
    image, edges = full_figure(), []
    for feather in (0, 24):
        given = EnhanceFaces(Picture(await desk.store(image), "input_image"), 1.0, seed=7)
        outcome = await desk.do(given, FACES, ANY | {"feather_px": feather}, task_type="FACE_ENHANCER")
        change = np.abs(await pixels(desk, outcome) - np.asarray(image).astype(int)).sum(axis=-1)
        edges.append(change[np.flatnonzero(change.any(axis=1))[0]].max())
    assert edges[1] < edges[0] / 2


async def test_face_settings_reach_the_editor(desk: Desk, gemini: Gemini) -> None:
    image = Picture(await desk.store(portrait()), "input_image")
    free = EnhanceFaces(image, 1.0, seed=7, preserve_identity=False)
    await desk.do(free, FACES, ANY | {"face_prompt": "the woman in red"}, task_type="FACE_ENHANCER")
    await desk.do(free, FACES, ANY | {"expand_percent": 1.5}, task_type="FACE_ENHANCER")
    assert "the woman in red" in prompts(gemini)[0]
    assert "same person" not in prompts(gemini)[0]
    assert images(gemini, 1)[0].width > images(gemini, 0)[0].width


async def test_an_image_without_a_face_comes_back_and_costs_nothing(desk: Desk, gemini: Gemini) -> None:
    given = EnhanceFaces(Picture(await desk.store(photo()), "input_image"), 1.0, seed=7)
    outcome = await desk.do(given, FACES, task_type="FACE_ENHANCER")
    assert (await pixels(desk, outcome) == np.asarray(photo()).astype(int)).all()
    assert notes(outcome)["face_detected"] is False
    assert gemini.submits == 0


async def dressing(desk: Desk, image: Image.Image, prompt: str = "", **more: Any) -> Edit:
    reference = Picture(await desk.store(Image.new("RGB", (60, 80), "red")), "reference_images.0", "shirt")
    base = Picture(await desk.store(image), "base_image")
    return Edit(prompt, base, *image.size, seed=7, references=(reference,), **more)


async def test_the_garment_is_found_and_shown_with_its_reference(desk: Desk, gemini: Gemini) -> None:
    image = full_figure()
    operation = await dressing(desk, image)
    outcome = await desk.do(operation, GARMENTS, ANY | {"feather_px": 0}, task_type="EDITING")
    left, upper, right, lower = notes(outcome)["garment_box"]
    assert 0.1 * image.height < upper < lower < 0.65 * image.height
    changed = (await pixels(desk, outcome) != np.asarray(image).astype(int)).any(axis=-1)
    assert changed[upper:lower, left:right].mean() > 0.9
    changed[upper:lower, left:right] = False
    assert not changed.any()
    assert images(gemini)[1].size == (60, 80)


async def test_the_garments_box_grows_as_is_wanted(desk: Desk, gemini: Gemini) -> None:
    widths = []
    for share in (0.0, 0.4):
        operation = await dressing(desk, full_figure())
        outcome = await desk.do(operation, GARMENTS, ANY | {"bbox_expand_percent": share}, task_type="EDITING")
        left, _, right, _ = notes(outcome)["garment_box"]
        widths.append(right - left)
    assert widths[1] > 1.2 * widths[0]


async def test_a_long_garment_becomes_two_tiles(desk: Desk, gemini: Gemini) -> None:
    mask = Image.new("L", (400, 400))
    mask.paste(255, (150, 10, 220, 390))
    operation = await dressing(desk, photo(400, 400), mask=Picture(await desk.store(mask), "mask"))
    for threshold, calls in ((10.0, 1), (2.0, 2)):
        gemini.arrivals.clear()
        outcome = await desk.do(operation, GARMENTS, ANY | {"split_threshold": threshold}, task_type="EDITING")
        assert len(gemini.paid) == calls
        changed = (await pixels(desk, outcome) != np.asarray(photo(400, 400)).astype(int)).any(axis=-1)
        assert changed[:, 170:200].any()
        assert not changed[:, :150].any()
        assert not changed[:, 220:].any()


async def test_garments_have_images_to_look_at_a_feather_and_a_prompt(desk: Desk, gemini: Gemini) -> None:
    operation, edges = await dressing(desk, full_figure(), "Straighten the collar"), []
    for feather in (0, 24):
        config = {"save_debug_images": True, "feather_px": feather}
        outcome = await desk.do(operation, GARMENTS, ANY | config, task_type="EDITING")
        assert set(notes(outcome)["debug_images"]) == {"garment-0-original", "garment-0-try-1"}
        change = np.abs(await pixels(desk, outcome) - np.asarray(full_figure()).astype(int)).sum(axis=-1)
        edges.append(change[np.flatnonzero(change.any(axis=1))[0]].max())
    assert edges[1] < edges[0] / 2
    assert all("Straighten the collar" in one for one in prompts(gemini))


@pytest.mark.parametrize("provider", ALL)
def test_tasks_wait_where_their_editor_works(provider: ProviderType) -> None:
    found = all_providers()[provider]
    operation, config = Refine(Picture("a.png", "base_image_url"), 9, 9, 1.0, 1), found.config_model()
    assert found.queue_for(Settings()) == "sartiq"
    assert found.queue_for(Settings(image_editor="LOCAL")) == "inference"
    found.check(operation, config, Settings(image_editor="LOCAL"))
    with pytest.raises(InvalidInput, match=f"GEMINI_API_KEY to use {provider}"):
        found.check(operation, config, Settings())
    with pytest.raises(InvalidInput):
        found.check(RemoveBackground((Picture("a.png", "image"),)), config, Settings(image_editor="LOCAL"))


@pytest.mark.parametrize("provider", ALL)
def test_they_offer_what_they_do(provider: ProviderType) -> None:
    found = all_providers()[provider]
    assert isinstance(found, EditingProvider)
    offered = {name for name, kind in all_kinds().items() if found.capabilities(kind)}
    others = {REFINER: set(), FACES: {"FACE_ENHANCER"}, GARMENTS: {"EDITING"}}
    assert offered == {"REFINE"} | others[provider]


class ToldModel(Retoucher):
    """One that also takes instructions and references."""

    name = "told"


@pytest.mark.parametrize("role", ["draw", "edit"])
async def test_our_own_models_edit_without_paying(desk: Desk, role: Any) -> None:
    model = ToldModel()
    names = {"draw": "base", "edit": "told"} if role == "edit" else {"draw": "base"}
    worker = LocalWorkerContext(desk.settings, desk.objects, model, "inference#1", names=names)  # type: ignore[arg-type]
    spec = {
        "input_image_path": await desk.store(portrait()),
        "strength": 0.5,
        "seed": 7,
        "prompt": None,
        "preserve_identity": True,
    }
    job = Job(uuid4(), "FACE_ENHANCER", 1, spec | {"provider_config": {"ssim_threshold": 0.1}})
    artifacts, done = [], None
    async with aclosing(all_providers()[FACES].run(job, worker)) as events:
        async for event in events:
            artifacts += [event] if isinstance(event, Artifact) else []
            done = event if isinstance(event, Done) else done
    assert done is not None
    assert done.metadata["model"] == names[role]
    assert done.metadata["parts"][0]["accepted"]
    [request] = model.requests
    assert (request.role, request.strength) == (role, 1.0 if role == "edit" else 0.5)
    assert request.width % 16 == request.height % 16 == 0
    after = np.asarray((await desk.image(artifacts[0].path)).convert("RGB"))
    assert (after != np.asarray(portrait())).any()
    assert desk.ledger.requests == []
