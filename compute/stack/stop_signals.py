"""What Ctrl-C, `compute down` and a closed terminal do to `compute up`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from compute.stack.messages.steps import say

__all__ = ["StopRequested", "StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Ctrl-C, `compute down`, or a terminal that was closed."""


class StopSignals:
    """Turns the first stop signal into `StopRequested`, raised wherever the main thread is, or right behind it."""

    def __init__(self) -> None:
        self._requested = False
        self._held = False

    def listen(self) -> None:
        """Hear the signals; again, if somebody has put handlers of their own in place of ours."""
        self._handle_with(signal.SIG_IGN if self._requested else self._request)

    def ignore(self) -> None:
        """From here on everything is being stopped anyway, and must not be cut short."""
        self._requested = True
        self.listen()

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes inside waits for the end of the block: native code that calls back into Python, as Ray's
        does, cannot bear an exception in its midst.

        Raises:
            StopRequested: one has come, whatever else went wrong.
        """
        before = self._requested
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._requested and not before:
                raise StopRequested

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        # Stopping takes some seconds; an impatient second Ctrl-C must not cut it short.
        self.ignore()
        say("\nstopping …")
        if not self._held:
            raise StopRequested

    def _handle_with(self, handler: "signal._HANDLER") -> None:
        for number in _SIGNALS:
            signal.signal(number, handler)
