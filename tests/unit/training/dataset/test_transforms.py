import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from compute.errors import InvalidInput
from compute.schemas.transforms import BackgroundRemoval, Crop, Flip, Resize
from compute.training.dataset.buckets import bucket_of, buckets
from compute.training.dataset.images import Rejected
from compute.training.dataset.transforms import PreparedImage, apply, parse_transforms
from tests.unit.imaging.cutouts import bottle


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, np.full_like(down, 128)], axis=-1).astype(np.uint8))


def prepared(
    image: Image.Image, *transforms: dict[str, Any], resolution: int = 128, multiple: int = 16
) -> list[PreparedImage]:
    found = apply(image, parse_transforms(transforms), resolution, multiple, name="a.png")
    assert not isinstance(found, Rejected)
    return found


def rejected(image: Image.Image, *transforms: dict[str, Any]) -> str:
    found = apply(image, parse_transforms(transforms), 128, 16, name="looks/a.png")
    assert isinstance(found, Rejected)
    assert found.file == "looks/a.png"
    return found.reason


def mean(image: Image.Image) -> tuple[float, ...]:
    return tuple(np.asarray(image, np.float32).mean(axis=(0, 1)).tolist())


class TestScaling:
    def test_a_picture_of_a_buckets_size_stays_as_it_is(self) -> None:
        image = gradient(128, 128)
        (result,) = prepared(image)
        assert result.image.tobytes() == image.tobytes()
        assert result == PreparedImage(result.image, False, (128, 128), (0, 0))

    def test_what_is_too_wide_is_cut_on_both_sides(self) -> None:
        (result,) = prepared(gradient(1000, 200))
        assert result.image.size == (256, 64)
        # Scaled to 320 x 64, of which 32 columns go on either side.
        assert result.crop == (0, 32)
        assert result.original_size == (1000, 200)
        assert result.size_conditioning == (200, 1000, 0, 32, 64, 256)
        red = np.asarray(result.image)[32, :, 0]
        assert red[0] == pytest.approx(25.5, abs=2)
        assert red[-1] == pytest.approx(229.5, abs=2)

    def test_what_is_too_tall_is_cut_above_and_below(self) -> None:
        (result,) = prepared(gradient(200, 1000))
        assert result.image.size == (64, 256)
        assert result.crop == (32, 0)

    def test_nothing_is_distorted(self) -> None:
        image = Image.new("RGB", (600, 400), "white")
        ImageDraw.Draw(image).ellipse((200, 100, 400, 300), fill="black")
        (result,) = prepared(image, resolution=256)
        left, top, right, bottom = ImageOps.invert(result.image.convert("L")).getbbox() or (0, 0, 0, 0)
        assert right - left == pytest.approx(bottom - top, abs=2)

    def test_a_resolution_of_its_own(self) -> None:
        (result,) = prepared(gradient(500, 500), {"type": "resize", "resolution": 64})
        assert result.image.size == (64, 64)

    def test_small_pictures_are_enlarged_unless_that_is_forbidden(self) -> None:
        assert prepared(gradient(40, 40))[0].image.size == (128, 128)
        reason = rejected(gradient(40, 32), {"type": "resize", "upscale": False})
        assert reason == "too small: 40 x 32 pixels would be enlarged to 144 x 112"
        assert prepared(gradient(128, 128), {"type": "resize", "upscale": False})

    def test_an_extreme_shape_takes_no_extreme_memory(self) -> None:
        """Scaled as a whole it would have four billion pixels."""
        (result,) = prepared(Image.new("RGB", (32, 500_000)), resolution=1024)
        assert result.image.size == (512, 2048)

    def test_a_resolution_below_the_models_grid_fails_the_whole_data_set(self) -> None:
        with pytest.raises(InvalidInput, match="multiples of 64"):
            apply(gradient(100, 100), parse_transforms([{"type": "resize", "resolution": 32}]), 512, 64, name="a.png")

    @settings(max_examples=40)
    @given(
        width=st.integers(32, 700),
        height=st.integers(32, 700),
        resolution=st.sampled_from([64, 128, 500]),
        flip=st.booleans(),
    )
    def test_any_picture_becomes_exactly_a_bucket(self, width: int, height: int, resolution: int, flip: bool) -> None:
        results = prepared(
            Image.new("RGB", (width, height)), *([{"type": "flip"}] if flip else []), resolution=resolution
        )
        assert len(results) == 1 + flip
        for result in results:
            assert result.image.size in buckets(resolution, 16)
            assert result.image.size == bucket_of(width, height, resolution, 16)
            assert result.image.mode == "RGB"
            assert min(result.crop) == 0


class TestFlip:
    def test_the_mirror_image_is_added(self) -> None:
        plain, mirrored = prepared(gradient(300, 200), {"type": "flip"})
        assert (plain.flipped, mirrored.flipped) == (False, True)
        assert mirrored.image.tobytes() == ImageOps.mirror(plain.image).tobytes()
        assert mirrored.size_conditioning == plain.size_conditioning

    def test_its_place_in_the_list_does_not_matter(self) -> None:
        orders = [[{"type": "flip"}, {"type": "crop"}], [{"type": "crop"}, {"type": "flip"}]]
        first, second = (prepared(gradient(300, 200), *order) for order in orders)
        assert [one.image.tobytes() for one in first] == [one.image.tobytes() for one in second]


class TestCrop:
    @pytest.mark.parametrize(("anchor", "green"), [("top", 51), ("center", 127), ("bottom", 204)])
    def test_the_part_that_stays(self, anchor: str, green: int) -> None:
        (result,) = prepared(gradient(200, 500), {"type": "crop", "anchor": anchor})
        assert result.image.size == (128, 128)
        assert result.original_size == (200, 200)
        assert mean(result.image)[1] == pytest.approx(green, abs=2)

    def test_another_aspect_ratio(self) -> None:
        (result,) = prepared(gradient(400, 400), {"type": "crop", "aspect_ratio": 4})
        assert result.original_size == (400, 100)
        assert result.image.size == (256, 64)

    def test_too_little_may_be_left(self) -> None:
        assert rejected(gradient(100, 100), {"type": "crop", "aspect_ratio": 4}) == (
            "too small: 100 x 25 pixels are left of it"
        )


class TestBackgroundRemoval:
    def test_the_subject_is_put_on_a_colour(self) -> None:
        image = bottle().image
        (result,) = prepared(image, {"type": "background_removal", "color": "#00ff00"})
        (before,) = prepared(image)
        corners = [result.image.getpixel(place) for place in ((2, 2), (result.image.width - 3, 2))]
        assert corners == [(0, 255, 0), (0, 255, 0)]
        middle = (result.image.width // 2, round(result.image.height * 0.6))
        assert result.image.getpixel(middle) == before.image.getpixel(middle)

    def test_a_picture_that_was_cut_out_already_keeps_its_edge(self) -> None:
        image = Image.new("RGBA", (128, 128), (10, 20, 30, 0))
        image.paste((255, 0, 0, 255), (32, 32, 96, 96))
        (result,) = prepared(image, {"type": "background_removal", "color": "#0000ff"})
        assert result.image.getpixel((10, 10)) == (0, 0, 255)
        assert result.image.getpixel((32, 32)) == (255, 0, 0)

    def test_without_it_transparency_becomes_white(self) -> None:
        (result,) = prepared(Image.new("RGBA", (128, 128), (10, 20, 30, 0)))
        assert mean(result.image) == (255, 255, 255)

    @pytest.mark.parametrize("image", [Image.new("RGB", (128, 128), "gray"), Image.new("RGBA", (64, 64), (0, 0, 0, 0))])
    def test_a_picture_without_a_subject_is_rejected(self, image: Image.Image) -> None:
        reason = rejected(image, {"type": "background_removal"})
        assert reason == "No subject stands out from the background of this image."

    def test_a_model_that_is_not_there_fails_the_whole_data_set(self, tmp_path: Path) -> None:
        transforms = parse_transforms([{"type": "background_removal", "model": "u2net"}])
        with pytest.raises(InvalidInput, match="u2net"):
            apply(bottle().image, transforms, 128, 16, name="a.png", models_root=tmp_path)


class TestParsing:
    def test_all_of_them(self) -> None:
        assert parse_transforms(
            [
                {"type": "crop", "aspect_ratio": 0.75, "anchor": "top"},
                {"type": "background_removal", "color": "#ff0000"},
                {"type": "flip"},
                {"type": "resize", "resolution": 512, "upscale": False},
            ]
        ) == (
            Crop(type="crop", aspect_ratio=0.75, anchor="top"),
            BackgroundRemoval(type="background_removal", color="#ff0000"),
            Flip(type="flip"),
            Resize(type="resize", resolution=512, upscale=False),
        )

    @pytest.mark.parametrize("nothing", [None, [], ()])
    def test_none_of_them(self, nothing: Any) -> None:
        assert parse_transforms(nothing) == ()

    @pytest.mark.parametrize(
        ("short", "meant"),
        [
            ({"name": "flip"}, Flip(type="flip")),
            ({"type": "horizontal_flip"}, Flip(type="flip")),
            ({"type": " FLIP "}, Flip(type="flip")),
            ({"type": "remove_background"}, BackgroundRemoval(type="background_removal")),
            ({"name": "center_crop", "aspect_ratio": 2}, Crop(type="crop", aspect_ratio=2)),
        ],
    )
    def test_other_names(self, short: dict[str, Any], meant: Any) -> None:
        assert parse_transforms([short]) == (meant,)

    @pytest.mark.parametrize(
        ("item", "path", "message"),
        [
            ({"type": "blur"}, "", "There is no transform `blur`; known: resize, crop, flip, background_removal."),
            ({}, "", 'A transform has a "type"; known: resize, crop, flip, background_removal.'),
            ({"type": 3}, "", 'A transform has a "type"; known: resize, crop, flip, background_removal.'),
            ("flip", "", "known: resize, crop, flip, background_removal"),
            ({"type": "resize", "resolution": 1}, ".resolution", "Field `resolution` must be at least 32."),
            ({"type": "resize", "side": 512}, ".side", "Field `side` is unknown here."),
            ({"type": "crop", "anchor": "left"}, ".anchor", "Field `anchor` must be one of center, top, bottom."),
            ({"type": "crop", "aspect_ratio": float("nan")}, ".aspect_ratio", "Field `aspect_ratio` "),
            ({"type": "background_removal", "color": "red"}, ".color", "Field `color` "),
        ],
    )
    def test_what_is_wrong_is_named_with_its_place(self, item: Any, path: str, message: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            parse_transforms([{"type": "flip"}, item])
        assert caught.value.field == f"preprocessing_transforms.1{path}"
        assert message in caught.value.detail

    def test_unknown_segmentation_models(self) -> None:
        with pytest.raises(InvalidInput, match="known: grabcut") as caught:
            parse_transforms([{"type": "background_removal", "model": "magic"}])
        assert caught.value.field == "preprocessing_transforms.0.model"

    def test_the_same_twice(self) -> None:
        with pytest.raises(InvalidInput, match="flip is listed twice"):
            parse_transforms([{"type": "flip"}, {"type": "crop"}, {"name": "horizontal_flip"}])


def test_the_api_can_import_all_of_it_and_stay_small() -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'cv2', 'ray', 'onnxruntime'}"
    modules = ", ".join(
        f"compute.training.dataset.{name}" for name in ("archive", "buckets", "captions", "images", "transforms")
    )
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert answer.stdout.strip() == "[]"
