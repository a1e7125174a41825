"""FASHN_STANDARD at the stand-in of FASHN: what it sends, what it makes of the answers, what each setting changes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from compute.errors import InvalidInput, ProviderFailed
from compute.providers.registry import all_providers
from compute.schemas.enums import ErrorCategory, ProviderType
from compute.tasks.registry import kind_of
from tests.providers.harness import Desk, open_desk
from tests.providers.queued.specs import stored
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.images import from_base64, size_of
from tests.providers.standins.jobs import Plan

FASHN = ProviderType.FASHN_STANDARD


@pytest.fixture
async def desk(fashn: Fashn, tmp_path: Path) -> AsyncIterator[Desk]:
    fashn.plan = Plan(("completed",))
    async with open_desk(tmp_path, fashn_api_key=fashn.key, fashn_base_url=fashn.url() + "/v1") as desk:
        yield desk


def sent(fashn: Fashn) -> tuple[str, dict[str, Any]]:
    body = fashn.arrived("run")[-1].json
    return body["model_name"], body["inputs"]


async def test_an_edit_without_reference_is_done_by_the_edit_model(fashn: Fashn, desk: Desk) -> None:
    made = await desk.run("EDITING", await stored(desk, "EDITING"), FASHN)
    model, inputs = sent(fashn)
    assert model == "edit"
    assert (inputs["prompt"], inputs["seed"], inputs["output_format"]) == ("make it red", 7, "png")
    assert [(one.width, one.height, one.seed) for one in made.artifacts] == [(96, 64, 7)]
    assert made.metadata is not None
    assert (made.metadata["model"], made.metadata["fashn_task_id"]) == ("edit", fashn.made[0].id)
    assert desk.ledger.of("image")[0].units.items() >= {"calls": 1.0, "images": 1.0, "credits": 1.0}.items()


async def test_an_edit_with_a_garment_is_a_try_on(fashn: Fashn, desk: Desk) -> None:
    await desk.run("EDITING", await stored(desk, "EDITING", reference_images=1, garment=True), FASHN)
    model, inputs = sent(fashn)
    assert model == "tryon-max"
    assert len(fashn.made[0].images) == 2
    assert {"model_image", "product_image", "prompt"} <= inputs.keys()


async def test_the_first_generation_of_try_ons_calls_it_garment(fashn: Fashn, tmp_path: Path) -> None:
    fashn.plan = Plan(("completed",))
    settings = {"fashn_base_url": fashn.url() + "/v1", "fashn_try_on_model": "tryon-v1.6"}
    async with open_desk(tmp_path, fashn_api_key=fashn.key, **settings) as desk:
        await desk.run("EDITING", await stored(desk, "EDITING", reference_images=1), FASHN)
    model, inputs = sent(fashn)
    assert model == "tryon-v1.6"
    assert "garment_image" in inputs
    assert "prompt" not in inputs


@pytest.mark.parametrize(("output_format", "content_type"), [("png", "image/png"), ("webp", "image/webp")])
async def test_backgrounds_are_removed_in_the_format_that_was_asked_for(
    fashn: Fashn, desk: Desk, output_format: str, content_type: str
) -> None:
    spec = await stored(desk, "BACKGROUND_REMOVAL", images=2, output_format=output_format)
    made = await desk.run("BACKGROUND_REMOVAL", spec, FASHN)
    assert sent(fashn)[0] == "background-remove"
    assert [one.content_type for one in made.artifacts] == [content_type] * 2


@pytest.mark.parametrize(("limit", "size"), [(2000, (96, 64)), (64, (96, 64)), (None, (96, 64))])
async def test_a_higher_image_is_scaled_down_before_it_is_sent(
    fashn: Fashn, desk: Desk, limit: int | None, size: tuple[int, int]
) -> None:
    config = {"provider_config": {} if limit is None else {"max_image_height": limit}}
    await desk.run("EDITING", await stored(desk, "EDITING", size=size) | config, FASHN)
    assert size_of(from_base64(sent(fashn)[1]["image"])) == size
    tall = await stored(desk, "EDITING", size=(90, 3000 if limit is None else limit * 2))
    await desk.run("EDITING", tall | config, FASHN)
    assert size_of(from_base64(sent(fashn)[1]["image"]))[1] == (limit or 2000)


async def test_a_prediction_that_the_caller_names_is_followed_and_nothing_is_paid(fashn: Fashn, desk: Desk) -> None:
    first = await desk.run("EDITING", await stored(desk, "EDITING"), FASHN)
    config = {"provider_config": {"fashn_task_id": fashn.made[0].id}}
    again = await desk.run("EDITING", await stored(desk, "EDITING") | config, FASHN)
    assert fashn.submits == 1
    assert again.artifacts[0].sha256 == first.artifacts[0].sha256


async def test_a_prediction_may_take_as_long_as_the_request_says(fashn: Fashn, desk: Desk) -> None:
    fashn.plan = Plan(("in_queue", "processing", "completed"), held=True)
    config = {"provider_config": {"max_wait_seconds": 1}}
    with pytest.raises(ProviderFailed, match="not done within 1 s") as caught:
        await desk.run("EDITING", await stored(desk, "EDITING") | config, FASHN)
    assert caught.value.category is ErrorCategory.PROVIDER_TIMEOUT


async def test_looks_are_as_far_apart_as_the_request_says(fashn: Fashn, desk: Desk) -> None:
    fashn.plan = Plan(("in_queue", "completed"), seconds=1.0)
    config = {"provider_config": {"poll_interval": 1}}
    await desk.run("EDITING", await stored(desk, "EDITING") | config, FASHN)
    assert len(fashn.arrived("status")) <= 3


@pytest.mark.parametrize(
    ("word", "category"),
    [("canceled", ErrorCategory.PROVIDER_ERROR), ("time_out", ErrorCategory.PROVIDER_TIMEOUT)],
)
async def test_a_prediction_that_ended_without_result_failed(
    fashn: Fashn, desk: Desk, word: str, category: ErrorCategory
) -> None:
    fashn.plan = Plan(("starting", word))
    with pytest.raises(ProviderFailed, match=word) as caught:
        await desk.run("EDITING", await stored(desk, "EDITING"), FASHN)
    assert caught.value.category is category


REFUSED = [
    ("EDITING", {"mask": True}, {}, "mask"),
    ("EDITING", {"reference_images": 2}, {}, "reference_images.1"),
    ("GENERATION", {}, {}, "provider_type"),
    ("BACKGROUND_REMOVAL", {"images": 2}, {"fashn_task_id": "abc"}, "provider_config.fashn_task_id"),
]


@pytest.mark.parametrize(("task_type", "fields", "config", "field"), REFUSED)
async def test_what_fashn_does_not_offer_is_refused_at_its_field(
    desk: Desk, task_type: str, fields: dict[str, Any], config: dict[str, Any], field: str
) -> None:
    provider = all_providers()[FASHN]
    operation = kind_of(task_type).operation(await stored(desk, task_type, **fields))
    with pytest.raises(InvalidInput) as caught:
        provider.check(operation, provider.config_model.model_validate(config), desk.settings)
    assert caught.value.field == field


async def test_a_reference_that_is_no_garment_is_refused(desk: Desk) -> None:
    provider = all_providers()[FASHN]
    spec = await stored(desk, "EDITING", reference_images=1)
    spec["reference_images"][0]["type"] = "person"
    with pytest.raises(InvalidInput, match="takes a garment") as caught:
        provider.check(kind_of("EDITING").operation(spec), provider.config_model(), desk.settings)
    assert caught.value.field == "reference_images.0"


async def test_without_a_key_the_setting_is_named(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        provider = all_providers()[FASHN]
        operation = kind_of("EDITING").operation(await stored(desk, "EDITING"))
        with pytest.raises(InvalidInput, match="Set FASHN_API_KEY"):
            provider.check(operation, provider.config_model(), desk.settings)
