"""Writes H.264 in MP4 frame by frame, for the players of browsers and phones.

The encoder is the x264 of PyAV's wheel (libx264, GPL 2 or later; PyAV itself is BSD). Redistributing the wheel is
subject to the terms of x264. An FFmpeg without it is refused by name, because no other encoder guarantees the same
bytes for the same frames.
"""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from numpy.typing import NDArray
from PIL import Image

from compute.errors import TaskFailed

__all__ = ["ENCODER", "VideoWriter"]

ENCODER = "libx264"
_ENCODING = {
    # Constant rate factor: 0 is lossless, 51 the worst. Without the macroblock tree 22 has the PSNR of 18 with it.
    "crf": "22",
    "preset": "medium",
    "profile": "high",
    # The assembly of x264's macroblock tree reads uninitialised memory where a row has 10 macroblocks, so the same
    # frames gave other bytes now and then (MALLOC_PERTURB_ shows it). Doing without costs 15 to 26 % in size.
    "x264-params": "mbtree=0",
}
_THREADS = 4
"""A fixed number: x264 gives the same bytes for the same number of threads, and `auto` follows the machine."""
_SECONDS_PER_KEYFRAME = 2
"""Seconds between the points to which a player can jump."""
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT


class VideoWriter:
    """One clip of a constant frame rate, written into `path` while its frames arrive.

    It follows the requirements of browsers: yuv420p in BT.709 (and tagged so), the index before the frames (faststart),
    and a duration of exactly frames / fps. Chroma has half the resolution, so width and height must be even: of an odd
    size the last column or row is dropped. The same frames give the same bytes. Memory contains the encoder's window,
    some tens of frames, however long the clip is.

    As a context manager it finishes the file, or removes it when the block fails. Not safe for concurrent use.

    Example:
        with VideoWriter(Path("clip.mp4"), width=768, height=512, fps=24) as video:
            for frame in frames:
                video.write(frame)
    """

    def __init__(self, path: Path, *, width: int, height: int, fps: int) -> None:
        """Sizes in pixels, at least 2.

        Raises:
            TaskFailed: this FFmpeg has no x264.
            ValueError: the size or the rate is out of range.
        """
        if width < 2 or height < 2 or fps < 1:
            raise ValueError(f"no clip of {width}x{height} pixels at {fps} frames per second can be written")
        if ENCODER not in av.codecs_available:
            raise TaskFailed(f"This FFmpeg has no {ENCODER}, which the clips are encoded with; install PyAV's wheel.")
        self.path = path
        self.width, self.height, self.fps = width - width % 2, height - height % 2, fps
        self.frames = 0
        self._given = (height, width, 3)
        self._container = av.open(str(path), "w", format="mp4", options=_file_options(fps))
        self._stream = self._container.add_stream(ENCODER, rate=fps, options=_ENCODING)
        self._configure()

    @property
    def duration(self) -> Fraction:
        """Seconds that the frames written so far take."""
        return Fraction(self.frames, self.fps)

    def write(self, frame: Image.Image | NDArray[np.uint8]) -> None:
        """Append one frame: RGB, of the size that the clip was opened with; arrays are (height, width, 3).

        Raises:
            ValueError: it has another size.
        """
        pixels = np.asarray(frame.convert("RGB") if isinstance(frame, Image.Image) else frame)
        if pixels.shape != self._given:
            raise ValueError(f"a frame of shape {pixels.shape} does not fit a clip of {self._given}")
        even = np.ascontiguousarray(pixels[: self.height, : self.width])
        image = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALING,
            # By default it cuts the image into as many slices as the machine has cores.
            threads=1,
        )
        image.pts = self.frames
        image.time_base = Fraction(1, self.fps)
        image.duration = 1
        self._container.mux(self._stream.encode(image))
        self.frames += 1

    def close(self) -> None:
        """Finish the file: flush the encoder, write the index, and move it to the front."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def abandon(self) -> None:
        """Remove the unfinished file."""
        try:
            self._container.close()
        finally:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, failure: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if failure is None:
            self.close()
        else:
            self.abandon()

    def _configure(self) -> None:
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = self.width, self.height, "yuv420p"
        context.time_base = Fraction(1, self.fps)
        context.gop_size = _SECONDS_PER_KEYFRAME * self.fps
        context.thread_count = _THREADS
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709


def _file_options(fps: int) -> dict[str, str]:
    return {
        "movflags": "+faststart",
        "fflags": "+bitexact",
        # Otherwise the duration shown by players would be rounded to milliseconds.
        "movie_timescale": str(1000 * fps),
    }
