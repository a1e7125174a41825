"""FAL_STANDARD at the stand-in of fal: what it sends, what it makes of the answers, and what each setting changes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.calls.record import CallPolicy
from compute.providers.registry import all_providers
from compute.providers.vendors.fal.provider import app_for
from compute.schemas.enums import ProviderType
from compute.settings import Settings
from compute.tasks.registry import kind_of
from tests.providers.harness import Desk, open_desk
from tests.providers.queued.specs import SPECS, stored
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import refused
from tests.providers.standins.jobs import Plan

FAL = ProviderType.FAL_STANDARD


@pytest.fixture
async def desk(fal: Fal, tmp_path: Path) -> AsyncIterator[Desk]:
    fal.plan = Plan(("COMPLETED",))
    async with open_desk(tmp_path, fal_key=fal.key, fal_queue_url=fal.url("queue")) as desk:
        yield desk


def sent(fal: Fal, nth: int = -1) -> dict[str, Any]:
    return dict(fal.arrived("submit")[nth].json)


async def test_an_image_has_the_size_that_was_asked_for(fal: Fal, desk: Desk) -> None:
    made = await desk.run("GENERATION", await stored(desk, "GENERATION"), FAL)
    assert [(one.width, one.height, one.seed) for one in made.artifacts] == [(96, 64, 7)]
    assert (await desk.image(made.artifacts[0].path)).size == (96, 64)
    assert fal.arrived("submit")[0].path == "/fal-ai/flux/dev"
    assert sent(fal) == {
        "prompt": "a red coat",
        "image_size": {"width": 96, "height": 64},
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "seed": 7,
        "num_images": 1,
        "output_format": "png",
    }
    assert made.metadata is not None
    assert made.metadata["model"] == "fal-ai/flux/dev"
    assert made.metadata["fal_request_id"] == made.metadata["provider_request_id"] == fal.made[0].id
    assert desk.ledger.calls == []
    assert desk.ledger.of("image/0")[0].units == {"calls": 1.0, "images": 1.0, "megapixels": 96 * 64 / 1e6}


async def test_each_of_several_images_is_a_request_with_its_own_seed(fal: Fal, desk: Desk) -> None:
    made = await desk.run("GENERATION", await stored(desk, "GENERATION", num_outputs=3), FAL)
    assert sorted(job.arguments["seed"] for job in fal.made) == [7, 8, 9]
    assert [one.seed for one in made.artifacts] == [7, 8, 9]
    assert len({one.sha256 for one in made.artifacts}) == 3


@pytest.mark.parametrize("task_type", [name for name in SPECS if SPECS[name].fal_app], ids=str)
async def test_each_type_of_task_is_done_at_the_app_of_its_operation(fal: Fal, desk: Desk, task_type: str) -> None:
    made = await desk.run(task_type, await stored(desk, task_type), FAL)
    assert len(made.artifacts) == 1
    app = SPECS[task_type].fal_app
    assert fal.arrived("submit")[0].path == f"/{desk.settings.fal_apps[app]}"


async def test_app_of_the_request_comes_before_that_of_the_configuration(fal: Fal, desk: Desk) -> None:
    config = {"provider_config": {"fal_app_id": "acme/of-config"}}
    await desk.run("GENERATION", await stored(desk, "GENERATION") | config, FAL)
    await desk.run("GENERATION", await stored(desk, "GENERATION", fal_app_id="acme/of-request") | config, FAL)
    assert [one.path for one in fal.arrived("submit")] == ["/acme/of-config", "/acme/of-request"]


@pytest.mark.parametrize("app", ["flux", "../flux", "fal-ai/flux/dev\n", "fal-ai/flux dev", "fal-ai//dev", "a/b?c"])
def test_what_is_no_app_is_refused_before_it_is_part_of_an_address(app: str) -> None:
    with pytest.raises(InvalidInput, match="owner and its name") as raised:
        app_for(Settings(), "draw", app, "fal_app_id")
    assert raised.value.field == "fal_app_id"


async def test_static_parameters_replace_ours_and_null_takes_one_away(fal: Fal, desk: Desk) -> None:
    static = {"seed": 99, "guidance_scale": None, "acceleration": "high"}
    config = {"provider_config": {"additional_static_params": static}}
    await desk.run("GENERATION", await stored(desk, "GENERATION") | config, FAL)
    assert sent(fal)["seed"] == 99
    assert sent(fal)["acceleration"] == "high"
    assert "guidance_scale" not in sent(fal)


async def test_a_request_that_the_caller_names_is_followed_and_nothing_is_paid(fal: Fal, desk: Desk) -> None:
    first = await desk.run("GENERATION", await stored(desk, "GENERATION"), FAL)
    config = {"provider_config": {"fal_request_id": fal.made[0].id}}
    again = await desk.run("GENERATION", await stored(desk, "GENERATION") | config, FAL)
    assert fal.submits == 1
    assert again.artifacts[0].sha256 == first.artifacts[0].sha256


async def test_a_request_that_nobody_knows_is_waited_for_and_nothing_is_submitted(fal: Fal, desk: Desk) -> None:
    config = {"provider_config": {"fal_request_id": "nobody-knows"}}
    with pytest.raises(CallUncertain, match="Request not found") as caught:
        await desk.run("GENERATION", await stored(desk, "GENERATION") | config, FAL)
    assert not caught.value.charged
    assert fal.submits == 0


async def test_an_edit_sends_all_images_and_an_inpainting_keeps_what_is_black(fal: Fal, desk: Desk) -> None:
    await desk.run("EDITING", await stored(desk, "EDITING", reference_images=2), FAL)
    assert len(sent(fal)["image_urls"]) == 3
    spec = await stored(desk, "EDITING", mask=True)
    made = await desk.run("EDITING", spec, FAL)
    base, result = await desk.image(spec["base_image_path"]), await desk.image(made.artifacts[0].path)
    assert "mask_url" in sent(fal)
    assert result.size == (spec["width"], spec["height"]) == base.size
    half = base.width // 2
    assert result.crop((0, 0, half, base.height)).tobytes() == base.crop((0, 0, half, base.height)).tobytes()
    assert result.tobytes() != base.tobytes()


async def test_a_drawing_that_starts_from_an_image_has_an_app_of_its_own(fal: Fal, desk: Desk) -> None:
    await desk.run("GENERATION", await stored(desk, "GENERATION", reference=True), FAL)
    assert fal.arrived("submit")[0].path == "/fal-ai/flux/dev/image-to-image"
    assert sent(fal)["strength"] == 0.7
    assert len(fal.made[0].images) == 1


@pytest.mark.parametrize(
    ("app", "name"),
    [
        ("fal-ai/flux-pro/kontext", "image_url"),
        ("fal-ai/flux-pro/kontext/max/multi", "image_urls"),
        ("fal-ai/nano-banana-pro/edit", "image_urls"),
    ],
)
async def test_an_edit_names_its_image_as_the_app_does(fal: Fal, desk: Desk, app: str, name: str) -> None:
    await desk.run("EDITING", await stored(desk, "EDITING", fal_app_id=app), FAL)
    assert {"image_url", "image_urls"} & sent(fal).keys() == {name}


async def test_a_clip_has_frames_for_its_seconds(fal: Fal, desk: Desk) -> None:
    await desk.run("VIDEO_GENERATION", await stored(desk, "VIDEO_GENERATION"), FAL)
    names = "num_frames", "frame_rate", "resolution", "seed", "prompt"
    assert tuple(sent(fal)[name] for name in names) == (48, 24, "480p", 7, "it turns")
    await desk.run("VIDEO_GENERATION", await stored(desk, "VIDEO_GENERATION", width=1280, height=720), FAL)
    assert sent(fal)["resolution"] == "720p"


async def test_an_operation_without_an_app_is_refused(fal: Fal, tmp_path: Path) -> None:
    async with open_desk(tmp_path, fal_key=fal.key, fal_apps={}) as desk:
        operation = kind_of("REFINE").operation(await stored(desk, "REFINE"))
        provider = all_providers()[FAL]
        with pytest.raises(InvalidInput, match="COMPUTE_FAL_APPS has none for refine") as caught:
            provider.check(operation, provider.config_model(), desk.settings)
        provider.check(operation, provider.config_model.model_validate({"fal_app_id": "a/b"}), desk.settings)
    assert caught.value.field == "provider_config.fal_app_id"


async def test_one_bad_image_of_a_batch_is_named_and_the_others_are_cut_out(fal: Fal, desk: Desk) -> None:
    spec = await stored(desk, "BACKGROUND_REMOVAL", images=3)
    spec["input_image_paths"][1] = "inputs/gone.png"
    made = await desk.run("BACKGROUND_REMOVAL", spec, FAL)
    assert len(made.artifacts) == 2
    assert made.metadata is not None
    [failed] = made.metadata["failed"]
    assert (failed["index"], failed["path"]) == (1, "inputs/gone.png")
    assert fal.submits == 2


async def test_a_batch_of_which_no_image_can_be_cut_out_fails_in_the_vendors_words(fal: Fal, desk: Desk) -> None:
    fal.plan = Plan(("COMPLETED",), failure="image_too_small")
    with pytest.raises(ProviderFailed, match="image too small"):
        await desk.run("BACKGROUND_REMOVAL", await stored(desk, "BACKGROUND_REMOVAL", images=2), FAL)


async def test_a_failing_vendor_fails_the_batch_and_the_rest_is_collected(fal: Fal, desk: Desk) -> None:
    fal.plans.append(Plan(("COMPLETED",), failure="runner_disconnected"))
    spec, task = await stored(desk, "BACKGROUND_REMOVAL", images=3), uuid4()
    with pytest.raises(ProviderFailed, match="runner_disconnected"):
        await desk.run("BACKGROUND_REMOVAL", spec, FAL, task_id=task)
    made = await desk.run("BACKGROUND_REMOVAL", spec, FAL, task_id=task, fence=2)
    assert len(made.artifacts) == 3
    assert (fal.submits, len(fal.billed)) == (4, 3)


async def test_addresses_of_another_origin_get_no_key(fal: Fal, tmp_path: Path) -> None:
    """A proxy in front of the queue answers with the vendor's own addresses, which are then built from the id."""
    other = fal.url("queue").replace("127.0.0.1", "localhost")
    async with open_desk(tmp_path, fal_key=fal.key, fal_queue_url=other) as desk:
        await desk.run("GENERATION", await stored(desk, "GENERATION", fal_app_id="workflows/acme/flow/x"), FAL)
    [polled, *_] = fal.arrived("status")
    assert polled.headers["Host"].startswith("localhost")
    assert polled.path.startswith("/workflows/acme/flow/requests/")


async def test_a_submit_names_a_webhook_of_ours_if_there_is_one(fal: Fal, tmp_path: Path) -> None:
    fal.plan = Plan(("IN_QUEUE", "COMPLETED"))
    policy = CallPolicy(wait=10.0, poll=0.02, webhook_url="http://127.0.0.1:9/hooks")
    async with open_desk(tmp_path, policy, fal_key=fal.key, fal_queue_url=fal.url("queue")) as desk:
        await desk.run("GENERATION", await stored(desk, "GENERATION"), FAL)
        [call] = desk.ledger.rows()
    assert fal.made[0].webhook == f"http://127.0.0.1:9/hooks/{call.id}"


async def test_an_app_gets_its_arguments_as_they_are(fal: Fal, desk: Desk) -> None:
    arguments = {"prompt": "a red coat", "loras": None, "steps": [1, 2]}
    made = await desk.run("EXPERIMENTAL_FAL", {"fal_app_id": "acme/app", "fal_parameters": arguments}, FAL)
    assert sent(fal) == arguments
    assert len(made.artifacts) == 1
    assert made.metadata is not None
    assert made.metadata["result"]["seed"] == 42


async def test_a_submit_that_was_refused_is_sent_again_by_the_next_run(fal: Fal, desk: Desk) -> None:
    task = uuid4()
    fal.faults.on("submit", refused(Trouble.UNAVAILABLE))
    spec = await stored(desk, "GENERATION")
    with pytest.raises(ProviderFailed, match="No runner could be scheduled") as caught:
        await desk.run("GENERATION", spec, FAL, task_id=task)
    assert (caught.value.charged, caught.value.hopeless) == (True, False)
    assert len((await desk.run("GENERATION", spec, FAL, task_id=task, fence=2)).artifacts) == 1
    assert (fal.submits, len(fal.made)) == (2, 1)


REFUSED = [
    ("GENERATION", {"loras": 1}, {}, "subject_model_path"),
    ("GENERATION", {"fal_app_id": "../admin"}, {}, "fal_app_id"),
    ("GENERATION", {"num_outputs": 2}, {"fal_request_id": "abc"}, "provider_config.fal_request_id"),
    ("EDITING", {"mask": True, "reference_images": 1}, {}, "reference_images.0"),
    ("REFINE", {"factor": 8.0}, {}, "upscale_factor"),
    ("REFINE", {"face_detail_enabled": True}, {}, "face_detail_enabled"),
    ("FACE_ENHANCER", {}, {}, "provider_type"),
]


@pytest.mark.parametrize(("task_type", "fields", "config", "field"), REFUSED)
async def test_what_fal_does_not_offer_is_refused_at_its_field(
    desk: Desk, task_type: str, fields: dict[str, Any], config: dict[str, Any], field: str
) -> None:
    provider = all_providers()[FAL]
    operation = kind_of(task_type).operation(await stored(desk, task_type, **fields))
    with pytest.raises(InvalidInput) as caught:
        provider.check(operation, provider.config_model.model_validate(config), desk.settings)
    assert caught.value.field == field


async def test_without_a_key_the_setting_is_named(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        provider = all_providers()[FAL]
        operation = kind_of("GENERATION").operation(await stored(desk, "GENERATION"))
        with pytest.raises(InvalidInput, match="Set FAL_KEY") as caught:
            provider.check(operation, provider.config_model(), desk.settings)
    assert caught.value.field == "provider_type"
