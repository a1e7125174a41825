"""VIDEO_GENERATION from the request to the file, with the tiny model."""

import asyncio
import io
import tempfile
import uuid
from contextlib import aclosing
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from compute.errors import InvalidInput, OutOfMemory
from compute.tasks.types import video_generation
from compute.tasks.types.video_generation import CreateVideoGenerationTask, VideoGeneration
from compute.worker.protocol import Job, Progress, StagedModel, Started, VideoRequest
from tests.pictures import scene
from tests.unit.tasks.types.worker import Outcome, make_worker, prepare, run_type

VIDEO = frozenset({"video"})
SMALL = {
    "width": 96,
    "height": 64,
    "steps": 2,
    "fps": 8,
    "duration_seconds": 1,
    "seed": 5,
    "prompt": "wind in the grass",
}


@cache
def tiny_ltx() -> StagedModel:
    from compute.pipelines import ModelConfig, load

    config = ModelConfig(model="tiny-ltx-video", family="ltx-video", device="cpu")
    return load(config, Path(mkdtemp(prefix="compute-models-")))


async def film(
    home: Path, model: StagedModel | None = None, image: Image.Image | None = None, **fields: Any
) -> Outcome:
    request = {"input_image_url": "in.png"} | SMALL | fields
    worker = make_worker(home, model or tiny_ltx())
    return await run_type(VideoGeneration(), request, worker, {"in.png": image or scene((192, 128))}, roles=VIDEO)


async def spec_of(home: Path, size: tuple[int, int] = (192, 128), **fields: Any) -> dict[str, Any]:
    files = {"in.png": Image.new("RGB", size, "gray")}
    request = {"input_image_url": "in.png"} | fields
    return await prepare(VideoGeneration(), request, make_worker(home), files, roles=VIDEO)


def frames_of(outcome: Outcome) -> np.ndarray:
    with av.open(io.BytesIO(outcome.files[0])) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)


def distance(one: Outcome, other: Outcome) -> float:
    return float(np.abs(frames_of(one) - frames_of(other)).mean())


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a storm at sea"},
        {"negative_prompt": "blurry"},
        {"cfg_scale": 0.0},
        {"cfg_scale": 2.0},
        {"seed": 6},
        {"steps": 4},
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items()),
)
async def test_every_parameter_changes_the_clip(tmp_path: Path, change: dict[str, Any]) -> None:
    assert distance(await film(tmp_path), await film(tmp_path, **change)) > 2


async def test_more_motion_leads_further_from_what_the_image_alone_says(tmp_path: Path) -> None:
    still, usual, wild = [await film(tmp_path, motion_bucket_id=bucket) for bucket in (1, 127, 255)]
    assert 0.1 < distance(usual, still) < distance(wild, still)


async def test_the_image_is_where_it_begins(tmp_path: Path) -> None:
    image = scene((192, 128))
    begins = frames_of(await film(tmp_path, image=image))[0].mean(axis=1)
    upside_down = frames_of(await film(tmp_path, image=image.rotate(180)))[0].mean(axis=1)
    rows = np.asarray(image.resize((96, 64))).astype(float).mean(axis=1)
    assert np.abs(begins - rows).mean() < np.abs(upside_down - rows).mean() / 2


@pytest.mark.parametrize(
    ("fps", "duration", "frames"), [(8, 1, 8), (24, 1, 24), (25, 1.5, 38), (5, 2, 10), (30, 1.04, 31), (1, 3, 3)]
)
async def test_rate_duration_and_size_are_exact(tmp_path: Path, fps: int, duration: float, frames: int) -> None:
    outcome = await film(tmp_path, fps=fps, duration_seconds=duration, width=66, height=98, steps=1)
    with av.open(io.BytesIO(outcome.files[0])) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.duration * stream.time_base == Fraction(frames, fps)
        assert (stream.average_rate, stream.frames) == (fps, frames)
        assert (stream.width, stream.height) == (66, 98)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert sum(1 for _ in container.decode(stream)) == frames
    metadata = outcome.metadata
    assert (metadata["fps"], metadata["frames"], metadata["codec"]) == (fps, frames, "h264")
    assert metadata["duration_seconds"] == frames / fps


async def test_the_same_request_gives_the_same_bytes_and_a_seed_of_its_own_is_shown(tmp_path: Path) -> None:
    first = await film(tmp_path, seed=None)
    again = await film(tmp_path, seed=first.public["seed"])
    assert first.files == again.files
    assert first.artifacts[0].seed == first.public["seed"]
    assert first.artifacts[0].sha256 == again.artifacts[0].sha256


async def test_what_is_published_and_shown(tmp_path: Path) -> None:
    outcome = await film(tmp_path)
    [artifact] = outcome.artifacts
    assert (artifact.content_type, artifact.width, artifact.height) == ("video/mp4", 96, 64)
    assert artifact.path.startswith("videos/")
    assert artifact.path.endswith("/0.mp4")
    expected = {
        "duration_seconds": 1,
        "fps": 8,
        "input_image_path": "in.png",
        "motion_bucket_id": 127,
        "cfg_scale": 1.0,
    }
    assert outcome.public.items() >= (expected | {"result_video_path": artifact.path}).items()
    assert isinstance(outcome.events[0], Started)
    assert outcome.metadata["inputs"].keys() == {"in.png"}
    assert max(event.fraction for event in outcome.events if isinstance(event, Progress)) == 1.0


class Watched:
    """The tiny model, and what it was asked for."""

    name = "watched"

    def __init__(self) -> None:
        self.requests: list[VideoRequest] = []
        self.clips: list[list[Image.Image]] = []

    def prepare(self, request: VideoRequest) -> Any:
        self.requests.append(request)
        return tiny_ltx().prepare(request)

    def denoise(self, prepared: Any, on_step: Any) -> Any:
        return tiny_ltx().denoise(prepared, on_step)

    def decode(self, latents: Any) -> list[Image.Image]:
        self.clips.append(tiny_ltx().decode(latents))
        return self.clips[-1]


async def test_a_long_clip_is_drawn_in_chunks_that_go_on_from_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_generation, "CHUNK_FRAMES", 10)
    model = Watched()
    outcome = await film(tmp_path, model, duration_seconds=3, fps=8)
    assert [request.frames for request in model.requests] == [8, 9, 9]
    assert [request.seed for request in model.requests] == [5, 6, 7]
    for clip, request in zip(model.clips, model.requests[1:], strict=False):
        assert request.image is clip[-1]
    shown = frames_of(outcome)
    expected = [frame for index, clip in enumerate(model.clips) for frame in clip[int(index > 0) :]]
    assert len(shown) == len(expected) == 24
    errors = [np.abs(one - np.asarray(other).astype(float)).mean() for one, other in zip(shown, expected, strict=True)]
    assert max(errors) < 8
    assert outcome.metadata["chunks"] == 3


@pytest.mark.parametrize("frames", [1, 2, 159, 160, 161, 320, 321, 3600])
@pytest.mark.parametrize("fps", [1, 12, 24, 60])
def test_chunks_are_bounded_and_leave_no_crumbs(frames: int, fps: int) -> None:
    chunks = video_generation._chunks(frames, fps)
    assert sum(chunks) == frames
    assert max(chunks) <= min(160, 10 * fps)
    assert max(chunks) - min(chunks) <= 1


@pytest.mark.parametrize(
    ("size", "fields", "expected"),
    [
        ((192, 128), {}, (768, 512)),
        ((1000, 1000), {}, (628, 628)),
        ((4000, 100), {}, (1536, 100)),
        ((900, 1600), {"width": 480}, (480, 854)),
        ((900, 1600), {"height": 480}, (270, 480)),
        ((900, 1600), {"width": 640, "height": 360}, (640, 360)),
    ],
)
async def test_the_size_follows_the_image_or_the_request(
    tmp_path: Path, size: tuple[int, int], fields: dict[str, Any], expected: tuple[int, int]
) -> None:
    spec = await spec_of(tmp_path, size, **fields)
    assert (spec["width"], spec["height"]) == expected


async def test_transparent_images_stand_on_white(tmp_path: Path) -> None:
    ghost = Image.new("RGBA", (96, 64), (0, 0, 0, 0))
    white = await film(tmp_path, image=Image.new("RGB", (96, 64), "white"))
    assert (await film(tmp_path, image=ghost)).files == white.files


async def test_the_names_of_the_third_document_work(tmp_path: Path) -> None:
    sample = {"base_image_url": "in.png", "motion_bucket_id": 127, "fps": 24, "duration": 3.0, "seed": 42}
    files = {"in.png": Image.new("RGB", (96, 64))}
    spec = await prepare(VideoGeneration(), sample, make_worker(tmp_path), files, roles=VIDEO)
    assert (spec["input_image_path"], spec["duration_seconds"], spec["fps"], spec["seed"]) == ("in.png", 3, 24, 42)
    assert type(spec["duration_seconds"]) is int


@pytest.mark.parametrize(("cfg_scale", "guidance"), [(0, 1.0), (0.5, 2.0), (1, 3.0), (2, 5.0)])
async def test_guidance_is_linear_around_what_the_model_is_made_for(
    tmp_path: Path, cfg_scale: float, guidance: float
) -> None:
    spec = await spec_of(tmp_path, cfg_scale=cfg_scale)
    assert video_generation._request(spec, Image.new("RGB", (8, 8))).guidance_scale == guidance


@pytest.mark.parametrize(("bucket", "motion"), [(1, 0.0), (64, 0.25), (127, 0.5), (191, 0.75), (255, 1.0)])
def test_the_usual_motion_is_in_the_middle(bucket: int, motion: float) -> None:
    assert video_generation._motion(bucket) == motion


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_seconds", 0),
        ("duration_seconds", 61),
        ("duration_seconds", 0.5),
        ("duration_seconds", float("nan")),
        ("duration", 61.0),
        ("cfg_scale", -0.1),
        ("cfg_scale", 2.1),
        ("fps", 0),
        ("fps", 61),
        ("motion_bucket_id", 0),
        ("motion_bucket_id", 256),
        ("seed", -1),
        ("steps", 0),
        ("width", 97),
        ("height", 2000),
        ("input_image_url", ""),
        ("no_such_field", 1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateVideoGenerationTask.model_validate({"input_image_url": "in.png", field: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


@pytest.mark.parametrize("pair", [("duration_seconds", "duration"), ("input_image_url", "base_image_url")])
def test_both_spellings_of_one_field_are_refused(pair: tuple[str, str]) -> None:
    values = {"duration_seconds": 3, "input_image_url": "in.png"}
    with pytest.raises(ValidationError, match=pair[1]):
        CreateVideoGenerationTask.model_validate(values | {pair[1]: values[pair[0]]})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input_image_url": None}, "input_image_url"),
        ({"input_image_data": "data:image/png;base64,AAAA"}, "input_image_data"),
        ({"input_image_url": "gone.png"}, "input_image_url"),
        ({"input_image_url": None, "input_image_data": "AAAA"}, "input_image_data"),
        ({"width": 1536, "height": 1024}, "width"),
        ({"height": 1536}, "height"),
    ],
)
async def test_what_cannot_be_a_clip_is_refused_by_name(tmp_path: Path, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await spec_of(tmp_path, **fields)
    assert caught.value.field == field


def left_behind() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("compute-clip-*"))


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


async def test_a_cancelled_clip_stops_at_its_next_step_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_generation, "CHUNK_FRAMES", 4)
    kind, model = VideoGeneration(), Watched()
    worker = make_worker(tmp_path / "home", model)
    files = {"in.png": scene((96, 64))}
    spec = await prepare(kind, {"input_image_url": "in.png"} | SMALL | {"duration_seconds": 60}, worker, files)
    async with aclosing(kind.run(Job(uuid.uuid4(), kind.name, 1, spec), worker.worker)) as events:
        async for event in events:
            if isinstance(event, Progress) and len(model.clips) >= 2:
                assert left_behind()
                break
    asked = len(model.requests)
    assert not left_behind()
    await asyncio.sleep(0.05)
    assert len(model.requests) == asked < 10
    assert (await film(tmp_path / "home")).artifacts, "the model is free again"


async def test_a_clip_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(Watched):
        def decode(self, latents: Any) -> list[Image.Image]:
            if self.clips:
                raise OutOfMemory("CUDA out of memory")
            return super().decode(latents)

    monkeypatch.setattr(video_generation, "CHUNK_FRAMES", 4)
    with pytest.raises(OutOfMemory):
        await film(tmp_path / "home", Small())
    assert not left_behind()
