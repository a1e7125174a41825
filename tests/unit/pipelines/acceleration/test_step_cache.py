"""Steps that reuse the step before them: how many, and that nothing of one request reaches the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from compute.errors import Interrupted
from compute.pipelines import ModelConfig, load
from compute.pipelines.acceleration.step_cache import LEAST_STEPS
from compute.pipelines.flux.model import FluxModel
from compute.worker.protocol import GenerateRequest
from tests.unit.pipelines.conftest import BASE, silent

LONG = replace(BASE, steps=28)
GUIDED = {"negative_prompt": "blurry", "true_cfg_scale": 3.0}


@pytest.fixture(scope="module")
def models(models_root: Path) -> dict[str, FluxModel]:
    levels = ("off", "light", "balanced", "strong")
    settings = [{"device": "cpu", "step_cache": level, "lora_rank": 0} for level in levels]
    return {
        level: cast("FluxModel", load(ModelConfig.model_validate(setting), models_root))
        for level, setting in zip(levels, settings, strict=True)
    }


@contextmanager
def counting_blocks(model: FluxModel) -> Iterator[list[None]]:
    """An entry for every block that computes: seen from inside, below whatever may skip it."""
    calls: list[None] = []
    transformer = model.pipeline.transformer
    blocks = [module for module in transformer.modules() if type(module).__name__ in transformer._repeated_blocks]
    handles = [block.attn.register_forward_hook(lambda *_: calls.append(None)) for block in blocks]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def block_calls(model: FluxModel, request: GenerateRequest) -> int:
    with counting_blocks(model) as calls:
        model.denoise(model.prepare(request), silent)
    return len(calls)


def latents(model: FluxModel, request: GenerateRequest) -> torch.Tensor:
    return model.denoise(model.prepare(request), silent).packed


def pixels(model: FluxModel, request: GenerateRequest) -> np.ndarray:
    return np.asarray(model.generate(request, silent))


@pytest.mark.parametrize(("steps", "guided"), [(28, {}), (50, {}), (28, GUIDED)])
def test_each_level_saves_its_share_of_block_calls(
    models: dict[str, FluxModel], steps: int, guided: dict[str, Any]
) -> None:
    request = replace(LONG, steps=steps, **guided)
    calls = {level: block_calls(model, request) for level, model in models.items()}
    assert calls["off"] == 4 * steps * (2 if guided else 1)
    saved = {level: 1 - count / calls["off"] for level, count in calls.items()}
    assert 0.30 <= saved["light"] < 0.45
    assert 0.55 <= saved["balanced"] < 0.65
    assert 0.65 <= saved["strong"] < 0.75


def test_the_share_is_the_same_for_every_image(models: dict[str, FluxModel]) -> None:
    requests = [replace(LONG, seed=seed, prompt=f"number {seed}", guidance_scale=float(seed)) for seed in range(3)]
    assert len({block_calls(models["strong"], request) for request in requests}) == 1


def test_image_to_image_saves_as_well(models: dict[str, FluxModel], picture: Image.Image) -> None:
    for guided in ({}, GUIDED):
        request = replace(LONG, image=picture, strength=0.6, **guided)
        assert block_calls(models["balanced"], request) <= 0.45 * block_calls(models["off"], request)


@pytest.mark.parametrize("changes", [{}, GUIDED, {"strength": 0.6}, {"strength": 0.6, **GUIDED}], ids=str)
def test_the_latents_stay_near_those_of_every_step_computed(
    models: dict[str, FluxModel], picture: Image.Image, changes: dict[str, Any]
) -> None:
    request = replace(LONG, image=picture if "strength" in changes else None, **changes)
    exact = latents(models["off"], request).flatten()
    near = {level: torch.cosine_similarity(latents(model, request).flatten(), exact, dim=0).item()
            for level, model in models.items()}  # fmt: skip
    assert near["off"] > 1 - 1e-6
    # Random weights are a weak stand-in for pictures. One cache for both forwards of true guidance gives 0.93 at best.
    assert near["light"] > 0.99
    assert near["balanced"] > 0.97
    assert near["strong"] > 0.97


def test_short_schedules_are_computed_in_full(models: dict[str, FluxModel]) -> None:
    request = replace(BASE, steps=LEAST_STEPS - 1)
    assert np.array_equal(pixels(models["strong"], request), pixels(models["off"], request))


def test_the_same_request_gives_the_same_bytes_whatever_ran_before(
    models: dict[str, FluxModel], picture: Image.Image
) -> None:
    model = models["balanced"]
    first = pixels(model, LONG)
    for other in (
        replace(LONG, seed=99, width=96, height=48),
        replace(LONG, steps=20, **GUIDED),
        replace(LONG, image=picture, strength=0.4),
        replace(LONG, image=picture, strength=0.9, **GUIDED),
        replace(LONG, steps=3),
    ):
        pixels(model, other)
        assert np.array_equal(pixels(model, LONG), first)


@pytest.mark.parametrize("at", [1, 9, 27])
def test_a_stopped_run_leaves_nothing_behind(models: dict[str, FluxModel], at: int) -> None:
    model = models["strong"]
    first = pixels(model, LONG)

    def stop(done: int, _total: int) -> None:
        if done == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        model.generate(replace(LONG, seed=5, **GUIDED), stop)
    assert np.array_equal(pixels(model, LONG), first)


def test_progress_counts_reused_steps_too(models: dict[str, FluxModel], picture: Image.Image) -> None:
    seen: list[tuple[int, int]] = []
    models["strong"].generate(
        replace(LONG, image=picture, strength=0.5), lambda done, total: seen.append((done, total))
    )
    assert seen == [(done, 14) for done in range(1, 15)]
