"""LoRAs are read once, kept within bounds, and may be fetched while others are applied."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from compute.errors import InvalidInput
from compute.pipelines.lora.store import _Kept
from compute.worker.protocol import LoraSelection
from tests.patience import PATIENCE
from tests.unit.pipelines.lora.rig import Rig, load_pipeline, make_plain, static_loras


@pytest.fixture
def rig(tiny_folder: Path) -> Rig:
    pipeline = load_pipeline(tiny_folder)
    return Rig(pipeline, static_loras(pipeline, capacity=3), load_pipeline(tiny_folder))


@pytest.fixture
def pool(rig: Rig, tmp_path: Path) -> list[LoraSelection]:
    return [make_plain(tmp_path / f"{seed}.safetensors", rig.card, rank=4, seed=seed) for seed in range(6)]


def test_the_least_recently_used_falls_out_and_comes_back_the_same(rig: Rig, pool: list[LoraSelection]) -> None:
    expected = [rig.forward((one,)) for one in pool]
    assert rig.loras.loaded == ("3", "4", "5")
    rig.loras.prefetch(pool[3:4])
    rig.loras.prefetch(pool[:1])
    assert rig.loras.loaded == ("5", "3", "0")
    for one, before in zip(pool, expected, strict=True):
        assert torch.equal(rig.forward((one,)), before)


def test_one_request_may_use_more_than_are_kept(rig: Rig, pool: list[LoraSelection]) -> None:
    with rig.peft(pool) as peft:
        assert (rig.forward(pool) - peft()).abs().max() <= 1e-5
    assert len(rig.loras.loaded) == 3


def test_what_is_kept_needs_its_file_no_more(rig: Rig, pool: list[LoraSelection]) -> None:
    rig.loras.prefetch(pool[:1])
    expected = rig.forward(pool[:1])
    rig.forward(())
    pool[0].path.unlink()
    assert torch.equal(rig.forward(pool[:1]), expected)
    with pytest.raises(InvalidInput, match="missing"):
        rig.loras.prefetch((replace(pool[0], name="another"),))


def test_fetching_beside_applying_changes_no_byte(rig: Rig, pool: list[LoraSelection]) -> None:
    expected = [rig.forward(pair) for pair in pairwise(pool)]
    stop, together = threading.Event(), threading.Barrier(3, timeout=PATIENCE)

    def fetch() -> int:
        rounds = 0
        together.wait()
        while not stop.is_set():
            for one in pool:
                rig.loras.prefetch((one,))
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as threads:
        fetching = [threads.submit(fetch) for _ in range(2)]
        together.wait()
        for _ in range(5):
            for number, before in enumerate(expected):
                assert torch.equal(rig.forward(pool[number : number + 2]), before)
        stop.set()
        assert all(future.result(timeout=PATIENCE) > 0 for future in fetching)
    assert len(rig.loras.loaded) == 3


def test_threads_that_want_the_same_wait_for_one_reading() -> None:
    kept: _Kept[str] = _Kept(2)
    started, release = threading.Event(), threading.Event()
    made: list[str] = []

    def make() -> str:
        made.append("a")
        started.set()
        release.wait(PATIENCE)
        return "value"

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(kept.get, "a", make)
        assert started.wait(PATIENCE)
        others = [threads.submit(kept.get, "a", make) for _ in range(2)]
        assert kept.peek("a") is None
        release.set()
        assert {future.result(PATIENCE) for future in (first, *others)} == {"value"}
    assert made == ["a"]
    assert kept.names == ("a",)


def test_a_failed_reading_is_its_own_threads_error_and_is_tried_again() -> None:
    kept: _Kept[str] = _Kept(2)
    started, release = threading.Event(), threading.Event()

    def fail() -> str:
        started.set()
        release.wait(PATIENCE)
        raise InvalidInput("first: broken", field="first")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(kept.get, "a", fail)
        assert started.wait(PATIENCE)
        second = threads.submit(kept.get, "a", lambda: "value")
        release.set()
        with pytest.raises(InvalidInput, match="first"):
            first.result(PATIENCE)
        assert second.result(PATIENCE) == "value"


def test_nothing_is_kept_where_nothing_may_be() -> None:
    kept: _Kept[int] = _Kept(0)
    assert [kept.get("a", lambda number=number: number) for number in (1, 2)] == [1, 2]  # type: ignore[misc]
    assert kept.names == ()


def test_a_damaged_file_is_each_requests_own_error(rig: Rig, pool: list[LoraSelection], tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(pool[0].path.read_bytes()[:-8])
    for field in ("subject_lora", "style_lora"):
        with pytest.raises(InvalidInput, match="cut off") as caught:
            rig.loras.prefetch((pool[0], LoraSelection("cut", path, 1.0, field)))
        assert caught.value.field == field
    assert rig.loras.loaded == ("0",)
