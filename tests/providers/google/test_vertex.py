"""VERTEX draws and edits over the stand-in of Google's API."""

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.calls.call import CallState
from compute.providers.calls.record import CallPolicy
from compute.providers.types.vertex import Vertex, VertexConfig
from compute.schemas.enums import ErrorCategory, ProviderCapability, ProviderType
from compute.settings import Settings
from compute.tasks.operations import Draw, Edit, Picture, RemoveBackground
from compute.tasks.registry import all_kinds
from tests.providers.harness import Desk, Outcome, open_desk
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import (
    from_nginx,
    hang_before_headers,
    hang_mid_body,
    html,
    huge_picture,
    refused,
    reset_after_body,
    reset_before_body,
    reset_mid_body,
    truncated_base64,
    truncated_picture,
)
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.gemini import Outcome as Ending
from tests.providers.standins.server import Fault

DRAW = Draw("a red coat", 160, 96, seed=7)


@pytest.fixture
async def desk(gemini: Gemini, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path, gemini_api_key=gemini.key, gemini_base_url=gemini.url()) as desk:
        yield desk


async def draw(desk: Desk, operation: Draw | Edit = DRAW, **config: Any) -> Outcome:
    return await desk.do(operation, ProviderType.VERTEX, config)


def config_of(gemini: Gemini, call: int = 0) -> dict[str, Any]:
    return dict(gemini.paid[call].json["generationConfig"])


def prompt_of(gemini: Gemini, call: int = 0) -> str:
    return str(gemini.paid[call].json["contents"][0]["parts"][0]["text"])


def images_of(gemini: Gemini, call: int = 0) -> list[Image.Image]:
    parts = gemini.paid[call].json["contents"][0]["parts"]
    sent = [base64.urlsafe_b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part]
    return [Image.open(io.BytesIO(one)) for one in sent]


async def test_a_drawing_has_the_tasks_size_and_its_model(desk: Desk, gemini: Gemini) -> None:
    outcome = await draw(desk)
    [artifact] = outcome.artifacts
    assert (artifact.width, artifact.height, artifact.seed) == (160, 96, 7)
    assert (await desk.image(artifact.path)).size == (160, 96)
    assert outcome.metadata is not None
    assert outcome.metadata["model"] == "gemini-3-pro-image"
    assert outcome.metadata["provider_request_id"]
    [call] = desk.ledger.of("image/0")
    assert call.units["images"] == 1
    assert len(desk.ledger.requests) == 1


async def test_each_image_is_a_call_with_its_own_seed(desk: Desk, gemini: Gemini) -> None:
    outcome = await draw(desk, Draw("a red coat", 96, 96, seed=7, count=3))
    assert [one.seed for one in outcome.artifacts] == [7, 8, 9]
    assert sorted(one.json["generationConfig"]["seed"] for one in gemini.paid) == [7, 8, 9]


async def test_the_configuration_reaches_the_model(desk: Desk, gemini: Gemini) -> None:
    await draw(
        desk,
        aspect_ratio="4:5",
        image_size="2K",
        model="gemini-3.1-flash-image",
        system_instructions="Paint in oil.",
        temperature=0.4,
        top_p=0.5,
    )
    config = config_of(gemini)
    assert config["imageConfig"] == {"aspectRatio": "4:5", "imageSize": "2K"}
    assert (config["temperature"], config["topP"], config["seed"]) == (0.4, 0.5, 7)
    assert gemini.paid[0].parts["model"] == "gemini-3.1-flash-image"
    assert gemini.paid[0].json["systemInstruction"]["parts"] == [{"text": "Paint in oil."}]


async def test_the_first_models_are_not_told_the_one_size_that_they_have(desk: Desk, gemini: Gemini) -> None:
    await draw(desk, model="gemini-2.5-flash-image")
    assert config_of(gemini)["imageConfig"] == {"aspectRatio": "16:9"}


async def test_defaults_suit_the_task(desk: Desk, gemini: Gemini) -> None:
    await draw(desk)
    config = config_of(gemini)
    assert config["imageConfig"] == {"aspectRatio": "16:9", "imageSize": "1K"}
    assert (config["temperature"], config["topP"]) == (1.0, 0.95)
    assert "fashion" in gemini.paid[0].json["systemInstruction"]["parts"][0]["text"]


@pytest.mark.parametrize(
    "wrong",
    [{"aspect_ratio": "7:5"}, {"image_size": "8K"}, {"temperature": 2.1}, {"top_p": -0.1}, {"model": "a/../b"}],
    ids=str,
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VertexConfig.model_validate(wrong)


async def test_what_to_avoid_and_where_to_start_are_in_the_prompt(desk: Desk, gemini: Gemini) -> None:
    start = Picture(await desk.store(Image.new("RGB", (64, 64), "red")), "reference_image_url")
    await draw(desk, Draw("a coat", 96, 96, 7, negative_prompt="hats", image=start, strength=0.3))
    assert all(words in prompt_of(gemini) for words in ("a coat", "Avoid: hats", "about 30%"))
    assert [one.size for one in images_of(gemini)] == [(64, 64)]


async def test_an_edit_sends_the_image_its_references_and_the_mask(desk: Desk, gemini: Gemini) -> None:
    base = Image.new("RGB", (120, 80), "navy")
    mask = Image.new("L", (120, 80))
    mask.paste(255, (60, 0, 120, 80))
    edit = Edit(
        "Put on the coat",
        Picture(await desk.store(base), "base_image"),
        60,
        40,
        seed=7,
        references=(Picture(await desk.store(Image.new("RGB", (50, 70))), "reference_images.0", "garment"),),
        mask=Picture(await desk.store(mask), "mask"),
        strength=0.5,
    )
    outcome = await draw(desk, edit)
    assert [one.size for one in images_of(gemini)] == [(120, 80), (50, 70), (120, 80)]
    assert all(words in prompt_of(gemini) for words in ("Put on the coat", "mask", "about 50%"))
    result = np.asarray(await desk.image(outcome.artifacts[0].path))
    assert result.shape == (40, 60, 3)
    assert (result[:, :30] == (0, 0, 128)).all()
    assert not (result[:, 40:] == (0, 0, 128)).all()


async def test_a_later_run_takes_what_an_earlier_one_has_paid(desk: Desk, gemini: Gemini) -> None:
    task = uuid4()
    gemini.outcomes += [Ending(finish="NO_IMAGE")]
    twice = Draw("a red coat", 96, 96, seed=7, count=2)
    with pytest.raises(ProviderFailed, match="NO_IMAGE") as raised:
        await desk.do(twice, ProviderType.VERTEX, task_id=task)
    assert (raised.value.category, raised.value.charged) == (ErrorCategory.PROVIDER_ERROR, True)
    outcome = await desk.do(twice, ProviderType.VERTEX, task_id=task, fence=2)
    assert (len(gemini.paid), len(outcome.artifacts)) == (3, 2)
    seeds = [one.json["generationConfig"]["seed"] for one in gemini.paid]
    assert len(set(seeds)) == 3
    assert {one.seed for one in outcome.artifacts} <= set(seeds)


async def test_a_refusal_of_the_content_is_told(desk: Desk, gemini: Gemini) -> None:
    gemini.outcomes.append(Ending(blocked="PROHIBITED_CONTENT"))
    with pytest.raises(ProviderFailed, match="PROHIBITED_CONTENT") as raised:
        await draw(desk)
    assert raised.value.category is ErrorCategory.CONTENT_POLICY


async def test_a_lost_answer_is_never_asked_for_again(desk: Desk, gemini: Gemini) -> None:
    gemini.faults.on("generate", reset_after_body())
    task = uuid4()
    for fence in (1, 2):
        with pytest.raises(CallUncertain):
            await desk.do(DRAW, ProviderType.VERTEX, task_id=task, fence=fence)
    assert gemini.submits == 1


UNKNOWN = [reset_before_body(), reset_mid_body(), html(), html(500), from_nginx(), truncated_base64(), huge_picture()]


@pytest.mark.parametrize("fault", UNKNOWN, ids=str)
async def test_what_has_no_usable_answer_waits_for_news_and_is_not_sent_again(
    desk: Desk, gemini: Gemini, fault: Fault
) -> None:
    gemini.faults.on("generate", fault)
    task = uuid4()
    for fence in (1, 2):
        with pytest.raises(CallUncertain) as raised:
            await desk.do(DRAW, ProviderType.VERTEX, task_id=task, fence=fence)
        assert not raised.value.charged
    assert len(gemini.arrived("generate")) == 1
    assert [call.state for call in desk.ledger.of("image/0")] == [CallState.UNCERTAIN]


@pytest.mark.parametrize("fault", [hang_before_headers(), hang_mid_body()], ids=str)
async def test_a_hanging_service_is_left_when_the_operator_says(gemini: Gemini, tmp_path: Path, fault: Fault) -> None:
    gemini.faults.on("generate", fault)
    settings = {"gemini_api_key": gemini.key, "gemini_base_url": gemini.url(), "provider_wait_seconds": 0.3}
    async with open_desk(tmp_path, **settings) as desk:
        with pytest.raises(CallUncertain, match="in time"):
            await draw(desk)
    assert gemini.submits == 1


SAID_NO = [
    (truncated_picture(), ErrorCategory.PROVIDER_ERROR),
    (refused(Trouble.OVERLOADED), ErrorCategory.PROVIDER_ERROR),
    (refused(Trouble.BAD_REQUEST), ErrorCategory.INVALID_INPUT),
    (refused(Trouble.POLICY), ErrorCategory.CONTENT_POLICY),
    (refused(Trouble.TIMED_OUT), ErrorCategory.PROVIDER_TIMEOUT),
]


@pytest.mark.parametrize(("fault", "category"), SAID_NO, ids=str)
async def test_after_a_refusal_a_later_run_asks_again(
    desk: Desk, gemini: Gemini, fault: Fault, category: ErrorCategory
) -> None:
    gemini.faults.on("generate", fault, call=1)
    task = uuid4()
    with pytest.raises(ProviderFailed) as raised:
        await desk.do(DRAW, ProviderType.VERTEX, task_id=task)
    assert (raised.value.category, type(raised.value)) == (category, ProviderFailed)
    assert gemini.key not in raised.value.detail
    outcome = await desk.do(DRAW, ProviderType.VERTEX, task_id=task, fence=2)
    assert len(outcome.artifacts) == 1


async def test_without_a_connection_a_later_run_asks_again(
    gemini: Gemini, tmp_path: Path, unused_tcp_port: int
) -> None:
    async with open_desk(
        tmp_path, gemini_api_key=gemini.key, gemini_base_url=f"http://127.0.0.1:{unused_tcp_port}"
    ) as desk:
        task = uuid4()
        with pytest.raises(ProviderFailed, match="could not be reached"):
            await desk.do(DRAW, ProviderType.VERTEX, task_id=task)
        desk.settings = desk.settings.model_copy(update={"gemini_base_url": gemini.url()})
        assert (await desk.do(DRAW, ProviderType.VERTEX, task_id=task, fence=2)).artifacts


def test_only_drawing_and_editing_are_offered() -> None:
    settings, config = Settings(gemini_api_key="key"), VertexConfig()
    Vertex().check(DRAW, config, settings)
    for operation in (None, RemoveBackground((Picture("a.png", "image"),))):
        with pytest.raises(InvalidInput):
            Vertex().check(operation, config, settings)
    with pytest.raises(InvalidInput, match="GEMINI_API_KEY"):
        Vertex().check(DRAW, config, Settings())
    with pytest.raises(InvalidInput, match="LoRA"):
        Vertex().check(Draw("a coat", 96, 96, 7, loras=("character_lora",)), config, settings)
    offered = {name for name, kind in all_kinds().items() if Vertex().capabilities(kind)}
    assert offered == {"GENERATION", "EDITING"}
    assert ProviderCapability.INPAINT in Vertex().capabilities(all_kinds()["EDITING"])


async def test_an_answer_that_is_late_leaves_in_doubt_what_was_paid(gemini: Gemini, tmp_path: Path) -> None:
    gemini.faults.on("generate", hang_before_headers())
    settings = {"gemini_api_key": gemini.key, "gemini_base_url": gemini.url()}
    async with open_desk(tmp_path, CallPolicy(answer=0.3), **settings) as desk:
        with pytest.raises(CallUncertain, match="no answer in time"):
            await draw(desk)
    assert gemini.submits == 1
