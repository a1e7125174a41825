"""NANO_BANANA_UPSCALER makes one image, and another while it is not alike."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from compute.errors import InvalidInput, ProviderFailed
from compute.providers.types.nano_banana_upscaler import NanoBananaUpscaler, NanoBananaUpscalerConfig
from compute.schemas.enums import ErrorCategory, ProviderType
from compute.settings import Settings
from compute.tasks.operations import Picture, Refine
from tests.providers.editing.benches import photo
from tests.providers.harness import Desk, Outcome, open_desk
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.gemini import Outcome as Ending

UPSCALER = ProviderType.NANO_BANANA_UPSCALER


@pytest.fixture
async def desk(gemini: Gemini, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path, gemini_api_key=gemini.key, gemini_base_url=gemini.url()) as desk:
        yield desk


async def upscale(desk: Desk, size: tuple[int, int] = (256, 192), **config: Any) -> Outcome:
    image = Picture(await desk.store(photo(128, 96)), "base_image_url")
    operation = Refine(image, *size, factor=2.0, seed=7, prompt="knitted wool")
    return await desk.do(operation, UPSCALER, config, task_type="REFINE")


async def test_the_image_gets_the_tasks_size(desk: Desk, gemini: Gemini) -> None:
    outcome = await upscale(desk, ssim_threshold=0)
    [artifact] = outcome.artifacts
    assert (await desk.image(artifact.path)).size == (256, 192)
    assert outcome.metadata is not None
    assert outcome.metadata["model"] == "gemini-3-pro-image"
    assert outcome.metadata["parts"][0]["accepted"]
    assert isinstance(outcome.metadata["parts"][0]["ssim"], float)
    assert gemini.paid[0].json["generationConfig"]["imageConfig"] == {"aspectRatio": "4:3", "imageSize": "2K"}


async def test_large_images_are_made_at_4k(desk: Desk, gemini: Gemini) -> None:
    await upscale(desk, (2400, 1800), ssim_threshold=0)
    assert gemini.paid[0].json["generationConfig"]["imageConfig"]["imageSize"] == "4K"


async def test_a_prompt_replaces_the_usual_one(desk: Desk, gemini: Gemini) -> None:
    await upscale(desk, ssim_threshold=0)
    await upscale(desk, ssim_threshold=0, default_prompt="Enlarge it.")
    usual, own = [one.json["contents"][0]["parts"][0]["text"] for one in gemini.paid]
    assert usual.startswith("Make this photograph sharp")
    assert own.startswith("Enlarge it.")
    assert all("knitted wool" in one for one in (usual, own))


async def test_images_that_are_not_alike_are_no_result(desk: Desk, gemini: Gemini) -> None:
    with pytest.raises(ProviderFailed, match=r"None of 3 images .* ssim_threshold is 0.9") as raised:
        await upscale(desk, ssim_threshold=0.9, max_retries=2)
    assert (raised.value.category, raised.value.hopeless) == (ErrorCategory.PROVIDER_ERROR, True)
    assert len({one.json["generationConfig"]["seed"] for one in gemini.paid}) == 3
    assert gemini.submits == 3


async def test_a_later_run_judges_what_is_paid_already(desk: Desk, gemini: Gemini) -> None:
    task, image = uuid4(), Picture(await desk.store(photo(128, 96)), "base_image_url")
    operation = Refine(image, 256, 192, 2.0, seed=7)
    for fence in (1, 2):
        with pytest.raises(ProviderFailed):
            await desk.do(operation, UPSCALER, {"max_retries": 1}, task_type="REFINE", task_id=task, fence=fence)
    assert gemini.submits == 2


async def test_refused_content_is_not_tried_again(desk: Desk, gemini: Gemini) -> None:
    gemini.outcomes.append(Ending(finish="IMAGE_SAFETY"))
    with pytest.raises(ProviderFailed, match="IMAGE_SAFETY") as raised:
        await upscale(desk)
    assert raised.value.category is ErrorCategory.CONTENT_POLICY
    assert gemini.submits == 1


async def test_transparency_is_enlarged_with_the_image(desk: Desk, gemini: Gemini) -> None:
    cut = photo(128, 96).convert("RGBA")
    cut.paste((0, 0, 0, 0), (0, 0, 64, 96))
    operation = Refine(Picture(await desk.store(cut), "base_image_url"), 256, 192, 2.0, seed=7)
    outcome = await desk.do(operation, UPSCALER, {"ssim_threshold": 0}, task_type="REFINE")
    made = await desk.image(outcome.artifacts[0].path)
    assert made.mode == "RGBA"
    assert made.getchannel("A").getextrema() == (0, 255)


async def test_without_denoising_the_image_is_only_enlarged(desk: Desk, gemini: Gemini) -> None:
    operation = Refine(Picture(await desk.store(photo(128, 96)), "base_image_url"), 256, 192, 2.0, seed=7, denoise=0.0)
    outcome = await desk.do(operation, UPSCALER, task_type="REFINE")
    assert (await desk.image(outcome.artifacts[0].path)).size == (256, 192)
    assert gemini.submits == 0


def test_it_does_refinements_only() -> None:
    config, settings = NanoBananaUpscalerConfig(), Settings(gemini_api_key="key")
    image = Picture("a.png", "base_image_url")
    with pytest.raises(InvalidInput, match="at most 4 times"):
        NanoBananaUpscaler().check(Refine(image, 800, 800, 8.0, seed=1), config, settings)
    with pytest.raises(InvalidInput):
        NanoBananaUpscaler().check(None, config, settings)
    with pytest.raises(InvalidInput, match="GEMINI_API_KEY"):
        NanoBananaUpscaler().check(None, config, Settings())
