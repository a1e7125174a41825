"""Looks again and again, in a thread of its own, while the screen is drawn and keys are read."""

import re
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from compute.cli.top.frame import Frame, checked
from compute.cli.top.snapshot import Snapshot, look
from compute.terminal.words import duration

if TYPE_CHECKING:
    from rich.console import Console

    from compute.client import ClientError, Compute

__all__ = ["Watcher", "leaves", "show"]

KEY_SECONDS = 0.1
LEAVE = ("q", "Q", "\x03", "\x04")
ESCAPE = "\x1b"
_SEQUENCE = re.compile("\x1b(\\[[0-?]*[ -/]*[@-~]|O.|[^\x1b])")
"""What a terminal sends for an arrow or a function key, and for a key with Alt."""
OLDEST = 30
"""Snapshots between which the rate is measured."""
_REFUSED = (401, 403)
_BY_SIGNAL = 128
"""A program that a signal has ended has this exit code, and more by the signal's number."""


class Watcher:
    """The last snapshot, and what is wrong if there is no newer one."""

    def __init__(self, client: "Compute", interval: float) -> None:
        self._client = client
        self._interval = interval
        self._ended = threading.Event()
        self._seen: list[Snapshot] = []
        self._trouble: tuple[str, float] | None = None
        self._refused: ClientError | None = None
        self._thread = threading.Thread(target=self._run, name="looking", daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The requests under way are not waited for: their threads are daemons.
        self._ended.set()

    def frame(self, height: int | None) -> Frame:
        """What is to be seen now.

        Raises:
            ClientError: the server refuses the key, which waiting does not change.
        """
        if self._refused is not None:
            raise self._refused
        seen = self._seen
        trouble = self._trouble
        said = None if trouble is None else f"away for {duration(time.monotonic() - trouble[1])}: {trouble[0]}"
        return Frame(self._client.url, seen[-1] if seen else None, _rate(seen), said, height)

    def _run(self) -> None:
        from compute.client import ClientError

        while not self._ended.wait(0.0):
            began = time.monotonic()
            try:
                self._seen = [*self._seen[1 - OLDEST :], checked(look(self._client))]
                self._trouble = None
            except ClientError as error:
                self._refused = error if error.status in _REFUSED else None
                self._note(str(error), began)
            except Exception as error:  # whatever a server says, the screen tells that it is not understood
                self._note(f"the answer is not understood: {type(error).__name__}: {error}", began)
            self._ended.wait(max(0.0, self._interval - (time.monotonic() - began)))

    def _note(self, trouble: str, began: float) -> None:
        since = self._trouble[1] if self._trouble is not None else began
        self._trouble = (" ".join(trouble.split()), since)
        # The counts of before may be those of another database.
        self._seen = self._seen[-1:]


def show(client: "Compute", interval: float, console: "Console") -> None:
    """Show the server until a key or Ctrl-C ends it. The screen is then as it was before.

    Raises:
        ClientError: the server refuses the key.
    """
    from rich.live import Live

    with (
        _left_whole(),
        Watcher(client, interval) as watcher,
        _keys() as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        drawn = 0.0
        while True:
            if time.monotonic() - drawn >= min(interval, 1.0):
                live.update(watcher.frame(console.height), refresh=True)
                drawn = time.monotonic()
            if leaves(keys()):
                return


@contextmanager
def _left_whole() -> Iterator[None]:
    """While the screen is taken, no signal ends or suspends the process in the middle of it: SIGTERM and SIGHUP leave
    by the way of an error, which gives the screen back, and Ctrl-Z does nothing."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(_BY_SIGNAL + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leaves(pressed: str) -> bool:
    """Whether keys that were pressed end the view: q, Ctrl-C, Ctrl-D or Esc alone, and no arrow."""
    left = _SEQUENCE.sub("", pressed)
    return ESCAPE in left or any(key in LEAVE for key in left)


@contextmanager
def _keys() -> Iterator["Keys"]:
    """Yield a function that waits a moment and returns the keys that were pressed; the terminal shows none of them."""
    if not sys.stdin.isatty():
        yield Keys(None)
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield Keys(sys.stdin.fileno())
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class Keys:
    """Reads the keys that were pressed."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self) -> str:
        """Wait a moment for a key; an empty text if there was none."""
        import os

        if self._descriptor is None:
            time.sleep(KEY_SECONDS)
            return ""
        ready, _, _ = select.select([self._descriptor], [], [], KEY_SECONDS)
        if not ready:
            return ""
        # Nothing where something was announced: the terminal is gone.
        return os.read(self._descriptor, 64).decode(errors="replace") or LEAVE[0]


def _rate(seen: list[Snapshot]) -> float | None:
    """Tasks that end in a minute, between the oldest and the newest snapshot."""
    if len(seen) < 2 or seen[-1].at <= seen[0].at:
        return None
    return max(0.0, 60 * (seen[-1].done() - seen[0].done()) / (seen[-1].at - seen[0].at))
