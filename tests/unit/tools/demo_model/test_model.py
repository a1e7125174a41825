"""The demo model draws what it is told, keeps what it should, and can be taught: judged by rules, not by itself."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from compute.pipelines import ModelConfig, load, resolve_model
from compute.pipelines.flux.model import FluxModel
from compute.training.cache import CachedImage, LatentCache, Manifest, write_manifest
from compute.training.export.lora import export_lora
from compute.training.loop.distributed import ProcessGroup
from compute.training.loop.trainer import Trainer
from compute.training.models.flux import FAMILY
from compute.training.preprocessing.encode import encode_images, encode_prompts
from compute.worker.protocol import GenerateRequest, LoraSelection
from compute.worker.stages import StageExecutor
from tests.unit.training.loop.rig import Recorder, spec_of
from tools.demo_model.classifier import classify
from tools.demo_model.evaluate import held_out_prompts
from tools.demo_model.scenes import NEW_GARMENT, Scene, random_scenes, render

CPU = torch.device("cpu")
REQUEST = GenerateRequest(
    prompt="a red dress on a white background", width=128, height=128, steps=14, guidance_scale=3.5, seed=0
)


def silent(_done: int, _total: int) -> None:
    """An `on_step` that lets the run go on."""


@pytest.fixture(scope="module")
def models_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def folder(models_root: Path) -> Path:
    found = resolve_model(ModelConfig(model="demo-flux"), models_root)
    assert isinstance(found, Path)
    return found


@pytest.fixture(scope="module")
def model(folder: Path, models_root: Path) -> FluxModel:
    return cast("FluxModel", load(ModelConfig(model="demo-flux", device="cpu"), models_root))


def test_it_is_small_enough_to_come_with_the_package(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 16e6


def test_the_first_picture_of_a_newcomer_is_a_red_dress_on_white(model: FluxModel) -> None:
    seen = classify(model.generate(REQUEST, silent))
    assert (seen.color, seen.garment, seen.background) == ("red", "dress", "white")


def test_held_out_combinations_are_drawn_as_they_are_told(model: FluxModel) -> None:
    """Combinations of garment, colour and background that no training picture showed."""
    wanted = held_out_prompts(40)
    seen = [
        classify(model.generate(replace(REQUEST, prompt=prompt, seed=seed), silent))
        for seed, (_, prompt) in enumerate(wanted)
    ]
    right = [
        (one.garment, one.color, one.background) == (scene.garment, scene.color, scene.background)
        for one, (scene, _) in zip(seen, wanted, strict=True)
    ]
    assert sum(right) >= 36


@pytest.mark.parametrize("size", [(1024, 1024), (768, 1024)])
async def test_a_large_picture_is_drawn_small_and_shows_what_it_should(model: FluxModel, size: tuple[int, int]) -> None:
    """At the default number of steps, as a request without a size gets it: drawn at 128 pixels and enlarged."""
    stages = StageExecutor(model)
    wanted = held_out_prompts(10)
    right = 0
    for seed, (scene, prompt) in enumerate(wanted):
        request = replace(REQUEST, prompt=prompt, seed=seed, width=size[0], height=size[1], steps=28)
        stepper = stages.denoise(await stages.prepare(request))
        assert [step async for step in stepper.steps()][-1] == (28, 28)
        picture = await stages.decode(stepper.result)
        assert picture.size == size
        seen = classify(picture)
        right += (seen.garment, seen.color, seen.background) == (scene.garment, scene.color, scene.background)
    stages.close()
    assert right >= 8


def test_image_to_image_keeps_more_the_less_noise_it_gets(model: FluxModel) -> None:
    start = render(Scene("dress", "red", "white"), 128)
    changed = replace(REQUEST, prompt="a blue dress on a white background", image=start)
    little, much = (model.generate(replace(changed, strength=strength), silent) for strength in (0.2, 0.95))
    assert classify(little).color == "red"
    assert classify(much).color == "blue"
    assert _difference(little, start) < _difference(much, start)


def test_inpainting_draws_inside_the_mask_and_keeps_the_rest(model: FluxModel) -> None:
    start = render(Scene("dress", "red", "white"), 128)
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 64, 128, 128))
    changed = model.generate(
        replace(REQUEST, prompt="a blue dress on a white background", image=start, mask=mask), silent
    )
    through_vae = model.generate(replace(REQUEST, image=start, strength=0.001), silent)
    upper = (0, 0, 128, 48)
    assert _difference(changed.crop(upper), through_vae.crop(upper)) < 4
    lower = (0, 72, 128, 128)
    assert _difference(changed.crop(lower), start.crop(lower)) > 10


def test_a_lora_of_eight_pictures_teaches_a_new_garment(model: FluxModel, folder: Path, tmp_path: Path) -> None:
    taught = list(islice(random_scenes(3, 8, garments=(NEW_GARMENT,)), 8))
    lora = LoraSelection("kimono", _train(taught, folder, tmp_path), 1.0, field="product_model_path")
    colors = ("red", "blue", "green", "purple", "orange", "brown", "yellow", "pink")
    asked = [
        replace(REQUEST, prompt=f"a {color} {NEW_GARMENT} on a white background", seed=seed)
        for seed, color in enumerate(colors)
    ]
    plain = [classify(model.generate(request, silent)) for request in asked]
    learned = [classify(model.generate(replace(request, loras=(lora,)), silent)) for request in asked]
    assert NEW_GARMENT not in {seen.garment for seen in plain}
    assert sum(seen.garment == NEW_GARMENT for seen in learned) >= 6
    # What it knew before, it still knows.
    assert sum(seen.color == color for seen, color in zip(learned, colors, strict=True)) >= 7


def _train(taught: Sequence[Scene], folder: Path, work: Path) -> Path:
    captions = [f"a {scene.color} {scene.garment} on a {scene.background} background" for scene in taught]
    encoders = FAMILY.load_encoders(folder, device=CPU, dtype=torch.float32)
    cache = work / "cache"
    encode_images(encoders, [(number, render(scene, 128), None) for number, scene in enumerate(taught)], cache, 0)
    encode_prompts(encoders, list(enumerate([*captions, ""])), cache, 0)
    pictures = tuple(CachedImage(caption, 128, 128, number) for number, caption in enumerate(captions))
    write_manifest(cache, Manifest(pictures, (*captions, "")))
    spec = spec_of(
        learning_rate=3e-3,
        steps=120,
        batch_size=8,
        rank=16,
        save_every=120,
        timesteps="shifted",
        model={"name": "default", "source": "demo-flux", "resolution": 128},
    )
    trainer = Trainer(spec, FAMILY, folder, LatentCache(cache, CPU), ProcessGroup(0, 1, CPU))
    trainer.run(Recorder(work))
    losses = trainer.history.losses
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    trainer.export(work)
    from safetensors.torch import load_file

    file = work / "kimono.safetensors"
    export_lora(load_file(work / "adapter.safetensors"), file, spec, steps=120, date=datetime(2026, 1, 1, tzinfo=UTC))
    return file


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of pixels, from 0 to 255."""
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean())
