"""One tiny FLUX with short prompts and one cache of pictures for the whole folder."""

import json
from pathlib import Path

import pytest
import torch

from compute.pipelines.tiny.build import build_tiny_flux
from compute.training.models.base import Encoders
from compute.training.models.flux import FAMILY
from tests.unit.training.loop.rig import CPU, Bench, fill_cache, fill_lines

_TOKENS = 16
"""Instead of 512, of which a step of this model would mostly consist."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-flux"
    build_tiny_flux(folder)
    config = folder / "tokenizer_2" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": _TOKENS}))
    return folder


@pytest.fixture(scope="session")
def encoders(model: Path) -> Encoders:
    return FAMILY.load_encoders(model, device=CPU, dtype=torch.float32)


@pytest.fixture(scope="session")
def bench(model: Path, encoders: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(model, fill_cache(encoders, tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """What `Lines` learns: seven pictures of one number each."""
    folder = tmp_path_factory.mktemp("lines")
    return Bench(folder, fill_lines(folder, [0.5, -1.0, 2.0, 0.25, 1.5, -0.75, 1.0]))
