"""One tiny FLUX for the whole folder: loading it is the slow part."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from compute.pipelines import ModelConfig, load
from compute.pipelines.flux.model import FluxModel
from compute.pipelines.tiny.build import build_tiny, write_tiny_lora
from compute.worker.protocol import GenerateRequest, LoraSelection

BASE = GenerateRequest(prompt="a red fox in the snow", width=64, height=64, steps=2, guidance_scale=3.5, seed=7)

Draw = Callable[..., np.ndarray]
MakeLora = Callable[..., LoraSelection]


def silent(_done: int, _total: int) -> None:
    """An `on_step` that lets the run go on."""


@pytest.fixture(scope="session")
def models_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    build_tiny(root)
    return root


@pytest.fixture(scope="session")
def tiny_folder(models_root: Path) -> Path:
    return models_root / "tiny-flux"


@pytest.fixture(scope="session")
def flux(models_root: Path) -> FluxModel:
    return cast("FluxModel", load(ModelConfig(device="cpu", lora_cache=4), models_root))


@pytest.fixture
def draw(flux: FluxModel) -> Draw:
    """Draw the base request with some fields changed; pixels as int, (height, width, 3)."""

    def run(**changes: Any) -> np.ndarray:
        return np.asarray(flux.generate(replace(BASE, **changes), silent)).astype(int)

    return run


@pytest.fixture(scope="session")
def make_lora(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeLora:
    folder = tmp_path_factory.mktemp("loras")

    def make(seed: int, weight: float = 1.0, **options: Any) -> LoraSelection:
        path = write_tiny_lora(folder / f"{seed}.safetensors", tiny_folder, seed=seed, **options)
        return LoraSelection(name=f"lora-{seed}", path=path, weight=weight, field=f"lora_{seed}")

    return make


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A disc on a colour gradient, larger than what is drawn from it."""
    y, x = np.mgrid[0:128, 0:128]
    disc = ((x - 64) ** 2 + (y - 64) ** 2 < 1500) * 255
    return Image.fromarray(np.stack([2 * x, 2 * y, disc], axis=-1).astype(np.uint8))
