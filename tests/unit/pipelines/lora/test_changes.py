"""The bound of a LoRA's change: the same number as in exact arithmetic, of any format, size and range."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compute.lora.layouts import LoraMethod, NotALora
from compute.pipelines.lora.changes import MOST_CHANGE, check_changes
from compute.pipelines.lora.pair import Pair

FORMATS = [torch.float16, torch.bfloat16, torch.float32]


def exact(pair: Pair) -> float:
    rows = torch.linalg.vector_norm(pair.up, dim=1, dtype=torch.float64).max()
    columns = torch.linalg.vector_norm(pair.down, dim=0, dtype=torch.float64).max()
    return float(rows * columns)


def random_pair(rank: int, out: int, into: int, dtype: torch.dtype, seed: int) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randn(out, rank, generator=generator), torch.randn(rank, into, generator=generator)
    return Pair(down.to(dtype), up.to(dtype))


def is_accepted(pair: Pair) -> bool:
    try:
        check_changes(LoraMethod.LORA, {"layer": pair}, {})
    except NotALora:
        return False
    return True


@given(
    rank=st.integers(1, 20), out=st.integers(1, 300), into=st.integers(1, 300), dtype=st.sampled_from(FORMATS),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_a_change_is_refused_where_exact_arithmetic_refuses_it(
    rank: int, out: int, into: int, dtype: torch.dtype, seed: int
) -> None:
    pair = random_pair(rank, out, into, dtype, seed)
    scale = MOST_CHANGE / exact(pair)
    up = pair.up.float()
    assert is_accepted(Pair(pair.down, up * scale * (1 - 1e-5)))
    assert not is_accepted(Pair(pair.down, up * scale * (1 + 1e-5)))


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_layer_of_a_real_models_size_is_bounded_in_blocks(dtype: torch.dtype) -> None:
    pair = random_pair(96, 12_288, 12_288, dtype, 1)
    scale = MOST_CHANGE / exact(pair)
    assert is_accepted(Pair(pair.down, pair.up.float() * scale * (1 - 1e-5)))
    assert not is_accepted(Pair(pair.down, pair.up.float() * scale * (1 + 1e-5)))


@pytest.mark.parametrize(("up", "down"), [(1e25, 1e-25), (1e-30, 1e30), (1e38, 1e-38), (1e20, 0.0), (0.0, 1.0)])
def test_halves_outside_of_the_range_of_squares_are_bounded_as_well(up: float, down: float) -> None:
    pair = Pair(torch.full((4, 64), down), torch.full((64, 4), up))
    assert math.isclose(exact(pair), 4 * up * down, rel_tol=1e-5)
    assert is_accepted(pair)
    assert not is_accepted(Pair(torch.full((4, 64), 1e5), torch.full((64, 4), 1e30)))
