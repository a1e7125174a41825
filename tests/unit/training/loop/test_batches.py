"""Batches of pictures, which follow from the number of a step alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.training.loop.batches import BatchPlan

SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 0)
BATCH = st.integers(1, 9)
SEED = st.integers(0, 2**32 - 1)


@given(SIZES, BATCH, SEED, st.integers(0, 5))
def test_an_epoch_shows_every_picture(sizes: list[int], batch: int, seed: int, epoch: int) -> None:
    plan = BatchPlan(sizes, batch, seed)
    shown: dict[int, Counter[int]] = {}
    for number in range(epoch * plan.per_epoch, (epoch + 1) * plan.per_epoch):
        found = plan[number]
        assert len(found.images) == batch
        assert plan.epoch_of(number) == epoch
        shown.setdefault(found.bucket, Counter()).update(found.images)
    assert shown.keys() == {bucket for bucket, size in enumerate(sizes) if size}
    for bucket, counts in shown.items():
        assert counts.keys() == set(range(sizes[bucket]))
        # Only the last batch is filled up, evenly.
        assert counts.total() - sizes[bucket] < batch
        assert max(counts.values()) - min(counts.values()) <= 1


@given(SIZES, BATCH, SEED, st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_a_batch_is_the_same_in_whatever_order_they_are_asked_for(
    sizes: list[int], batch: int, seed: int, numbers: list[int]
) -> None:
    plan = BatchPlan(sizes, batch, seed)
    assert [plan[number] for number in numbers] == [BatchPlan(sizes, batch, seed)[number] for number in numbers]


@given(SIZES, BATCH, SEED, st.integers(1, 12), st.integers(0, 100))
def test_workers_share_a_batch_among_them(sizes: list[int], batch: int, seed: int, workers: int, number: int) -> None:
    found = BatchPlan(sizes, batch, seed)[number]
    shares = [found.share(rank, workers) for rank in range(workers)]
    assert sorted(picture for share in shares for picture in share) == sorted(found.images)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert found.share(0, 1) == found.images


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def epochs(seed: int) -> list[tuple[int, ...]]:
        plan = BatchPlan([64], 64, seed)
        return [plan[number].images for number in range(3)]

    assert len({*epochs(0), *epochs(1)}) == 6


def test_buckets_take_turns() -> None:
    plan = BatchPlan([40, 40], 4, 0)
    order = [plan[number].bucket for number in range(20)]
    assert sorted(order) == [0] * 10 + [1] * 10
    assert order != sorted(order)
    assert order != sorted(order, reverse=True)


@pytest.mark.parametrize("sizes", [[], [0], [0, 0]])
def test_empty_data_set_is_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="no images"):
        BatchPlan(sizes, 1, 0)
