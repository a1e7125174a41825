"""BACKGROUND_REMOVAL: every image of a batch is cut out, or named with what is wrong with it."""

import uuid
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compute.errors import InvalidInput
from compute.schemas.enums import TaskType
from compute.tasks.registry import find_kind
from compute.tasks.types.background.removal import BackgroundRemoval, CreateBackgroundRemovalTask
from compute.worker.protocol import Artifact, Done, Job
from tests.unit.imaging.cutouts import bottle, mug, person
from tests.unit.imaging.onnx_files import brightness_model
from tests.unit.tasks.types.worker import Outcome, make_worker, prepare, run_type

FILES = {
    "inputs/bottle.png": bottle((96, 128)).image,
    "inputs/mug.png": mug((96, 96)).image,
    "inputs/person.png": person((96, 128)).image,
}
BLANK = Image.new("RGB", (48, 48), "white")


async def remove(home: Path, files: Mapping[str, Image.Image], **fields: Any) -> Outcome:
    request = {"input_image_paths": list(files)} | fields
    return await run_type(BackgroundRemoval(), request, make_worker(home), files)


async def test_a_batch_comes_back_in_order_with_alpha(tmp_path: Path) -> None:
    outcome = await remove(tmp_path, FILES)
    for image, original in zip(outcome.images, FILES.values(), strict=True):
        assert (image.mode, image.size) == ("RGBA", original.size)
        alpha = np.asarray(image)[..., 3]
        assert 0.05 < (alpha == 255).mean() < 0.6
        assert np.array_equal(np.asarray(image)[alpha == 255][:, :3], np.asarray(original)[alpha == 255])
    assert outcome.public["input_image_paths"] == list(FILES)
    assert outcome.public["result_image_paths"] == [artifact.path for artifact in outcome.artifacts]
    assert outcome.public["result_image_path"] == outcome.artifacts[0].path
    assert outcome.public["failed"] == []
    assert outcome.metadata["segmentation_model"] == "grabcut"
    assert outcome.metadata["inputs"].keys() == FILES.keys()


async def test_webp_has_alpha_too(tmp_path: Path) -> None:
    png = await remove(tmp_path, {"a.png": FILES["inputs/bottle.png"]})
    webp = await remove(tmp_path, {"a.png": FILES["inputs/bottle.png"]}, output_format="webp")
    assert webp.artifacts[0].content_type == "image/webp"
    assert webp.images[0].mode == "RGBA"
    assert np.array_equal(np.asarray(webp.images[0])[..., 3], np.asarray(png.images[0])[..., 3])
    assert len(webp.files[0]) < len(png.files[0])


async def test_a_picture_that_is_cut_out_already_stays_as_it_is(tmp_path: Path) -> None:
    image = FILES["inputs/bottle.png"].convert("RGBA")
    image.putalpha(Image.radial_gradient("L").resize(image.size))
    outcome = await remove(tmp_path, {"a.png": image})
    assert outcome.images[0].tobytes() == image.tobytes()


async def test_the_model_that_is_named_does_the_work(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    folder = worker.worker.models_root / "rembg"
    folder.mkdir(parents=True)
    (folder / "silueta.onnx").write_bytes(brightness_model())
    request = {"input_image_paths": ["a.png"], "provider_config": {"provider_type": "LOCAL", "rembg_model": "silueta"}}
    files = {"a.png": FILES["inputs/bottle.png"]}
    outcome = await run_type(BackgroundRemoval(), request, worker, files)
    assert outcome.metadata["segmentation_model"] == "silueta"
    # This one takes what is bright: the backdrop, not the bottle.
    alpha = np.asarray(outcome.images[0])[..., 3].astype(int)
    assert alpha[30, 10] > alpha[55, 48] + 80


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_partly_failed_batch_names_what_failed_and_keeps_the_rest(tmp_path: Path) -> None:
    files = {"a.png": FILES["inputs/bottle.png"], "blank.png": BLANK, "b.png": FILES["inputs/mug.png"]}
    outcome = await remove(tmp_path, files)
    failure = {"index": 1, "path": "blank.png", "error": "No subject stands out from the background of this image."}
    assert outcome.metadata["failed"] == outcome.public["failed"] == [failure]
    assert [image.size for image in outcome.images] == [(96, 128), (96, 96)]
    assert len(outcome.public["result_image_paths"]) == 2


async def test_an_input_that_is_gone_or_damaged_is_one_image_s_failure(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    files = {"a.png": FILES["inputs/bottle.png"]}
    spec = await prepare(BackgroundRemoval(), {"input_image_paths": ["a.png"]}, worker, files)
    await worker.store.put("damaged.png", b"\x89PNG no more", "image/png")
    job = Job(
        uuid.uuid4(), TaskType.BACKGROUND_REMOVAL, 1, spec | {"input_image_paths": ["gone.png", "a.png", "damaged.png"]}
    )
    async with aclosing(BackgroundRemoval().run(job, worker.worker)) as running:
        events = [event async for event in running]
    done = events[-1]
    assert isinstance(done, Done)
    assert [(entry["index"], entry["path"]) for entry in done.metadata["failed"]] == [
        (0, "gone.png"),
        (2, "damaged.png"),
    ]
    assert sum(isinstance(event, Artifact) for event in events) == 1


async def test_when_none_can_be_cut_out_the_task_fails(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"None of the images could be cut out \(0: No subject.*; 1: No subject"):
        await remove(tmp_path, {"a.png": BLANK, "b.png": BLANK})


async def test_a_model_without_a_file_fails_the_batch_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no rembg/isnet-anime\.onnx below") as refused:
        await remove(tmp_path, FILES, provider_config={"rembg_model": "isnet-anime"})
    assert refused.value.field == "provider_config.rembg_model"


@pytest.mark.parametrize("model", ["u3net", "", 7, "../../etc/passwd"])
async def test_an_unknown_model_is_refused_before_anything_is_fetched(tmp_path: Path, model: Any) -> None:
    request = {"input_image_paths": ["absent.png"], "provider_config": {"rembg_model": model}}
    with pytest.raises(InvalidInput) as refused:
        await prepare(BackgroundRemoval(), request, make_worker(tmp_path), {})
    assert refused.value.field == "provider_config.rembg_model"


async def test_a_bad_input_is_named_by_its_place(tmp_path: Path) -> None:
    request = {"input_image_paths": ["a.png", "absent.png"]}
    with pytest.raises(InvalidInput) as refused:
        await prepare(BackgroundRemoval(), request, make_worker(tmp_path), {"a.png": BLANK})
    assert refused.value.field == "input_image_paths.1"


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [[], ["a.png"] * 101, ["a.png"] * 1000, [""], None, [7]])
def test_the_batch_has_1_to_100_images(images: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        CreateBackgroundRemovalTask.model_validate({"input_image_paths": images})
    assert {error["loc"][0] for error in refused.value.errors()} == {"input_image_paths"}


def test_a_hundred_are_fine() -> None:
    assert (
        len(CreateBackgroundRemovalTask.model_validate({"input_image_paths": ["a.png"] * 100}).input_image_paths) == 100
    )


@pytest.mark.parametrize("value", ["a.png", ["a.png"]])
@pytest.mark.parametrize("name", ["image_url", "input_image_paths"])
def test_one_image_needs_no_list_under_either_name(name: str, value: Any) -> None:
    assert CreateBackgroundRemovalTask.model_validate({name: value}).input_image_paths == ["a.png"]


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="image_url"):
        CreateBackgroundRemovalTask.model_validate({"image_url": "a.png", "input_image_paths": ["b.png"]})


@pytest.mark.parametrize("output_format", ["jpeg", "gif", ""])
def test_formats_without_alpha_are_refused(output_format: str) -> None:
    with pytest.raises(ValidationError, match="output_format"):
        CreateBackgroundRemovalTask.model_validate({"image_url": "a.png", "output_format": output_format})


def test_it_is_known_by_both_names_and_needs_no_model() -> None:
    kind = find_kind("BACKGROUND_REMOVE")
    request = CreateBackgroundRemovalTask.model_validate({"image_url": "a.png"})
    assert kind.name == TaskType.BACKGROUND_REMOVAL
    assert (kind.queue_for(request), kind.roles_for(request)) == ("image", frozenset())
