"""Progress of the start on the terminal: one line per step, with its duration."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Steps", "say"]

REPEAT_SECONDS = 15.0


class Steps:
    """Prints each step as it happens. Lines are whole, so they read the same in a terminal and in a log."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self._began

    @contextmanager
    def step(self, title: str) -> Iterator["Step"]:
        """Announce a step, and print its duration when it has succeeded."""
        began = time.monotonic()
        say(f"[{self.elapsed:6.1f} s] {title} …")
        yield Step(self, began)
        took = time.monotonic() - began
        if took >= 1:
            say(f"[{self.elapsed:6.1f} s]   done in {took:.1f} s")


class Step:
    """A step in progress."""

    def __init__(self, steps: Steps, began: float) -> None:
        self._steps = steps
        self._said = ""
        self._said_at = began

    def note(self, text: str) -> None:
        """Print a note when it changes, and from time to time when it does not."""
        now = time.monotonic()
        if text == self._said and now - self._said_at < REPEAT_SECONDS:
            return
        self._said, self._said_at = text, now
        say(f"[{self._steps.elapsed:6.1f} s]   {text}")


def say(text: str, *, error: bool = False) -> None:
    """Print a line. Errors are ignored: a closed terminal must not prevent an orderly shutdown."""
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except (OSError, ValueError):
        return
