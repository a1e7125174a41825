import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.training.dataset.buckets import Bucket, bucket_of, buckets

MULTIPLES = st.sampled_from([8, 16, 32, 64])
RESOLUTIONS = st.integers(64, 2048)


@given(resolution=RESOLUTIONS, multiple=MULTIPLES)
def test_buckets_keep_to_the_grid_and_to_the_area(resolution: int, multiple: int) -> None:
    for bucket in buckets(resolution, multiple):
        assert bucket.width % multiple == bucket.height % multiple == 0
        assert bucket.width * bucket.height <= resolution**2
        # As large as the grid allows: a step more on the long side would be too much.
        short, long = sorted(bucket)
        assert short * (long + multiple) > resolution**2 or short == long
        assert long <= 4 * short


@given(resolution=RESOLUTIONS, multiple=MULTIPLES)
def test_areas_are_about_the_same(resolution: int, multiple: int) -> None:
    assume(resolution >= 16 * multiple)
    for bucket in buckets(resolution, multiple):
        assert bucket.width * bucket.height >= resolution**2 * (1 - 2 * multiple / resolution)


@given(resolution=RESOLUTIONS, multiple=MULTIPLES)
def test_every_bucket_is_there_lying_and_standing(resolution: int, multiple: int) -> None:
    sizes = buckets(resolution, multiple)
    assert {Bucket(height, width) for width, height in sizes} == set(sizes)
    assert len(set(sizes)) == len(sizes) <= 40
    side = resolution // multiple * multiple
    assert any(bucket == (side, side) for bucket in sizes) or resolution**2 // side // multiple * multiple > side


@given(
    resolution=st.integers(16, 64).map(lambda value: value * 32),
    multiple=st.sampled_from([8, 16, 32]),
    aspect=st.floats(0.25, 4),
)
def test_little_is_cut_off(resolution: int, multiple: int, aspect: float) -> None:
    """At most a seventh of a picture, on a grid of at least 16 cells a side."""
    bucket = bucket_of(round(10_000 * aspect), 10_000, resolution, multiple)
    kept = bucket.width / bucket.height / aspect
    assert min(kept, 1 / kept) > 1 - 1 / 7


@given(width=st.integers(32, 8192), height=st.integers(32, 8192), resolution=RESOLUTIONS, multiple=MULTIPLES)
def test_the_nearest_shape_is_chosen(width: int, height: int, resolution: int, multiple: int) -> None:
    def error(bucket: Bucket) -> float:
        return abs(math.log(bucket.width / bucket.height) - math.log(width / height))

    assert error(bucket_of(width, height, resolution, multiple)) == min(map(error, buckets(resolution, multiple)))


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1000, 1000), (1024, 1024)),
        ((3000, 4000), (896, 1168)),
        ((1920, 1080), (1360, 768)),
        ((5000, 1000), (2048, 512)),
        ((100, 9000), (512, 2048)),
    ],
)
def test_well_known_shapes_at_1024(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    assert bucket_of(*size, 1024, 16) == bucket


def test_a_small_model_has_few_buckets() -> None:
    lying = ((144, 112), (160, 96), (192, 80), (256, 64))
    assert buckets(128, 16) == ((64, 256), (80, 192), (96, 160), (112, 144), (128, 128), *lying)
    assert buckets(64, 64) == ((64, 64),)


def test_the_outermost_bucket_is_there_whatever_the_step_is() -> None:
    assert buckets(1952, 16)[0] == (976, 3904)
    assert buckets(1952, 16)[-1] == (3904, 976)


def test_a_resolution_below_the_grid_is_refused() -> None:
    with pytest.raises(InvalidInput, match="multiples of 64 pixels") as caught:
        bucket_of(100, 100, 32, 64)
    assert caught.value.field == "preprocessing_transforms"
