"""Tasks of every type run at these providers from the specs that the API makes of requests."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from compute.deployments.context import LocalWorkerContext
from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderType, TaskType
from compute.tasks.registry import kind_of
from compute.worker.protocol import Artifact, Done, Job, Progress, Started
from tests.pictures import full_figure, portrait
from tests.providers.harness import Desk, open_desk
from tests.providers.standins.gemini import Gemini
from tests.unit.tasks.types.retoucher import Retoucher
from tests.unit.tasks.types.worker import StoredInputs

P = ProviderType
FACE = portrait((256, 256))


@pytest.fixture
async def desk(gemini: Gemini, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path, gemini_api_key=gemini.key, gemini_base_url=gemini.url()) as desk:
        yield desk


async def spec_of(desk: Desk, task_type: TaskType, request: dict[str, Any], **images: Image.Image) -> dict[str, Any]:
    """What the API makes of a request that names stored images by its fields."""
    named = {field: await desk.store(image) for field, image in images.items()}
    sizes = {named[field]: image.size for field, image in images.items()}
    kind = kind_of(task_type)
    checked = kind.create_model.model_validate({"origin_instance": "tests"} | request | named)
    return await kind.prepare(checked, StoredInputs(desk.objects, sizes, frozenset({"draw", "edit"})))


UPSCALE = {"upscale_factor": 1.5, "upscale_seed": 3}
RUNS = [
    (P.VERTEX, TaskType.GENERATION, {"prompt": "a red coat", "width": 128, "height": 96, "seed": 3}, {}, 1),
    (P.VERTEX, TaskType.EDITING, {"prompt": "make it red", "seed": 3}, {"base_image": FACE}, 1),
    (P.NANO_BANANA_UPSCALER, TaskType.REFINE, UPSCALE, {"base_image_url": FACE}, 1),
    (P.SARTIQ_ULTIMATE_REFINER, TaskType.REFINE, UPSCALE, {"base_image_url": FACE}, 5),
    (P.SARTIQ_ULTIMATE_FACE_FIXER, TaskType.FACE_ENHANCER, {"seed": 3}, {"input_image": FACE}, 1),
    (P.SARTIQ_ULTIMATE_FACE_FIXER, TaskType.REFINE, UPSCALE, {"base_image_url": FACE}, 1),
    (P.SARTIQ_ULTIMATE_GARMENT_FIXER, TaskType.EDITING, {"prompt": "the shirt"}, {"base_image": full_figure()}, 1),
    (P.SARTIQ_ULTIMATE_GARMENT_FIXER, TaskType.REFINE, UPSCALE, {"base_image_url": full_figure()}, None),
]


@pytest.mark.parametrize(("provider", "task_type", "request_", "images", "paid"), RUNS)
async def test_a_request_is_done(
    desk: Desk,
    gemini: Gemini,
    provider: ProviderType,
    task_type: TaskType,
    request_: dict[str, Any],
    images: dict[str, Image.Image],
    paid: int | None,
) -> None:
    spec = await spec_of(desk, task_type, request_, **images)
    config = {} if provider is P.VERTEX else {"ssim_threshold": 0}
    outcome = await desk.run(task_type, spec | {"provider_config": config}, provider)
    [artifact] = outcome.artifacts
    wanted = (spec["width"], spec["height"]) if "width" in spec else FACE.size
    assert (await desk.image(artifact.path)).size == wanted
    assert paid is None or gemini.submits == paid
    assert any(isinstance(event, Started) for event in outcome.events)
    fractions = [event.fraction for event in outcome.events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)


async def test_our_own_models_refine_on_a_worker_of_the_queue(desk: Desk) -> None:
    spec = await spec_of(desk, TaskType.REFINE, UPSCALE, base_image_url=FACE)
    worker = LocalWorkerContext(desk.settings, desk.objects, Retoucher(), "inference#1")  # type: ignore[arg-type]
    job = Job(uuid4(), TaskType.REFINE, 1, spec | {"provider_config": {"ssim_threshold": 0.1, "num_tiles": 2}})
    running = all_providers()[P.SARTIQ_ULTIMATE_REFINER].run(job, worker)
    async with aclosing(running):
        events = [event async for event in running]
    [artifact] = [event for event in events if isinstance(event, Artifact)]
    assert (artifact.width, artifact.height) == (384, 384)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.metadata["model"] == "retoucher"
    assert [part["accepted"] for part in done.metadata["parts"]] == [True] * 3
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert {0.4, 0.8, 1.0} <= set(fractions)
