"""Compiled blocks meet every size and every set of LoRAs without being compiled again."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from tests.unit.pipelines.lora.rig import Rig, load_pipeline, make_plain, run, static_loras

# Tokens of small and large images. None is one of the model's widths, which a compiler might take for the same number.
SIZES = (6, 21, 37, 90, 203)


@pytest.fixture(scope="module")
def rig(tiny_folder: Path) -> Iterator[Rig]:
    pipeline = load_pipeline(tiny_folder)
    loras = static_loras(pipeline)
    torch._dynamo.reset()
    # Graphs and guards are the compiler's own; only the code generator behind them, which is slow, is left out.
    pipeline.transformer.compile_repeated_blocks(fullgraph=True, dynamic=True, backend="eager")
    yield Rig(pipeline, loras, load_pipeline(tiny_folder))
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def graphs(rig: Rig) -> int:
    """Warm the blocks up, without LoRAs and with; how many graphs the way without them needs."""
    counters.clear()
    rig.forward((), tokens=SIZES[1])
    without: int = counters["stats"]["unique_graphs"]
    with rig.loras.for_warm_up():
        run(rig.pipeline.transformer, SIZES[1])
    return without


def test_fifty_mixed_requests_compile_nothing_after_the_warm_up(rig: Rig, graphs: int, tmp_path: Path) -> None:
    pool = [
        make_plain(tmp_path / f"{rank}.safetensors", rig.card, rank=rank, alpha=4.0, weight=0.5, seed=rank)
        for rank in (2, 4, 7, 11, 16)
    ]
    warm = counters["stats"]["unique_graphs"]
    assert graphs < warm <= 2 * graphs
    choose = random.Random(5)
    seen: set[tuple[str, ...]] = set()
    with torch.compiler.set_stance("fail_on_recompile"):
        for _ in range(50):
            chosen = choose.sample(pool, choose.randint(0, 4))
            tokens = choose.choice(SIZES)
            drawn = rig.forward(chosen, tokens)
            assert chosen or (drawn - rig.base(tokens)).abs().max() <= 1e-5
            seen.add(tuple(sorted(one.name for one in chosen)))
    assert counters["stats"]["unique_graphs"] == warm
    assert len(seen) > 10
    assert () in seen


@pytest.mark.usefixtures("graphs")
def test_the_compiled_way_computes_what_peft_computes(rig: Rig, tmp_path: Path) -> None:
    chosen = [
        make_plain(tmp_path / f"peft{rank}.safetensors", rig.card, rank=rank, weight=weight, seed=rank)
        for rank, weight in ((4, 0.8), (16, -0.5))
    ]
    with rig.peft(chosen) as peft, torch.compiler.set_stance("fail_on_recompile"):
        assert (rig.forward(chosen) - peft()).abs().max() <= 1e-5


@pytest.mark.usefixtures("graphs")
def test_the_warm_up_computes_the_base(rig: Rig) -> None:
    with rig.loras.for_warm_up():
        assert (run(rig.pipeline.transformer) - rig.base()).abs().max() <= 1e-5
