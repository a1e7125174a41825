"""Each vendor's editor: what it is asked for, and that an edit lies exactly where the image was."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from compute.errors import CallUncertain, InvalidInput
from compute.providers.editing.editor import EditRequest
from compute.providers.editing.editors.frame import Frame, told
from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderType
from compute.settings import Settings
from compute.tasks.operations import Edit, Picture, Refine
from tests.providers.editing.benches import photo
from tests.providers.harness import Desk, open_desk
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.faults import reset_after_body
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.images import from_base64, size_of
from tests.providers.standins.server import StandIn

REFINER = ProviderType.SARTIQ_ULTIMATE_REFINER
GARMENTS = ProviderType.SARTIQ_ULTIMATE_GARMENT_FIXER
ANY = {"ssim_threshold": 0}


@asynccontextmanager
async def desk_with(editor: str, tmp_path: Path) -> AsyncIterator[tuple[Desk, StandIn]]:
    """A desk whose image editor is a vendor's stand-in."""
    made: dict[str, type[StandIn]] = {"VERTEX": Gemini, "FAL_STANDARD": Fal, "FASHN_STANDARD": Fashn}
    async with made[editor]() as stand_in:
        settings: dict[str, Any] = {
            "VERTEX": lambda: {"gemini_api_key": stand_in.key, "gemini_base_url": stand_in.url()},
            "FAL_STANDARD": lambda: {"fal_key": stand_in.key, "fal_queue_url": stand_in.url("queue")},
            "FASHN_STANDARD": lambda: {"fashn_api_key": stand_in.key, "fashn_base_url": f"{stand_in.url()}/v1"},
        }[editor]()
        async with open_desk(tmp_path, image_editor=editor, **settings) as desk:
            yield desk, stand_in


EDITORS = {"VERTEX": "gemini-3-pro-image", "FAL_STANDARD": "fal-ai/nano-banana-pro/edit", "FASHN_STANDARD": "edit"}


async def refining(desk: Desk, image: Image.Image) -> Refine:
    return Refine(Picture(await desk.store(image), "base_image_url"), *image.size, 1.0, seed=7, denoise=0.4)


@pytest.mark.parametrize("editor", EDITORS)
async def test_every_editor_refines(editor: str, tmp_path: Path) -> None:
    async with desk_with(editor, tmp_path) as (desk, stand_in):
        operation, task = await refining(desk, photo()), uuid4()
        config = ANY | {"num_tiles": 2, "version": "2"}
        for fence in (1, 2):
            outcome = await desk.do(operation, REFINER, config, task_type="REFINE", task_id=task, fence=fence)
            assert outcome.metadata is not None
            assert outcome.metadata["model"] == EDITORS[editor]
            assert (await desk.image(outcome.artifacts[0].path)).size == photo().size
        assert stand_in.submits == 2


@pytest.mark.parametrize("editor", EDITORS)
async def test_a_lost_answer_is_not_asked_for_again(editor: str, tmp_path: Path) -> None:
    route = {"VERTEX": "generate", "FAL_STANDARD": "submit", "FASHN_STANDARD": "run"}[editor]
    async with desk_with(editor, tmp_path) as (desk, stand_in):
        stand_in.faults.on(route, reset_after_body(), call=1)
        operation, task = await refining(desk, photo()), uuid4()
        config = ANY | {"num_tiles": 2, "version": "2", "max_workers": 1}
        for fence in (1, 2):
            with pytest.raises(CallUncertain):
                await desk.do(operation, REFINER, config, task_type="REFINE", task_id=task, fence=fence)
        assert stand_in.submits == 2


async def test_fal_gets_images_a_seed_and_a_resolution(tmp_path: Path) -> None:
    async with desk_with("FAL_STANDARD", tmp_path) as (desk, stand_in):
        await desk.do(
            await refining(desk, photo()), REFINER, ANY | {"num_tiles": 1, "version": "2"}, task_type="REFINE"
        )
        [paid] = stand_in.paid
        assert (paid.json["resolution"], paid.json["seed"], paid.json["num_images"]) == ("4K", 7, 1)
        assert [size_of(from_base64(one)) for one in paid.json["image_urls"]] == [photo().size]
        assert "40." in paid.json["prompt"]


async def test_fashn_puts_a_reference_on(tmp_path: Path) -> None:
    async with desk_with("FASHN_STANDARD", tmp_path) as (desk, stand_in):
        reference = Picture(await desk.store(Image.new("RGB", (60, 80), "red")), "reference_images.0", "garment")
        base = Picture(await desk.store(photo()), "base_image")
        outcome = await desk.do(
            Edit("", base, *photo().size, seed=7, references=(reference,)), GARMENTS, ANY, task_type="EDITING"
        )
        [paid] = stand_in.paid
        assert paid.json["model_name"] == "tryon-max"
        assert size_of(from_base64(paid.json["inputs"]["product_image"])) == (60, 80)
        assert outcome.metadata is not None
        assert outcome.metadata["model"] == "tryon-max"


MISSING = [("FAL_STANDARD", "FAL_KEY"), ("FASHN_STANDARD", "FASHN_API_KEY"), ("VERTEX", "GEMINI_API_KEY")]


@pytest.mark.parametrize(("editor", "named"), [*MISSING, ("NONE", "COMPUTE_IMAGE_EDITOR")])
def test_what_the_editor_misses_is_named(editor: str, named: str) -> None:
    provider = all_providers()[REFINER]
    operation = Refine(Picture("a.png", "base_image_url"), 9, 9, 1.0, 1)
    with pytest.raises(InvalidInput, match=named):
        provider.check(operation, provider.config_model(), Settings(image_editor=editor))


def test_more_references_than_the_editor_looks_at_are_refused() -> None:
    provider, settings = all_providers()[GARMENTS], Settings(image_editor="FASHN_STANDARD", fashn_api_key="key")
    references = tuple(Picture("a.png", f"reference_images.{index}") for index in range(2))
    operation = Edit("", Picture("a.png", "base_image"), 9, 9, 1, references=references)
    with pytest.raises(InvalidInput, match="1 references at most") as raised:
        provider.check(operation, provider.config_model(), settings)
    assert raised.value.field == "reference_images.1"


@pytest.mark.parametrize("size", [(384, 256), (300, 301), (77, 600), (1000, 90), (5, 7)])
def test_an_image_comes_out_of_its_frame_as_it_went_in(size: tuple[int, int]) -> None:
    frame = Frame.around(size)
    width, height = map(int, frame.ratio.split(":"))
    image = photo(*size)
    framed = frame.filled(image)
    assert abs(framed.width / framed.height - width / height) < 0.25 * width / height / min(size) ** 0.5
    assert (np.asarray(frame.emptied(framed)) == np.asarray(image)).all()
    twice = frame.emptied(framed.resize((framed.width * 2, framed.height * 2)))
    assert twice.size == (image.width * 2, image.height * 2)


def test_how_far_to_go_is_told() -> None:
    image = photo(32, 32)
    assert told(EditRequest("a", "Sharpen it.", image)) == "Sharpen it."
    assert told(EditRequest("a", "Sharpen it.", image, strength=1.0)) == "Sharpen it."
    assert "30." in told(EditRequest("a", "Sharpen it.", image, strength=0.3))
