"""FREEPIK_MAGNIFIC and FREEPIK_MAGNIFIC_PRECISION at the stand-in of Magnific."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.registry import all_providers
from compute.schemas.enums import ErrorCategory, ProviderType
from compute.tasks.registry import kind_of
from compute.tasks.types.refine import UPSCALE_PROMPT
from tests.providers.harness import Desk, open_desk
from tests.providers.queued.specs import stored
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.faults import refused, reset_after_body
from tests.providers.standins.jobs import Plan
from tests.providers.standins.magnific import CREATIVE, PRECISION_V2, Magnific

CREATES = ProviderType.FREEPIK_MAGNIFIC
PRECISE = ProviderType.FREEPIK_MAGNIFIC_PRECISION
BIG = {"size": (192, 160), "width": 384, "height": 320}
"""Fields of a task that both modes take."""


@pytest.fixture
async def desk(magnific: Magnific, tmp_path: Path) -> AsyncIterator[Desk]:
    magnific.plan = Plan(("COMPLETED",))
    async with open_desk(tmp_path, magnific_api_key=magnific.key, magnific_base_url=magnific.url()) as desk:
        yield desk


def sent(magnific: Magnific) -> dict[str, Any]:
    return {name: value for name, value in magnific.arrived("submit")[-1].json.items() if name != "image"}


async def refine(desk: Desk, provider: ProviderType, config: dict[str, Any] | None = None, **fields: Any) -> Any:
    return await desk.run(
        "REFINE", await stored(desk, "REFINE", **fields) | {"provider_config": config or {}}, provider
    )


async def test_the_creative_mode_gets_its_defaults_and_the_result_its_size(magnific: Magnific, desk: Desk) -> None:
    made = await refine(desk, CREATES)
    assert magnific.arrived("submit")[0].path == f"/v1/ai/{CREATIVE}"
    assert sent(magnific) == {
        "scale_factor": "2x",
        "creativity": 0,
        "hdr": 0,
        "resemblance": 0,
        "fractality": 0,
        "engine": "automatic",
        "optimized_for": "standard",
        "prompt": "wool",
    }
    assert [(one.width, one.height) for one in made.artifacts] == [(192, 128)]
    assert (made.metadata["model"], made.metadata["provider_request_id"]) == (CREATIVE, magnific.made[0].id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("creativity", 10),
        ("hdr", -10),
        ("resemblance", 3),
        ("fractality", -1),
        ("engine", "magnific_sharpy"),
        ("optimized_for", "3d_renders"),
    ],
)
async def test_each_setting_of_the_creative_mode_is_sent(
    magnific: Magnific, desk: Desk, field: str, value: Any
) -> None:
    await refine(desk, CREATES, {field: value})
    assert sent(magnific)[field] == value


async def test_default_prompt_is_for_requests_without_one(magnific: Magnific, desk: Desk) -> None:
    own = kind_of("REFINE")
    assert own.operation(await stored(desk, "REFINE", upscale_prompt=UPSCALE_PROMPT)).prompt is None  # type: ignore[union-attr]
    await refine(desk, CREATES, {"defaultPrompt": "silk"}, upscale_prompt=UPSCALE_PROMPT)
    assert sent(magnific)["prompt"] == "silk"
    await refine(desk, CREATES, {"defaultPrompt": "silk"})
    assert sent(magnific)["prompt"] == "wool"
    await refine(desk, CREATES, upscale_prompt=UPSCALE_PROMPT)
    assert "prompt" not in sent(magnific)


@pytest.mark.parametrize(("field", "value"), [("sharpen", 0), ("smart_grain", 100), ("ultra_detail", 55)])
async def test_each_setting_of_the_precision_mode_is_sent(
    magnific: Magnific, desk: Desk, field: str, value: int
) -> None:
    made = await refine(desk, PRECISE, {field: value}, **BIG)
    assert magnific.arrived("submit")[0].path == f"/v1/ai/{PRECISION_V2}"
    usual = {"scale_factor": 2, "sharpen": 7, "smart_grain": 7, "ultra_detail": 30}
    assert sent(magnific) == usual | {field: value}
    assert [(one.width, one.height) for one in made.artifacts] == [(384, 320)]


async def test_the_precision_mode_keeps_the_default_prompt_with_the_result(magnific: Magnific, desk: Desk) -> None:
    made = await refine(desk, PRECISE, {"defaultPrompt": "silk"}, upscale_prompt=UPSCALE_PROMPT, **BIG)
    assert made.metadata["prompt"] == "silk"
    assert "prompt" not in sent(magnific)


@pytest.mark.parametrize(
    ("provider", "factor", "sent_factor"), [(CREATES, 3.0, "4x"), (CREATES, 1.0, "2x"), (PRECISE, 2.5, 3)]
)
async def test_the_factor_is_the_least_that_is_enough(
    magnific: Magnific, desk: Desk, provider: ProviderType, factor: float, sent_factor: Any
) -> None:
    size = round(192 * factor), round(160 * factor)
    made = await refine(desk, provider, size=(192, 160), width=size[0], height=size[1], factor=factor)
    assert sent(magnific)["scale_factor"] == sent_factor
    assert [(one.width, one.height) for one in made.artifacts] == [size]


@pytest.mark.parametrize(
    ("field", "value"),
    [("creativity", 11), ("hdr", -11), ("engine", "magnific_x"), ("optimized_for", "x"), ("fractality", 0.5)],
)
def test_settings_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        all_providers()[CREATES].config_model.model_validate({field: value})


async def test_the_old_address_and_its_header_are_settings(magnific: Magnific, tmp_path: Path) -> None:
    magnific.plan = Plan(("COMPLETED",))
    old = {"magnific_base_url": magnific.url("freepik"), "magnific_key_header": "x-freepik-api-key"}
    async with open_desk(tmp_path, magnific_api_key=magnific.key, **old) as desk:
        await refine(desk, CREATES)
    assert magnific.arrived("submit")[0].host == "freepik"


REFUSED = [
    (CREATES, {"base_size": [4000, 3000], "width": 8000, "height": 6000}, "upscale_factor", "25.3 megapixels"),
    (CREATES, {"face_detail_enabled": True}, "face_detail_enabled", "faces"),
    (PRECISE, {"base_size": [100, 100]}, "base_image_url", "160 pixels"),
    (PRECISE, {"base_size": [1000, 200]}, "base_image_url", "1:3"),
    (PRECISE, {"base_size": [6000, 5000]}, "upscale_factor", "10060"),
]


@pytest.mark.parametrize(("provider", "fields", "field", "words"), REFUSED)
async def test_what_magnific_does_not_make_is_refused_at_its_field(
    desk: Desk, provider: ProviderType, fields: dict[str, Any], field: str, words: str
) -> None:
    asked = all_providers()[provider]
    operation = kind_of("REFINE").operation(await stored(desk, "REFINE", **fields))
    with pytest.raises(InvalidInput, match=words) as caught:
        asked.check(operation, asked.config_model(), desk.settings)
    assert caught.value.field == field


@pytest.mark.parametrize("provider", [CREATES, PRECISE])
async def test_without_a_key_the_setting_is_named(tmp_path: Path, provider: ProviderType) -> None:
    async with open_desk(tmp_path) as desk:
        asked = all_providers()[provider]
        operation = kind_of("REFINE").operation(await stored(desk, "REFINE"))
        with pytest.raises(InvalidInput, match="Set MAGNIFIC_API_KEY"):
            asked.check(operation, asked.config_model(), desk.settings)


async def test_a_task_that_failed_says_its_id(magnific: Magnific, desk: Desk) -> None:
    magnific.plan = Plan(("IN_PROGRESS", "COMPLETED"), failure="whatever")
    with pytest.raises(ProviderFailed, match="magnific: The task failed") as caught:
        await refine(desk, CREATES)
    assert magnific.made[0].id in caught.value.detail
    assert caught.value.category is ErrorCategory.PROVIDER_ERROR


async def test_a_refused_parameter_is_named_in_the_vendors_words(magnific: Magnific, desk: Desk) -> None:
    with pytest.raises(ProviderFailed, match="Validation error: image must be at least 160") as caught:
        await refine(desk, PRECISE)
    assert caught.value.category is ErrorCategory.INVALID_INPUT


async def test_words_about_the_content_are_its_policy(magnific: Magnific, desk: Desk) -> None:
    magnific.faults.on("submit", refused(Trouble.BAD_REQUEST, "NSFW content was found"))
    with pytest.raises(ProviderFailed, match="NSFW") as caught:
        await refine(desk, CREATES)
    assert caught.value.category is ErrorCategory.CONTENT_POLICY


async def test_a_lost_submit_is_found_in_a_list_that_tells_enough(magnific: Magnific, desk: Desk) -> None:
    magnific.lists_details = True
    magnific.faults.on("submit", reset_after_body())
    spec, task = await stored(desk, "REFINE"), uuid4()
    with pytest.raises(CallUncertain):
        await desk.run("REFINE", spec, CREATES, task_id=task)
    made = await desk.run("REFINE", spec, CREATES, task_id=task, fence=2)
    assert (magnific.submits, len(made.artifacts)) == (1, 1)


@pytest.mark.parametrize(
    ("details", "twins", "prompt"), [(False, 0, "wool"), (True, 1, "wool"), (True, 0, UPSCALE_PROMPT)]
)
async def test_a_lost_submit_that_might_be_anothers_stays_uncertain(
    magnific: Magnific, desk: Desk, details: bool, twins: int, prompt: str
) -> None:
    magnific.lists_details = details
    spec, task = await stored(desk, "REFINE", upscale_prompt=prompt), uuid4()
    for _ in range(twins):
        await desk.run("REFINE", spec, CREATES)
    magnific.faults.on("submit", reset_after_body())
    for fence in (1, 2):
        with pytest.raises(CallUncertain):
            await desk.run("REFINE", spec, CREATES, task_id=task, fence=fence)
    assert magnific.submits == 1 + twins
