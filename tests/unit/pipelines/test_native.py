"""The sizes that models draw well: whose word counts, and which size is taken instead of one outside of the range."""

import json
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compute.pipelines import ModelConfig, load, resolve_model
from compute.pipelines.families import families
from compute.pipelines.native import NATIVE_FILE, NativeSize, OwnSizes, own_sizes
from compute.pipelines.shelf import prepare_shelf
from compute.tasks.protocol import ChoosesSize

SIDE = st.integers(16, 4096)
SMALL = NativeSize(most_pixels=128 * 128, longest_side=144)


@given(width=SIDE, height=SIDE)
def test_a_size_outside_is_drawn_inside_on_the_grid_and_in_about_its_shape(width: int, height: int) -> None:
    sizes = OwnSizes(SMALL, 16)
    drawn = sizes.nearest((width, height))
    assert drawn[0] * drawn[1] <= 128 * 128
    assert max(drawn) <= 144
    if drawn != (width, height):
        assert not drawn[0] % 16
        assert not drawn[1] % 16
        if max(width, height) <= 2 * min(width, height):
            assert 0.9 < drawn[0] / drawn[1] / (width / height) < 1.12
    assert sizes.nearest(drawn) == drawn


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ((1024, 1024), (128, 128)),
        ((768, 1024), (112, 144)),
        ((1024, 1536), (96, 144)),
        ((1920, 1088), (144, 80)),
        ((4096, 4096), (128, 128)),
        ((128, 96), (128, 96)),
        ((50, 30), (50, 30)),
    ],
)
def test_the_demo_model_draws_at_128_pixels(asked: tuple[int, int], drawn: tuple[int, int], tmp_path: Path) -> None:
    config = ModelConfig(model="demo-flux")
    folder = resolve_model(config, tmp_path)
    assert isinstance(folder, Path)
    assert own_sizes(config, folder).nearest(asked) == drawn


@pytest.mark.parametrize("size", [(16, 16), (1024, 1024), (2048, 1024), (1920, 1088), (1440, 1456), (4096, 512)])
def test_flux_draws_every_size_up_to_two_megapixels_as_it_is(size: tuple[int, int], models_root: Path) -> None:
    config = ModelConfig(device="cpu")
    model = cast("ChoosesSize", load(config, models_root))
    assert model.own_size("draw", size) == size
    shelf = prepare_shelf({"draw": config}, models_root)()
    assert shelf.own_size("draw", size) == size


def test_a_size_below_the_range_is_drawn_larger() -> None:
    sizes = OwnSizes(NativeSize(most_pixels=1 << 20, least_pixels=1 << 16), 16)
    assert sizes.nearest((64, 64)) == (256, 256)
    width, height = sizes.nearest((64, 128))
    assert width * height >= 1 << 16


def test_settings_count_more_than_the_folder_and_the_folder_more_than_the_family(tmp_path: Path) -> None:
    config = ModelConfig()
    assert own_sizes(config, tmp_path).native == families()["flux"].native_size
    assert own_sizes(config, None).native == families()["flux"].native_size
    (tmp_path / NATIVE_FILE).write_text(json.dumps({"most_pixels": 512 * 512}))
    assert own_sizes(config, tmp_path).native == NativeSize(most_pixels=512 * 512)
    chosen = ModelConfig.model_validate({"native_size": {"most_pixels": 4096}})
    assert own_sizes(chosen, tmp_path).native.most_pixels == 4096


@pytest.mark.parametrize("text", ["{", "[]", '{"most_pixels": "many"}', '{"most_pixels": 4096, "mist": 1}', "{}"])
def test_a_damaged_statement_is_refused_by_its_file(text: str, tmp_path: Path) -> None:
    (tmp_path / NATIVE_FILE).write_text(text)
    with pytest.raises(ValueError, match=NATIVE_FILE):
        own_sizes(ModelConfig(), tmp_path)


def test_a_wrong_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="mist"):
        ModelConfig.model_validate({"native_size": {"most_pixels": 4096, "mist": 1}})


def test_every_family_says_what_it_draws_well() -> None:
    for name, family in families().items():
        assert own_sizes(ModelConfig(family=name), None).grid == family.size_multiple
        assert family.native_size.most_pixels >= 512 * 512
