"""The sizes that models draw well: whose word counts, and which size is taken instead of one outside of the range."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from compute.pipelines import ModelConfig, load, resolve_model
from compute.pipelines.families import families
from compute.pipelines.manager import prepare_manager
from compute.pipelines.native import NATIVE_FILE, NativeSize, OwnSizes, own_sizes
from compute.worker.protocol import ChoosesSize

SIDE = st.integers(16, 4096)
SMALL = NativeSize(most_pixels=128 * 128, longest_side=144)


@given(width=SIDE, height=SIDE)
def test_a_size_outside_is_drawn_inside_on_the_grid_and_in_about_its_shape(width: int, height: int) -> None:
    sizes = OwnSizes(SMALL, 16)
    drawn = sizes.nearest((width, height))
    assert drawn[0] * drawn[1] <= 128 * 128
    assert max(drawn) <= 144
    assert not drawn[0] % 16
    assert not drawn[1] % 16
    if drawn[0] < width and max(width, height) <= 2 * min(width, height):
        assert 0.9 < drawn[0] / drawn[1] / (width / height) < 1.12


@st.composite
def ranges(draw: st.DrawFn) -> OwnSizes:
    """Whatever a model may say, also what no picture of most shapes fits into."""
    most = draw(st.integers(256, 1 << 28))
    least, longest = draw(st.integers(0, most)), draw(st.integers(16, 16_384))
    native = NativeSize(most_pixels=most, least_pixels=least, longest_side=longest)
    try:
        return OwnSizes(native, draw(st.sampled_from([8, 16, 32, 64])))
    except ValueError:
        reject()


@given(sizes=ranges(), width=st.integers(1, 16_384), height=st.integers(1, 16_384))
def test_what_is_drawn_is_in_the_range_and_on_the_grid_and_drawn_again_it_stays(
    sizes: OwnSizes, width: int, height: int
) -> None:
    drawn = sizes.nearest((width, height))
    assert sizes.native.least_pixels <= drawn[0] * drawn[1] <= sizes.native.most_pixels
    assert max(drawn) <= sizes.native.longest_side
    assert not any(side % sizes.grid for side in drawn)
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
        ((50, 30), (64, 32)),
        ((16, 4096), (16, 144)),
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
    manager = prepare_manager({"draw": config}, models_root)()
    assert manager.own_size("draw", size) == size


def test_a_size_below_the_range_is_drawn_larger() -> None:
    sizes = OwnSizes(NativeSize(most_pixels=1 << 20, least_pixels=1 << 16), 16)
    assert sizes.nearest((64, 64)) == (256, 256)
    assert sizes.nearest((64, 128)) == (192, 384)
    assert sizes.nearest((16, 4096)) == (16, 4096)


def test_a_size_in_the_range_comes_onto_the_grid_that_the_model_draws_on() -> None:
    assert OwnSizes(NativeSize(most_pixels=1 << 20), 32).nearest((410, 250)) == (416, 256)


WRONG_RANGES: list[tuple[dict[str, Any], str]] = [
    ({"most_pixels": 0}, "native_size.most_pixels"),
    ({"most_pixels": -4096}, "native_size.most_pixels"),
    ({"most_pixels": 255}, "native_size.most_pixels"),
    ({"most_pixels": (1 << 28) + 1}, "native_size.most_pixels"),
    ({"most_pixels": True}, "native_size.most_pixels"),
    ({"most_pixels": 65536.0}, "native_size.most_pixels"),
    ({"most_pixels": "65536"}, "native_size.most_pixels"),
    ({"most_pixels": 4096, "least_pixels": -1}, "native_size.least_pixels"),
    ({"most_pixels": 4096, "least_pixels": 4097}, "least_pixels must not exceed most_pixels: 4097 > 4096"),
    ({"most_pixels": 4096, "longest_side": 15}, "native_size.longest_side"),
    ({"most_pixels": 4096, "longest_side": 16_385}, "native_size.longest_side"),
    ({"most_pixels": 4000, "least_pixels": 3900}, "multiples of 16"),
    ({"most_pixels": 4096, "least_pixels": 4096, "longest_side": 48}, "multiples of 16"),
    ({"longest_side": 512}, "native_size.most_pixels"),
]


@pytest.mark.parametrize(("native", "named"), WRONG_RANGES, ids=str)
def test_a_range_without_a_picture_is_refused_in_the_settings_and_in_the_folder(
    native: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelConfig.model_validate({"native_size": native})
    assert named in str(refused.value)
    (tmp_path / NATIVE_FILE).write_text(json.dumps(native))
    with pytest.raises(ValueError, match=named.removeprefix("native_size.").partition(":")[0]):
        own_sizes(ModelConfig(), tmp_path)


def test_the_grid_is_that_of_the_family() -> None:
    ModelConfig.model_validate({"family": "flux", "native_size": {"most_pixels": 512}})
    with pytest.raises(ValidationError, match="multiples of 32"):
        ModelConfig.model_validate({"family": "ltx-video", "native_size": {"most_pixels": 512}})


@pytest.mark.parametrize("name", ["flux-kontext", "flux-fill", "ltx-video"])
def test_a_tiny_model_says_in_its_folder_what_it_draws_well(name: str, tmp_path: Path) -> None:
    config = ModelConfig(model=families()[name].tiny_name, family=name)
    folder = resolve_model(config, tmp_path)
    assert isinstance(folder, Path)
    assert (folder / NATIVE_FILE).is_file()
    assert own_sizes(config, folder).native.most_pixels <= 256 * 256


def test_the_shipped_settings_leave_sizes_to_the_models() -> None:
    """So that a user's model under a name of ours, or in place of ours, is drawn at its own size."""
    shipped = Path(__file__).parents[3] / "serve_config.yaml"
    assert "native_size" not in shipped.read_text(encoding="utf-8")


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
        assert own_sizes(ModelConfig(family=name), None).grid == family.grid
        assert family.grid % family.size_multiple == 0
        assert family.native_size.most_pixels >= 512 * 512
