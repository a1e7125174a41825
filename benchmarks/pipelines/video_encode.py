"""Cost of the clip writer compared with a bare loop of PyAV: `python -m benchmarks.pipelines.video_encode`.

The same RGB frames, in one run, taking turns: `VideoWriter`, the loop of PyAV's own examples with x264 at the same
quality (PSNR) and preset, and that loop with the options for reproducible bytes (a fixed number of threads, no
macroblock tree). The writer adds a faithful conversion to BT.709 and the index in front.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import arguments, interleave, machine, median, print_table, ratio, say
from compute.imaging.video import VideoWriter

Frame = NDArray[np.uint8]
_FPS = 24


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--frames", type=int, default=120, help="frames of the clip (120)")
    options = parser.parse_args()
    count, width, height = (24, 320, 192) if options.quick else (options.frames, 768, 512)
    say(machine())
    frames = list(scenery(count, width, height))
    with tempfile.TemporaryDirectory() as folder:
        arms: dict[str, Callable[[], tuple[float, int]]] = {
            "bare PyAV": partial(timed, bare, Path(folder) / "bare.mp4", frames, {"crf": "18"}),
            "bare, reproducible bytes": partial(
                timed, bare, Path(folder) / "same.mp4", frames, {"crf": "22", "x264-params": "mbtree=0:threads=4"}
            ),
            "VideoWriter": partial(timed, ours, Path(folder) / "ours.mp4", frames, {}),
        }
        runs = interleave(arms, 2 if options.quick else options.rounds)
    base = [seconds for seconds, _ in runs["bare PyAV"]]
    rows = [
        [
            name,
            f"{count / median([seconds for seconds, _ in taken]):.0f}",
            ratio([seconds for seconds, _ in taken], base),
            f"{taken[0][1] / 1024:.0f}",
        ]
        for name, taken in runs.items()
    ]
    print_table(f"{count} frames of {width}x{height}", ["", "frames/s", "time to bare", "kB"], rows)


def scenery(count: int, width: int, height: int) -> Iterator[Frame]:
    """Yield frames of a camera that pans over a grained landscape: neither still nor noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0 : width + 4 * count]
    waves = 60 * np.sin(x / 37) + 50 * np.sin(y / 23 + x / 91)
    wide = np.stack([128 + waves, 110 + 0.6 * waves, 150 - 0.4 * waves], axis=-1)
    wide = np.clip(wide + random.normal(0, 6, wide.shape), 0, 255).astype(np.uint8)
    for index in range(count):
        yield np.ascontiguousarray(wide[:, 4 * index : 4 * index + width])


def timed(
    write: Callable[[Path, list[Frame], dict[str, str]], None], path: Path, frames: list[Frame], options: dict[str, str]
) -> tuple[float, int]:
    """Return the seconds, and the size of the file in bytes."""
    began = time.perf_counter()
    write(path, frames, options)
    return time.perf_counter() - began, path.stat().st_size


def ours(path: Path, frames: list[Frame], _options: dict[str, str]) -> None:
    height, width, _ = frames[0].shape
    with VideoWriter(path, width=width, height=height, fps=_FPS) as clip:
        for frame in frames:
            clip.write(frame)


def bare(path: Path, frames: list[Frame], options: dict[str, str]) -> None:
    height, width, _ = frames[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"preset": "medium", **options})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
