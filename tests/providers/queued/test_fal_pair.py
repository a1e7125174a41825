"""FAL_SHOOTIFY_REFINER and FAL_GARMENT_FIXER at the stand-in of fal."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from compute.errors import InvalidInput
from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderType
from compute.tasks.registry import kind_of
from tests.providers.harness import Desk, open_desk
from tests.providers.queued.specs import stored
from tests.providers.standins.fal import Fal
from tests.providers.standins.jobs import Plan

REFINER = ProviderType.FAL_SHOOTIFY_REFINER
FIXER = ProviderType.FAL_GARMENT_FIXER


@pytest.fixture
async def desk(fal: Fal, tmp_path: Path) -> AsyncIterator[Desk]:
    fal.plan = Plan(("COMPLETED",))
    apps = {"fix_garment": "acme/fix"}
    async with open_desk(tmp_path, fal_key=fal.key, fal_queue_url=fal.url("queue"), fal_apps=apps) as desk:
        yield desk


@pytest.mark.parametrize(
    ("fields", "config", "path"),
    [
        ({}, {}, "/fal-ai/clarity-upscaler"),
        ({}, {"fal_app_id": "acme/refine"}, "/acme/refine"),
        ({"fal_app_id": "acme/mine"}, {"fal_app_id": "acme/refine"}, "/acme/mine"),
    ],
)
async def test_refinements_run_at_the_app_that_is_chosen(
    fal: Fal, desk: Desk, fields: dict[str, Any], config: dict[str, Any], path: str
) -> None:
    spec = await stored(desk, "REFINE", **fields) | {"provider_config": config}
    made = await desk.run("REFINE", spec, REFINER)
    assert fal.arrived("submit")[0].path == path
    assert [(one.width, one.height) for one in made.artifacts] == [(192, 128)]
    body = fal.arrived("submit")[0].json
    assert (body["upscale_factor"], body["creativity"], body["prompt"], body["seed"]) == (2.0, 0.3, "wool", 7)


async def test_a_refinement_that_the_caller_names_is_followed(fal: Fal, desk: Desk) -> None:
    await desk.run("REFINE", await stored(desk, "REFINE"), REFINER)
    config = {"provider_config": {"fal_request_id": fal.made[0].id}}
    assert len((await desk.run("REFINE", await stored(desk, "REFINE") | config, REFINER)).artifacts) == 1
    assert fal.submits == 1


async def test_garments_are_fixed_at_the_operators_app(fal: Fal, desk: Desk) -> None:
    spec = await stored(desk, "EDITING", reference_images=1, garment=True)
    made = await desk.run("EDITING", spec, FIXER)
    body = fal.arrived("submit")[0].json
    assert fal.arrived("submit")[0].path == "/acme/fix"
    assert len(body["image_urls"]) == 2
    assert body["prompt"].startswith("Correct the garment")
    assert "make it red" in body["prompt"]
    assert [(one.width, one.height) for one in made.artifacts] == [(96, 64)]


@pytest.mark.parametrize(
    ("provider", "task_type", "fields", "field"),
    [
        (REFINER, "EDITING", {}, "provider_type"),
        (REFINER, "REFINE", {"factor": 8.0}, "upscale_factor"),
        (REFINER, "REFINE", {"fal_app_id": "no app"}, "fal_app_id"),
        (FIXER, "REFINE", {}, "provider_type"),
        (FIXER, "EDITING", {"mask": True}, "mask"),
    ],
)
async def test_what_they_do_not_offer_is_refused_at_its_field(
    desk: Desk, provider: ProviderType, task_type: str, fields: dict[str, Any], field: str
) -> None:
    asked = all_providers()[provider]
    operation = kind_of(task_type).operation(await stored(desk, task_type, **fields))
    with pytest.raises(InvalidInput) as caught:
        asked.check(operation, asked.config_model(), desk.settings)
    assert caught.value.field == field
