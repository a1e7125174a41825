"""LTX-Video with the tiny model: every field of a request counts, and the frames are exactly those asked for."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXConditionPipeline, LTXVideoTransformer3DModel
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from PIL import Image

from compute.errors import Interrupted, InvalidInput, OutOfMemory
from compute.pipelines import ModelConfig
from compute.pipelines.ltx.model import LtxVideoModel, load_ltx_video
from compute.worker.protocol import VideoRequest
from tests.patience import PATIENCE
from tests.unit.pipelines.conftest import silent

Film = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def folder(models_root: Path) -> Path:
    return models_root / "tiny-ltx-video"


@pytest.fixture(scope="module")
def ltx(folder: Path) -> LtxVideoModel:
    return load_ltx_video(ModelConfig(model="tiny-ltx-video", family="ltx-video", device="cpu"), folder)


@pytest.fixture(scope="module")
def base(picture: Image.Image) -> VideoRequest:
    return VideoRequest(
        image=picture,
        prompt="a red fox in the snow",
        width=96,
        height=64,
        frames=17,
        fps=24,
        steps=3,
        guidance_scale=3.0,
        seed=7,
    )


@pytest.fixture
def film(ltx: LtxVideoModel, base: VideoRequest) -> Film:
    """Draw the base request with some fields changed; pixels as float, (frames, height, width, 3)."""

    def run(**changes: Any) -> np.ndarray:
        frames = ltx.generate(replace(base, **changes), silent)
        return np.stack([np.asarray(frame) for frame in frames]).astype(float)

    return run


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference per pixel and channel, of 255."""
    return float(np.abs(one - other).mean())


def test_the_same_request_gives_the_same_frames(film: Film) -> None:
    assert np.array_equal(film(), film())


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue car"},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 1.0},
        {"guidance_scale": 5.0},
        {"seed": 8},
        {"steps": 5},
        {"fps": 12},
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items()),
)
def test_every_field_changes_the_clip(film: Film, change: dict[str, Any]) -> None:
    assert distance(film(), film(**change)) > 0.5


def test_the_negative_prompt_needs_guidance(film: Film) -> None:
    assert np.array_equal(film(guidance_scale=1.0), film(guidance_scale=1.0, negative_prompt="blurry"))


def test_the_clip_begins_with_the_image(film: Film, picture: Image.Image) -> None:
    """The tiny VAE shows blocks of 32 pixels in their average colour."""

    def blocks(image: Image.Image) -> np.ndarray:
        small = image.resize((96, 64), Image.Resampling.LANCZOS)
        return np.asarray(small).astype(float).reshape(2, 32, 3, 32, 3).mean(axis=(1, 3))

    turned = picture.rotate(180)
    begins = {side: film(image=image)[0] for side, image in (("up", picture), ("down", turned))}
    for side, image in (("up", picture), ("down", turned)):
        shown = begins[side].reshape(2, 32, 3, 32, 3).mean(axis=(1, 3))
        right, wrong = (distance(shown, blocks(other)) for other in (image, turned if image is picture else picture))
        assert right < wrong / 2
        assert np.corrcoef(shown.ravel(), blocks(image).ravel())[0, 1] > 0.9


def test_the_image_counts_after_the_first_frame(film: Film, picture: Image.Image) -> None:
    assert distance(film()[8:], film(image=picture.rotate(180))[8:]) > 1


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_more_motion_leads_further_from_what_the_image_alone_says(film: Film, seed: int) -> None:
    """The dial is monotonic. Random weights have no idea of movement, so that itself cannot be measured here."""
    still = film(motion=0.0, seed=seed)
    steps = [distance(film(motion=motion, seed=seed), still) for motion in (0.1, 0.25, 0.5, 0.75, 1.0)]
    assert steps == sorted(steps)
    assert steps[0] > 0.01
    assert steps[-1] > 3 * steps[0]


@pytest.mark.parametrize(
    ("frames", "fps", "width", "height"),
    [
        (1, 24, 64, 64),
        (2, 24, 64, 64),
        (9, 30, 64, 32),
        (10, 24, 98, 66),
        (24, 24, 62, 100),
        (5, 5, 64, 64),
        (3, 1, 32, 32),
    ],
)
def test_frames_and_size_are_exact(film: Film, frames: int, fps: int, width: int, height: int) -> None:
    """Neither the model's 8n + 1 frames nor its grid of 32 pixels shows."""
    assert film(frames=frames, fps=fps, width=width, height=height).shape == (frames, height, width, 3)


def test_a_slow_clip_is_every_so_manieth_frame_of_a_faster_one(film: Film) -> None:
    assert np.array_equal(film(fps=5, frames=6), film(fps=15, frames=17)[::3][:6])


def test_it_draws_what_the_pipeline_of_diffusers_draws(
    ltx: LtxVideoModel, base: VideoRequest, folder: Path, picture: Image.Image
) -> None:
    """Without noise on the image; with it, ours leaves it out of the first frame at the end."""
    pipeline = LTXConditionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    start = picture.resize((96, 64), Image.Resampling.LANCZOS)
    expected = pipeline(
        image=start,
        prompt=base.prompt,
        negative_prompt="blurry",
        width=96,
        height=64,
        num_frames=17,
        frame_rate=24,
        num_inference_steps=4,
        # The pipeline's own default, as a list: as a tensor it makes numpy warn.
        timesteps=(linear_quadratic_schedule(4) * 1000).tolist(),
        guidance_scale=3.0,
        image_cond_noise_scale=0.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).frames
    request = replace(base, steps=4, negative_prompt="blurry", motion=0.0)
    found = ltx.denoise(ltx.prepare(request), silent).latents
    assert torch.allclose(found, expected, atol=1e-4)


def test_progress_counts_the_steps(ltx: LtxVideoModel, base: VideoRequest) -> None:
    seen: list[tuple[int, int]] = []
    ltx.generate(base, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("error", [Interrupted(), torch.OutOfMemoryError("20 GiB")], ids=["stopped", "exhausted"])
def test_a_draw_that_ends_badly_leaves_the_model_as_it_was(
    ltx: LtxVideoModel, base: VideoRequest, film: Film, error: Exception
) -> None:
    before = film()

    def fail(done: int, _total: int) -> None:
        if done == 2:
            raise error

    with pytest.raises((Interrupted, OutOfMemory)) as caught:
        ltx.generate(replace(base, seed=3), fail)
    assert isinstance(caught.value, Interrupted) or "CUDA out of memory" in caught.value.detail
    assert np.array_equal(before, film())


def test_stages_of_different_clips_run_at_the_same_time(ltx: LtxVideoModel, base: VideoRequest, film: Film) -> None:
    """From inside a draw, another clip is prepared and a third one decoded in other threads, to the end."""
    expected = film(), film(seed=8, prompt="unheard of")
    latents = ltx.denoise(ltx.prepare(base), silent)
    beside: list[Any] = []

    def on_step(done: int, _total: int) -> None:
        if done == 1:
            work = [
                threading.Thread(target=lambda: beside.append(ltx.decode(latents))),
                threading.Thread(target=lambda: ltx.prepare(replace(base, seed=9))),
            ]
            for thread in work:
                thread.start()
            for thread in work:
                thread.join(timeout=PATIENCE)

    second = ltx.decode(ltx.denoise(ltx.prepare(replace(base, seed=8, prompt="unheard of")), on_step))
    assert np.array_equal(expected[0], np.stack([np.asarray(frame) for frame in beside[0]]))
    assert np.array_equal(expected[1], np.stack([np.asarray(frame) for frame in second]))


def test_what_was_prepared_can_be_drawn_again(ltx: LtxVideoModel, base: VideoRequest) -> None:
    prepared = ltx.prepare(base)
    one, other = (ltx.denoise(prepared, silent).latents for _ in range(2))
    assert torch.equal(one, other)


def test_a_prompt_is_encoded_once(ltx: LtxVideoModel, base: VideoRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    encode = ltx._pipeline.encode_prompt
    monkeypatch.setattr(
        ltx._pipeline, "encode_prompt", lambda prompt, **options: asked.append(prompt) or encode(prompt, **options)
    )
    for seed in (1, 2):
        ltx.prepare(replace(base, prompt="only once", negative_prompt="never twice", seed=seed))
    assert sorted(asked) == ["never twice", "only once"]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"steps": 0}, "steps"), ({"frames": 0}, "frames"), ({"fps": 0}, "fps"), ({"motion": 1.1}, "motion_bucket_id")],
)
def test_an_impossible_request_is_refused(
    ltx: LtxVideoModel, base: VideoRequest, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        ltx.prepare(replace(base, **change))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"compile": "default"}, "compile"),
        ({"step_cache": "light"}, "step_cache"),
        ({"quantization": "fp8"}, "quantization"),
        ({"attention": "flash"}, "attention"),
    ],
)
def test_settings_that_it_does_not_follow_are_refused(folder: Path, settings: dict[str, str], words: str) -> None:
    config = ModelConfig.model_validate({"family": "ltx-video", "device": "cpu", **settings})
    with pytest.raises(ValueError, match=f"model.{words}: ltx-video"):
        load_ltx_video(config, folder)


def test_a_model_of_the_first_versions_is_refused(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    pipeline = LTXConditionPipeline.from_pretrained(folder)
    pipeline.scheduler.register_to_config(use_dynamic_shifting=True)
    pipeline.save_pretrained(old)
    with pytest.raises(ValueError, match=r"use 0\.9\.5 or newer"):
        load_ltx_video(ModelConfig(family="ltx-video", device="cpu"), old)


def test_large_frames_are_decoded_in_tiles(folder: Path, base: VideoRequest) -> None:
    settings = {"model": "tiny-ltx-video", "family": "ltx-video", "device": "cpu", "vae_tile": 256}
    model = load_ltx_video(ModelConfig.model_validate(settings), folder)
    frames = model.generate(replace(base, width=384, height=288, frames=2, steps=1), silent)
    assert [frame.size for frame in frames] == [(384, 288)] * 2
    assert model._pipeline.vae.tile_sample_stride_height == 224


def test_bfloat16_loads_and_draws(folder: Path, base: VideoRequest) -> None:
    config = ModelConfig(model="tiny-ltx-video", family="ltx-video", device="cpu", dtype="bfloat16")
    frames = load_ltx_video(config, folder).generate(replace(base, frames=3), silent)
    assert [frame.size for frame in frames] == [(96, 64)] * 3


def test_the_tiny_model_is_of_the_real_classes(folder: Path) -> None:
    pipeline = LTXConditionPipeline.from_pretrained(folder)
    assert isinstance(pipeline.transformer, LTXVideoTransformer3DModel)
    assert isinstance(pipeline.vae, AutoencoderKLLTXVideo)
    assert (pipeline.vae_spatial_compression_ratio, pipeline.vae_temporal_compression_ratio) == (32, 8)
    assert pipeline.vae.config.timestep_conditioning
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 4 * 2**20


def test_the_tiny_vae_gives_back_every_eighth_frame_and_moves_between_them(folder: Path) -> None:
    vae = LTXConditionPipeline.from_pretrained(folder).vae
    colours = torch.rand((1, 3, 17, 2, 3), generator=torch.Generator().manual_seed(1)) * 2 - 1
    clip = colours.repeat_interleave(32, dim=3).repeat_interleave(32, dim=4)
    with torch.no_grad():
        back = vae.decode(vae.encode(clip).latent_dist.mode(), torch.tensor([0.05])).sample
    assert torch.corrcoef(torch.stack([back[:, :, ::8].flatten(), clip[:, :, ::8].flatten()]))[0, 1] > 0.97
    assert torch.allclose(back[:, :, 4], (back[:, :, 0] + back[:, :, 8]) / 2, atol=0.05)
