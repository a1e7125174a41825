"""Where the time of a run went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["StageClock"]

_IN_TURN = ("fetch", "prepare", "wait", "blocked", "draw", "save")
_BESIDE = ("decode", "encode", "upload")


class StageClock:
    """Seconds per stage of one run that draws images; it starts when it is made.

    One after the other, together the whole time: `fetch` (inputs from the store), `prepare` (prompts, LoRAs, the
    reference image), `wait` (for the device), `blocked` (holding the device, until the store had caught up), `draw`
    and `save` (after the last draw, until all is stored and the jobs before have ended). Beside them, summed over all
    images and with the time in line: `decode`, `encode` (with its hash) and `upload`.
    """

    def __init__(self, *, also: tuple[str, ...] = ()) -> None:
        """`also` names stages of a run that does more than this."""
        self._began = self._last = time.perf_counter()
        self._seconds = dict.fromkeys(_IN_TURN + _BESIDE + also, 0.0)

    def lap(self, stage: str) -> None:
        """The time since the last lap belongs to this stage."""
        now = time.perf_counter()
        self._seconds[stage] += now - self._last
        self._last = now

    @contextmanager
    def beside(self, stage: str) -> Iterator[None]:
        """The time inside belongs to this stage, whatever else goes on."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - began

    def end(self) -> None:
        """The run ends now, for a run that counts every stage with `beside`."""
        self._last = time.perf_counter()

    def report(self) -> dict[str, object]:
        """`timing_ms`, from the start to the last lap, and `timings` by stage; in ms, these to the microsecond."""
        timings = {f"{stage}_ms": round(seconds * 1000, 3) for stage, seconds in self._seconds.items()}
        return {"timing_ms": round((self._last - self._began) * 1000), "timings": timings}
