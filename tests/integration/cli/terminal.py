"""A real pseudo-terminal with a command in it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.patience import PATIENCE

__all__ = ["Terminal", "terminal"]

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal of 80 x 24 with a command in it."""

    def __init__(self, *words: str, **environment: str) -> None:
        self._own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "CI")}
        self.process = subprocess.Popen(  # noqa: S603
            # With the terminal as its own, so that Ctrl-C in it is a signal; a job in the background ignores that one,
            # and so would what it starts.
            ["setsid", "-c", "env", "--default-signal=INT", sys.executable, "-m", "compute.cli", *words],  # noqa: S607
            stdin=other,
            stdout=other,
            stderr=other,
            env=clean | {"TERM": "xterm-256color"} | environment,
        )
        os.close(other)
        self.output = ""
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")

    def screen(self) -> list[str]:
        """The lines of the last frame that is whole: each begins where the cursor goes home."""
        frames = self.output.split("\x1b[H")
        return [line.rstrip() for line in ESCAPES.sub("", frames[-2] if len(frames) > 2 else "").splitlines()]

    def hears(self, words: str) -> None:
        """Read until these words have come."""
        give_up = time.monotonic() + PATIENCE
        while words not in ESCAPES.sub("", self.output):
            assert time.monotonic() < give_up, f"no {words!r} in {self.output[-2000:]!r}"
            assert self.process.poll() is None, f"it ended: {self.output[-2000:]!r}"
            self.read()

    def until(self, words: str) -> list[str]:
        """Read until the last frame has these words; the frame."""
        give_up = time.monotonic() + PATIENCE
        while words not in "\n".join(self.screen()):
            assert time.monotonic() < give_up, f"no {words!r} in {self.screen()}"
            assert self.process.poll() is None, f"it ended: {self.output[-2000:]!r}"
            self.read()
        return self.screen()

    def read(self) -> bool:
        """Read what is there, or wait a moment for it; whether anything came."""
        ready, _, _ = select.select([self._own], [], [], 0.3)
        data = b""
        if ready:
            # The other end is closed once the command has ended.
            with suppress(OSError):
                data = os.read(self._own, 1 << 16)
        self.output += self._decoder.decode(data)
        return bool(data)

    def until_gone(self, words: str) -> None:
        """Read until the last frame has these words no more."""
        give_up = time.monotonic() + PATIENCE
        while words in "\n".join(self.screen()):
            assert time.monotonic() < give_up, f"{words!r} stays in {self.screen()}"
            assert self.process.poll() is None, f"it ended: {self.output[-2000:]!r}"
            self.read()

    def press(self, key: str) -> None:
        os.write(self._own, key.encode())

    def ended(self) -> int:
        """Its exit code, when all that it wrote is read."""
        give_up = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < give_up, "it did not end"
            self.read()
        while self.read():
            pass
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)


@contextmanager
def terminal(*words: str, **environment: str) -> Iterator[Terminal]:
    """A terminal that is closed in the end, and its command with it."""
    opened = Terminal(*words, **environment)
    try:
        yield opened
    finally:
        opened.close()
