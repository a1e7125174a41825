"""Faces are found where they are, once each, and nowhere else."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

from compute.errors import TaskFailed
from compute.imaging import faces
from compute.imaging.faces import Face, detect_faces, pick_detector
from tests.pictures import full_figure, portrait, product, scene
from tests.unit.imaging.tiny_yunet import write_tiny_yunet


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)


@pytest.mark.parametrize(
    ("size", "seed"), [((96, 96), 0), ((256, 256), 1), ((400, 400), 2), ((240, 400), 3), ((360, 240), 0)]
)
def test_a_face_is_found_where_it_was_drawn(size: tuple[int, int], seed: int) -> None:
    found = detect_faces(portrait(size, seed))
    assert len(found) == 1
    half, x, y = min(size) * 0.29, size[0] / 2, size[1] * 0.47
    assert overlap(found[0].box, (x - 0.76 * half, y - half, x + 0.76 * half, y + half)) > 0.6


def test_a_large_picture_is_searched_small_and_answered_in_its_own_pixels() -> None:
    picture = portrait((256, 256))
    (face,), (large,) = detect_faces(picture), detect_faces(picture.resize((2304, 2304)))
    assert overlap(large.box, [9 * side for side in face.box]) > 0.8


def test_a_face_is_found_in_a_photograph() -> None:
    (face,) = detect_faces(Image.fromarray(astronaut()))
    assert overlap(face.box, (173, 65, 274, 172)) > 0.6


def test_the_small_face_of_a_whole_person_is_found() -> None:
    figure = full_figure((320, 480))
    (face,) = detect_faces(figure)
    left, top, right, bottom = face.box
    assert 0.35 * 320 < left < right < 0.65 * 320
    assert top > 0.04 * 480
    assert bottom < 0.25 * 480


@pytest.mark.parametrize("picture", [product((300, 300)), scene((360, 240)), Image.new("RGB", (200, 200), "white")])
def test_there_is_no_face_where_there_is_none(picture: Image.Image) -> None:
    assert detect_faces(picture) == []


def test_noise_has_no_face() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert detect_faces(Image.fromarray(noise)) == []


def test_several_faces_come_the_largest_first_and_each_once() -> None:
    wall = Image.new("RGB", (640, 320), (180, 184, 190))
    for seed, side, left in ((1, 120, 20), (2, 300, 320), (3, 180, 140)):
        wall.paste(portrait((side, side), seed), (left, 10))
    found = detect_faces(wall)
    assert [face.box[0] // 160 for face in found] == [2, 1, 0]
    assert [face.area for face in found] == sorted((face.area for face in found), reverse=True)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_any_mode_will_do(mode: str) -> None:
    assert len(detect_faces(portrait((200, 200)).convert(mode))) == 1


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [portrait((200, 200), seed) for seed in range(4)] * 3
    alone = [detect_faces(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(detect_faces, pictures)) == alone


class _Careless:
    """A detector that says everything twice, and things that cannot be."""

    def __init__(self, _model: Path | None) -> None:
        pass

    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        height, width = pixels.shape[:2]
        return [
            Face((40, 40, 140, 140), 5.0),
            Face((44, 38, 146, 140), 9.0),  # the same face
            Face((60, 60, 100, 100), 2.0),  # inside of it
            Face((10, 10, 20, 20), 9.0),  # too small
            Face((0, 150, width, 190), 9.0),  # too wide
            Face((width - 30, height - 30, width, height), 9.0),  # flat
        ]


def test_another_detector_can_be_plugged_in_and_is_not_believed_blindly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(faces.DETECTORS, "careless", _Careless)
    pixels = np.full((200, 200, 3), 90, np.uint8)
    pixels[:160, :160] += np.random.default_rng(0).integers(0, 80, (160, 160, 3), dtype=np.uint8)
    assert detect_faces(Image.fromarray(pixels), detector="careless") == [Face((44, 38, 146, 140), 9.0)]


@pytest.mark.parametrize(("size", "scale"), [((320, 320), 1), ((500, 300), 1), ((2048, 1024), 2)])
def test_yunet_is_run_from_its_file(tmp_path: Path, size: tuple[int, int], scale: int) -> None:
    """Whatever the picture's size, and though it is not one that the network's grid divides."""
    model = write_tiny_yunet(tmp_path / "face_detection_yunet_tiny.onnx")
    picture = Image.new("RGB", size, (20, 20, 20))
    picture.paste((255, 255, 255), (128 * scale, 96 * scale, 160 * scale, 128 * scale))
    (face,) = detect_faces(picture, detector="yunet", model_path=model)
    assert face.box == (112 * scale, 80 * scale, 144 * scale, 112 * scale)
    assert face.score == pytest.approx(1, abs=0.01)


def test_the_detector_with_a_file_is_preferred(tmp_path: Path) -> None:
    assert pick_detector(tmp_path) == ("haar", None)
    (tmp_path / "faces").mkdir()
    for year in ("2022mar", "2023mar"):
        (tmp_path / "faces" / f"face_detection_yunet_{year}.onnx").touch()
    assert pick_detector(tmp_path) == ("yunet", tmp_path / "faces" / "face_detection_yunet_2023mar.onnx")


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no face detector 'retina'; known: haar, yunet"):
        detect_faces(portrait((64, 64)), detector="retina")
    with pytest.raises(ValueError, match="yunet needs the path"):
        detect_faces(portrait((64, 64)), detector="yunet")
    broken = tmp_path / "broken.model"
    broken.write_text("<opencv_storage></opencv_storage>")
    with pytest.raises(TaskFailed, match=r"broken\.model is no Haar cascade"):
        detect_faces(portrait((64, 64)), model_path=broken)
    with pytest.raises(TaskFailed, match=r"broken\.model cannot be loaded as YuNet"):
        detect_faces(portrait((64, 64)), detector="yunet", model_path=broken)
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx"):
        detect_faces(portrait((64, 64)), detector="yunet", model_path=tmp_path / "gone.onnx")
