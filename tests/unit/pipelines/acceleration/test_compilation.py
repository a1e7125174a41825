"""Compiled blocks: one compilation for all requests, the same pictures, and code that the next process finds."""

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch._dynamo.utils import counters

from compute.pipelines import ModelConfig, load
from compute.pipelines.acceleration.compilation import CompiledBlocks, example_inputs
from compute.pipelines.flux.model import FluxModel
from compute.pipelines.tiny.flux import save_tiny_flux
from compute.worker.protocol import GenerateRequest
from tests.unit.pipelines.conftest import BASE, silent
from tests.unit.pipelines.flux.rig import right_half

# PyTorch's own, from inside its compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

SETTINGS = ModelConfig(device="cpu", compile="default", step_cache="balanced", lora_rank=0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def elsewhere(models_root: Path, cache: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """What the first process found in the cache and compiled, and what the next one did."""
    return compiled_elsewhere(models_root, cache), compiled_elsewhere(models_root, cache)


@pytest.fixture(scope="module")
def compiled(models_root: Path, cache: Path, elsewhere: object) -> Iterator[FluxModel]:
    """A compiled model. Its C++ is that of the processes `elsewhere`, so that it lies in the cache as machine code."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", "restored afterwards")
        environment.setenv("TRITON_CACHE_DIR", "restored afterwards")
        torch._dynamo.reset()
        yield cast("FluxModel", load(SETTINGS.model_copy(update={"compile_cache": cache}), models_root))
        torch._dynamo.reset()


@pytest.fixture
def no_recompiling(compiled: FluxModel) -> Iterator[FluxModel]:
    """The compiled model, which from now on refuses to compile anything."""
    torch.compiler.set_stance("fail_on_recompile")
    try:
        yield compiled
    finally:
        torch.compiler.set_stance("default")


def mixed_requests(picture: Image.Image) -> list[GenerateRequest]:
    choose = random.Random(7)
    sizes = [48, 64, 80, 96, 112, 128]
    return [
        replace(
            BASE,
            seed=number,
            prompt="word " * choose.randrange(60),
            width=choose.choice(sizes),
            height=choose.choice(sizes),
            steps=18 if number % 10 == 0 else choose.choice([1, 2]),
            guidance_scale=choose.uniform(1, 7),
            image=(image := choose.choice([None, picture])),
            mask=right_half() if image is not None and number % 2 else None,
            strength=choose.uniform(0.2, 1),
            negative_prompt=choose.choice([None, "blurry"]),
            true_cfg_scale=choose.choice([1.0, 2.5]),
        )
        for number in range(50)
    ]


def test_fifty_mixed_requests_compile_nothing_anew(no_recompiling: FluxModel, picture: Image.Image) -> None:
    for request in mixed_requests(picture):
        assert no_recompiling.generate(request, silent).size == (request.width, request.height)


def test_compiled_blocks_draw_the_same_picture(no_recompiling: FluxModel, flux: FluxModel) -> None:
    request = replace(BASE, steps=8, width=128)
    ours, eager = (model.denoise(model.prepare(request), silent).packed for model in (no_recompiling, flux))
    assert (ours - eager).abs().max() < 1e-3
    assert torch.cosine_similarity(ours.flatten(), eager.flatten(), dim=0) > 0.999_999


def test_compiled_or_not_the_same_request_gives_the_same_bytes(no_recompiling: FluxModel) -> None:
    request = replace(BASE, steps=20)
    first = np.asarray(no_recompiling.generate(request, silent))
    no_recompiling.generate(replace(request, seed=8, width=192), silent)
    assert np.array_equal(first, np.asarray(no_recompiling.generate(request, silent)))


def test_the_next_process_finds_the_compiled_code(elsewhere: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (_, compiled_first), (hits, misses) = elsewhere
    assert compiled_first > 0
    assert hits > 0
    assert misses == 0


def compiled_elsewhere(models_root: Path, cache: Path) -> tuple[int, int]:
    """Graphs that a process of its own finds in the cache, and those that it compiles.

    Libraries that this process has loaded would be part of what its graphs are looked up by.
    """
    code = (
        "from pathlib import Path; from compute.pipelines import ModelConfig, load;"
        f"load(ModelConfig(device='cpu', compile='default', step_cache='balanced', lora_rank=0,"
        f" compile_cache={str(cache)!r}), Path({str(models_root)!r}));"
        "from torch._dynamo.utils import counters; found = counters['inductor'];"
        "print(found['fxgraph_cache_hit'], found['fxgraph_cache_miss'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    hits, misses = done.stdout.split()
    return int(hits), int(misses)


def test_nobody_else_may_write_what_is_loaded_as_code(compiled: FluxModel, cache: Path) -> None:
    assert (cache / "inductor").stat().st_mode & 0o077 == 0


def test_blocks_run_as_they_are_while_foreign_layers_are_in_them(tmp_path: Path) -> None:
    from diffusers import FluxTransformer2DModel

    save_tiny_flux(tmp_path / "model")
    transformer = FluxTransformer2DModel.from_pretrained(tmp_path / "model" / "transformer")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", "restored afterwards")
        environment.setenv("TRITON_CACHE_DIR", "restored afterwards")
        blocks = CompiledBlocks(transformer, SETTINGS.model_copy(update={"compile_cache": tmp_path}))
    inputs = example_inputs(transformer, image_tokens=6, text_tokens=5, device=torch.device("cpu"), dtype=torch.float32)
    before = counters["stats"]["unique_graphs"]
    with torch.no_grad(), blocks.as_they_are(True):
        transformer(**inputs)
    assert counters["stats"]["unique_graphs"] == before
