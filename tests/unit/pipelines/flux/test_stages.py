"""The three stages of FLUX beside each other: each picture is the one it would be alone."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compute.errors import Interrupted, InvalidInput, OutOfMemory
from compute.pipelines.flux.model import FluxModel
from compute.worker.protocol import GenerateRequest, LoraSelection, OnStep
from tests.patience import PATIENCE
from tests.unit.pipelines.conftest import BASE, MakeLora, silent

Draw = Callable[..., np.ndarray]


class Line:
    """One thread for each stage, as a replica has them; results in the order of the requests."""

    def __init__(self, model: FluxModel) -> None:
        self._model = model
        self._threads = [ThreadPoolExecutor(1) for _ in range(3)]

    def draw_all(self, requests: list[GenerateRequest], on_step: OnStep = silent) -> list[np.ndarray]:
        preparing, drawing, decoding = self._threads
        prepared = [preparing.submit(self._model.prepare, request) for request in requests]
        drawn = [drawing.submit(lambda ahead=ahead: self._model.denoise(ahead.result(), on_step)) for ahead in prepared]
        decoded = [decoding.submit(lambda latents=latents: self._model.decode(latents.result())) for latents in drawn]
        return [np.asarray(image.result()).astype(int) for image in decoded]


@pytest.fixture
def line(flux: FluxModel) -> Line:
    return Line(flux)


def mixed(picture: Image.Image, loras: list[LoraSelection]) -> list[GenerateRequest]:
    """Requests that differ in everything that could leak from one into the next."""
    changes: list[dict[str, Any]] = [
        {},
        {"image": picture, "strength": 0.6, "seed": 8},
        {"prompt": "a wolf", "loras": (loras[0],)},
        {"width": 128, "height": 96, "steps": 4},
        {"negative_prompt": "blurry", "true_cfg_scale": 3.0, "loras": tuple(loras)},
        {"image": picture.rotate(90), "strength": 0.3, "seed": 8, "loras": (loras[1],)},
        {"prompt": "a bear", "seed": 9},
    ]
    return [replace(BASE, **change) for change in changes]


def test_pictures_are_the_same_alone_and_beside_others(
    flux: FluxModel, line: Line, picture: Image.Image, make_lora: MakeLora
) -> None:
    requests = mixed(picture, [make_lora(1), make_lora(2, 0.5)])
    alone = [np.asarray(flux.generate(request, silent)).astype(int) for request in requests]
    backwards = line.draw_all(requests[::-1])[::-1]
    for expected, found in zip(alone * 2, line.draw_all(requests) + backwards, strict=True):
        assert np.array_equal(expected, found)


def test_stages_of_different_requests_run_at_the_same_time(flux: FluxModel, draw: Draw, picture: Image.Image) -> None:
    """From inside a draw, another request is prepared and a third one decoded in other threads, to the end."""
    expected = draw(), draw(prompt="unheard of", seed=3), draw(image=picture, strength=0.5)
    latents = flux.denoise(flux.prepare(replace(BASE, image=picture, strength=0.5)), silent)
    beside: list[Any] = []

    def on_step(done: int, _total: int) -> None:
        if done == 1:
            with ThreadPoolExecutor(2) as threads:
                other = threads.submit(flux.prepare, replace(BASE, prompt="unheard of", seed=3))
                image = threads.submit(flux.decode, latents)
                beside.extend([other.result(timeout=PATIENCE), image.result(timeout=PATIENCE)])

    first = flux.decode(flux.denoise(flux.prepare(BASE), on_step))
    other, image = beside
    second = flux.decode(flux.denoise(other, silent))
    for wanted, found in zip(expected, (first, second, image), strict=True):
        assert np.array_equal(wanted, np.asarray(found))


def test_a_second_draw_waits_for_the_first(flux: FluxModel) -> None:
    """Whoever calls: two draws would share the scheduler."""
    inside, most = 0, 0
    lock = threading.Lock()

    def on_step(done: int, total: int) -> None:
        nonlocal inside, most
        with lock:
            inside += done == 1
            most = max(most, inside)
            inside -= done == total

    prepared = [flux.prepare(replace(BASE, seed=seed, steps=4)) for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda ahead: flux.denoise(ahead, on_step), prepared))
    assert most == 1


@pytest.mark.parametrize("error", [Interrupted(), torch.OutOfMemoryError("20 GiB")], ids=["stopped", "exhausted"])
def test_a_draw_that_ends_badly_leaves_those_beside_it_as_they_are(
    flux: FluxModel, line: Line, draw: Draw, error: Exception
) -> None:
    others = [replace(BASE, seed=seed) for seed in (1, 2)]
    expected = [draw(seed=seed) for seed in (1, 2)]
    waiting = flux.denoise(flux.prepare(others[0]), silent)
    ahead = flux.prepare(others[1])

    def fail(_done: int, _total: int) -> None:
        raise error

    with pytest.raises((Interrupted, OutOfMemory)):
        flux.denoise(flux.prepare(replace(BASE, seed=3)), fail)
    found = [flux.decode(waiting), flux.decode(flux.denoise(ahead, silent))]
    for wanted, image in zip(expected, found, strict=True):
        assert np.array_equal(wanted, np.asarray(image))


def test_a_damaged_lora_is_found_before_the_device_is_needed(
    flux: FluxModel, draw: Draw, tmp_path: Path, make_lora: MakeLora
) -> None:
    before = draw()
    good = make_lora(1)
    file = tmp_path / "cut.safetensors"
    file.write_bytes(good.path.read_bytes()[:-100])
    damaged = LoraSelection(name="cut", path=file, weight=1.0, field="style_model_path")
    with pytest.raises(InvalidInput) as caught:
        flux.prepare(replace(BASE, loras=(good, damaged)))
    assert caught.value.field == "style_model_path"
    assert np.array_equal(before, draw())


@pytest.mark.parametrize("change", [{"width": 72}, {"steps": 0}, {"strength": 0.0}])
def test_an_impossible_request_is_refused_before_the_device_is_needed(flux: FluxModel, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        flux.prepare(replace(BASE, **change))


def test_what_was_prepared_can_be_drawn_again(flux: FluxModel, draw: Draw, picture: Image.Image) -> None:
    """A prepared request holds the state of its noise, not the generator that the first draw would use up."""
    prepared = flux.prepare(replace(BASE, image=picture, strength=0.5))
    images = [np.asarray(flux.decode(flux.denoise(prepared, silent))) for _ in range(2)]
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], draw(image=picture, strength=0.5))


def test_the_prompt_is_encoded_once_for_many_images(flux: FluxModel) -> None:
    first, second = (flux.prepare(replace(BASE, prompt="only once", seed=seed)) for seed in (1, 2))
    assert first.conditioning["prompt_embeds"] is second.conditioning["prompt_embeds"]
