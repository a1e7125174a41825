"""The clip that comes out of the file is the one that went in, and a browser can play it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image

from compute.errors import TaskFailed
from compute.imaging import video
from compute.imaging.video import VideoWriter

Frame = NDArray[np.uint8]


def moving(count: int, width: int = 64, height: int = 48) -> Iterator[Frame]:
    """A bright bar that walks over a gradient."""
    y, x = np.mgrid[0:height, 0:width]
    for index in range(count):
        frame = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
        frame[:, (3 * index) % width : (3 * index) % width + 8] = (250, 220, 40)
        yield frame


def write(path: Path, frames: Iterator[Frame] | list[Frame], fps: int = 24) -> Path:
    listed = list(frames)
    height, width, _ = listed[0].shape
    with VideoWriter(path, width=width, height=height, fps=fps) as clip:
        for frame in listed:
            clip.write(frame)
    return path


def read(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def boxes(data: bytes) -> dict[str, tuple[int, int]]:
    """The boxes of the outermost level of an MP4 (ISO/IEC 14496-12): their kind, offset and size."""
    found, at = {}, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8].decode()] = (at, size)
        at += size
    return found


@pytest.mark.parametrize(("count", "fps"), [(25, 24), (1, 24), (2, 60), (7, 1), (31, 30), (50, 25)])
def test_rate_and_duration_are_exact(tmp_path: Path, count: int, fps: int) -> None:
    path = write(tmp_path / "clip.mp4", moving(count), fps)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.duration * stream.time_base == Fraction(count, fps)
        assert container.duration == round(Fraction(count * av.time_base, fps))
        assert stream.average_rate == fps
        assert stream.frames == count
    assert times == pytest.approx([index / fps for index in range(count)])


def test_a_browser_can_play_it(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", moving(30))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.profile in {"High", "Main", "Constrained Baseline"}
        assert (frame.colorspace, frame.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        assert (frame.color_primaries, frame.color_trc) == (ColorPrimaries.BT709, ColorTrc.BT709)
        assert frame.key_frame
    found = boxes(path.read_bytes())
    assert next(iter(found)) == "ftyp"
    assert found["moov"][0] < found["mdat"][0]


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)])
def test_colours_survive_as_bt709(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    """Luma is 16 + 219 (0.2126 R + 0.7152 G + 0.0722 B): other weights would shift every colour."""
    frame = np.full((32, 32, 3), colour, np.uint8)
    decoded = read(write(tmp_path / "clip.mp4", [frame, frame]))[0]
    red, green, blue = (channel / 255 for channel in colour)
    luma = decoded.to_ndarray()[:32].mean()
    assert luma == pytest.approx(16 + 219 * (0.2126 * red + 0.7152 * green + 0.0722 * blue), abs=1.5)
    back = decoded.to_ndarray(format="rgb24").astype(int)
    assert np.abs(back - colour).max() <= 4


def test_the_pictures_survive_in_their_order(tmp_path: Path) -> None:
    frames = np.stack(list(moving(40))).astype(int)
    for index, decoded in enumerate(read(write(tmp_path / "clip.mp4", moving(40)))):
        errors = np.abs(frames - decoded.to_ndarray(format="rgb24")).mean(axis=(1, 2, 3))
        assert errors.argmin() == index
        assert errors[index] < 6


@pytest.mark.parametrize(("width", "height"), [(63, 48), (64, 47), (33, 17), (3, 2)])
def test_an_odd_size_loses_its_last_column_or_row(tmp_path: Path, width: int, height: int) -> None:
    frames = list(moving(3, width, height))
    path = write(tmp_path / "clip.mp4", frames)
    even = [np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2]) for frame in frames]
    assert path.read_bytes() == write(tmp_path / "even.mp4", even).read_bytes()
    assert (read(path)[0].width, read(path)[0].height) == (width // 2 * 2, height // 2 * 2)


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write(tmp_path / f"{name}.mp4", moving(60, 160, 96)).read_bytes() for name in "ab")
    assert one == other
    changed = list(moving(60, 160, 96))
    changed[30][40:60, 40:60] = 0
    assert write(tmp_path / "changed.mp4", changed).read_bytes() != one


def test_the_bytes_do_not_depend_on_what_was_in_memory_before(tmp_path: Path) -> None:
    """glibc fills what it hands out with MALLOC_PERTURB_: x264's macroblock tree lets that through at this width."""
    code = "import sys; from tests.unit.imaging.test_video import *; write(Path(sys.argv[1]), moving(40, 160, 96))"
    for fill in ("1", "170"):
        path = str(tmp_path / f"{fill}.mp4")
        env = os.environ | {"MALLOC_PERTURB_": fill}
        subprocess.run([sys.executable, "-c", code, path], check=True, env=env)  # noqa: S603
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "170.mp4").read_bytes()


def test_images_and_arrays_are_the_same(tmp_path: Path) -> None:
    frames = list(moving(5))
    with VideoWriter(tmp_path / "images.mp4", width=64, height=48, fps=24) as clip:
        for frame in frames:
            clip.write(Image.fromarray(frame))
        assert (clip.frames, clip.duration) == (5, Fraction(5, 24))
    assert (tmp_path / "images.mp4").read_bytes() == write(tmp_path / "arrays.mp4", frames).read_bytes()


def test_one_can_jump_to_every_other_second(tmp_path: Path) -> None:
    keys = [frame.time for frame in read(write(tmp_path / "clip.mp4", moving(60), 10)) if frame.key_frame]
    assert keys == pytest.approx([0.0, 2.0, 4.0])


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"\(48, 60, 3\) does not fit"),
        VideoWriter(tmp_path / "clip.mp4", width=64, height=48, fps=24) as clip,
    ):
        clip.write(np.zeros((48, 60, 3), np.uint8))


@pytest.mark.parametrize(("width", "height", "fps"), [(1, 48, 24), (64, 0, 24), (64, 48, 0)])
def test_an_impossible_clip_is_refused(tmp_path: Path, width: int, height: int, fps: int) -> None:
    with pytest.raises(ValueError, match="no clip of"):
        VideoWriter(tmp_path / "clip.mp4", width=width, height=height, fps=fps)
    assert not list(tmp_path.iterdir())


def test_a_clip_that_is_not_finished_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Frame]:
        yield from moving(50)
        raise KeyError

    def write_some() -> None:
        with VideoWriter(tmp_path / "clip.mp4", width=64, height=48, fps=24) as clip:
            for frame in broken():
                clip.write(frame)

    with pytest.raises(KeyError):
        write_some()
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "ENCODER", "libx999")
    with pytest.raises(TaskFailed, match="no libx999"):
        VideoWriter(tmp_path / "clip.mp4", width=64, height=48, fps=24)
