"""Samples are what diffusers draws with the same seed, and drawing them leaves the training as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from compute.training.models.flux import FAMILY
from compute.training.models.flux.network import load_flux_denoiser
from tests.unit.training.loop.rig import CAPTIONS, CPU, Bench, Recorder, Watched, learned, spec_of

PROMPTS = (CAPTIONS[1], CAPTIONS[0])
SAMPLES = {"prompts": PROMPTS, "every": 3, "steps": 3, "seed": 11, "guidance_scale": 3.0}
FULL = {"training_type": "FULL", "steps": 6, "learning_rate": 3e-3, "samples": SAMPLES}


@pytest.fixture(scope="module")
def pipeline(bench: Bench) -> FluxPipeline:
    found = FluxPipeline.from_pretrained(bench.model, use_safetensors=True)
    found.set_progress_bar_config(disable=True)
    return found


def plain(pipeline: FluxPipeline, **arguments: Any) -> Any:
    """What diffusers' own pipeline draws: latents, unless the arguments say otherwise."""
    given: dict[str, Any] = {
        "prompt": PROMPTS[0],
        "width": 64,
        "height": 64,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        "generator": torch.Generator("cpu").manual_seed(11),
        "output_type": "latent",
        "max_sequence_length": 16,
    }
    return pipeline(**(given | arguments)).images


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
@pytest.mark.parametrize(("steps", "guidance"), [(1, 3.0), (5, 1.0), (5, 3.0)])
def test_they_are_what_diffusers_draws(
    bench: Bench, pipeline: FluxPipeline, size: tuple[int, int], steps: int, guidance: float
) -> None:
    width, height = size
    expected = plain(pipeline, width=width, height=height, num_inference_steps=steps, guidance_scale=guidance)
    spec = spec_of(samples=SAMPLES | {"steps": steps, "guidance_scale": guidance})
    denoiser = load_flux_denoiser(bench.model, spec, device=CPU, dtype=torch.float32)
    drawn = denoiser.denoise(bench.cache.prompt(PROMPTS[0]), spec, seed=11, size=size)
    assert drawn.shape == (1, 16, height // 8, width // 8)
    assert not drawn.requires_grad
    torch.testing.assert_close(FluxPipeline._pack_latents(drawn, *drawn.shape), expected, rtol=1e-4, atol=1e-4)


def test_their_pictures_are_those_of_diffusers(bench: Bench, pipeline: FluxPipeline) -> None:
    spec = spec_of(samples=SAMPLES)
    denoiser = load_flux_denoiser(bench.model, spec, device=CPU, dtype=torch.float32)
    latents = denoiser.denoise(bench.cache.prompt(PROMPTS[0]), spec, seed=11, size=(64, 64))
    drawn = FAMILY.decode(bench.model, latents, device=CPU)
    assert (drawn.mode, drawn.size) == ("RGB", (64, 64))
    assert _distance(drawn.tobytes(), plain(pipeline, output_type="pil")[0].tobytes()) <= 1


def test_they_come_every_so_often_and_at_the_end(bench: Bench) -> None:
    heard = Recorder()
    bench.train(spec_of(steps=7, samples=SAMPLES), heard)
    assert list(heard.samples) == [(step, index) for step in (3, 6, 7) for index in (0, 1)]
    assert len(set(heard.samples.values())) == 6


def test_the_same_seed_draws_the_same_picture(bench: Bench) -> None:
    """Nothing is learned, so that nothing changes."""
    one, other = Recorder(), Recorder()
    for heard in (one, other):
        bench.train(spec_of(learning_rate=1e-12, samples=SAMPLES | {"every": 2}), heard)
    assert one.samples == other.samples
    assert one.samples[2, 0] == one.samples[4, 0] != one.samples[2, 1]


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"ema_decay": 0.9, "precision": "bf16"}])
def test_they_leave_the_training_as_it_was(bench: Bench, tmp_path: Path, options: dict[str, Any]) -> None:
    watched = Watched()
    modes: list[bool] = []
    heard = Recorder(on_save=lambda _step: modes.append(watched.module.training))
    with_samples = bench.train(spec_of(save_every=2, samples=SAMPLES | {"every": 1}, **options), heard, watched.family)
    without = bench.train(spec_of(save_every=2, **options))
    assert with_samples.history == without.history
    expected, found = learned(without, tmp_path / "1"), learned(with_samples, tmp_path / "2")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert modes == [True, True]
    assert watched.module.training


def test_a_prompt_that_cannot_be_drawn_leaves_the_training_as_it_was(bench: Bench) -> None:
    watched = Watched()
    trainer = bench.trainer(spec_of(samples=SAMPLES | {"prompts": ("never encoded",)}), watched.family)
    with pytest.raises(ValueError, match="never encoded"):
        trainer.run(Recorder())
    assert watched.module.training


class TestResults:
    """What a training hands over draws its last sample again, in diffusers."""

    @pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}])
    def test_a_lora(self, bench: Bench, pipeline: FluxPipeline, tmp_path: Path, options: dict[str, Any]) -> None:
        heard = Recorder()
        asked = spec_of(steps=6, learning_rate=3e-2, samples=SAMPLES, **options)
        adapter = learned(bench.train(asked, heard), tmp_path)
        assert {weight.dtype for weight in adapter.values()} == {torch.float32}
        assert {len(weight) for name, weight in adapter.items() if name.endswith(".lora_A.weight")} == {4}
        before = plain(pipeline, output_type="pil")[0].tobytes()
        pipeline.transformer.load_lora_adapter(adapter, prefix=None, adapter_name="learned")
        try:
            drawn = plain(pipeline, output_type="pil")[0].tobytes()
        finally:
            pipeline.transformer.delete_adapters("learned")
        assert _distance(drawn, heard.samples[6, 0]) <= 1
        assert _distance(before, heard.samples[6, 0]) > 8

    @pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}])
    def test_a_whole_network(
        self, bench: Bench, pipeline: FluxPipeline, tmp_path: Path, options: dict[str, Any]
    ) -> None:
        heard = Recorder()
        bench.train(spec_of(**FULL, **options), heard).export(tmp_path)
        loaded = FluxTransformer2DModel.from_pretrained(tmp_path / "transformer", dtype=torch.float32)
        whole = FluxPipeline.from_pipe(pipeline, transformer=loaded)
        whole.set_progress_bar_config(disable=True)
        before = plain(pipeline, output_type="pil")[0].tobytes()
        drawn = plain(whole, output_type="pil")[0].tobytes()
        assert _distance(drawn, heard.samples[6, 0]) <= 1
        assert _distance(before, heard.samples[6, 0]) > 24

    def test_a_whole_network_in_bfloat16(self, bench: Bench, tmp_path: Path) -> None:
        heard, asked = Recorder(), spec_of(**FULL, precision="bf16", ema_decay=0.9)
        bench.train(asked, heard).export(tmp_path)
        (tmp_path / "scheduler").symlink_to(bench.model / "scheduler")
        denoiser = load_flux_denoiser(tmp_path, asked, device=CPU, dtype=torch.bfloat16)
        latents = denoiser.denoise(bench.cache.prompt(PROMPTS[0]), asked, seed=11, size=(64, 64))
        assert FAMILY.decode(bench.model, latents, device=CPU).tobytes() == heard.samples[6, 0]


def _distance(one: bytes, other: bytes) -> int:
    """The largest difference of two pictures, of 255."""
    first, second = (np.frombuffer(picture, np.uint8).astype(int) for picture in (one, other))
    return int(np.abs(first - second).max())
