"""Handling of Ctrl-C, `compute down` and a closed terminal by `compute up`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from compute.stack.messages.steps import say

__all__ = ["StopRequested", "StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Raised by Ctrl-C, `compute down`, or a terminal that was closed."""


class StopSignals:
    """Turns the first stop signal into `StopRequested`, raised in the main thread wherever it is, or soon after."""

    def __init__(self) -> None:
        self._requested = False
        self._held = False

    def listen(self) -> None:
        """Install the signal handlers; again, if another library has replaced them."""
        self._handle_with(signal.SIG_IGN if self._requested else self._request)

    def ignore(self) -> None:
        """Ignore further signals: everything is being stopped, and that must not be interrupted."""
        self._requested = True
        self.listen()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer a signal to the end of the block.

        A process that is started inside the block is registered for stopping before the signal is raised.

        Raises:
            StopRequested: a signal has come, whatever else went wrong.
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
