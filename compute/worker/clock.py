"""Timings of a run: seconds per stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from compute.telemetry.tracing import record

__all__ = ["StageClock"]

_IN_TURN = ("fetch", "prepare", "wait", "blocked", "draw", "save")
_BESIDE = ("decode", "encode", "upload")
_SPANS = {"fetch": "load inputs", "draw": "denoise", "wait": "wait for the device", "upload": "store"}
"""Names of stages in traces, where they differ."""


class StageClock:
    """Measures the seconds per stage of one run that generates images. It starts when it is constructed.

    These follow each other and add up to the whole time: `fetch` (inputs from the store), `prepare` (prompts, LoRAs,
    the reference image), `wait` (for the device), `blocked` (holding the device while the store catches up), `draw`
    (denoising) and `save` (from the last denoising step until everything is stored and earlier jobs have ended).
    These run concurrently, are summed over all images and include queueing: `decode`, `encode` (with hashing) and
    `upload`.

    Example:
        clock = StageClock()
        image = load()
        clock.lap("fetch")
        with clock.beside("encode"):
            data = encode(image)
        clock.report()  # {"timing_ms": 12, "timings": {"fetch_ms": 4.1, ...}}
    """

    def __init__(self, *, also: tuple[str, ...] = ()) -> None:
        """`also` names further stages of the run, which count concurrently."""
        self._began = self._last = time.perf_counter()
        self._seconds = dict.fromkeys(_IN_TURN + _BESIDE + also, 0.0)
        self._steps = 0

    def lap(self, stage: str) -> None:
        """Count the time since the last lap towards this stage."""
        now = time.perf_counter()
        self._seconds[stage] += now - self._last
        record(_SPANS.get(stage, stage), now - self._last)
        self._last = now

    def step(self) -> None:
        """Count a denoising step."""
        self._steps += 1

    @contextmanager
    def beside(self, stage: str) -> Iterator[None]:
        """Count the time inside the block towards this stage, whatever else runs at the same time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            self._seconds[stage] += seconds
            record(_SPANS.get(stage, stage), seconds)

    def end(self) -> None:
        """End the run now. For a run that counts every stage with `beside`."""
        self._last = time.perf_counter()

    def report(self) -> dict[str, object]:
        """Returns `timing_ms`, from the start to the last lap, and `timings` by stage, in ms, rounded to microseconds;
        and `denoising_steps`, if there were any."""
        timings = {f"{stage}_ms": round(seconds * 1000, 3) for stage, seconds in self._seconds.items()}
        steps = {"denoising_steps": self._steps} if self._steps else {}
        return {"timing_ms": round((self._last - self._began) * 1000), "timings": timings, **steps}
