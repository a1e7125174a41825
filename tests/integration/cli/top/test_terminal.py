"""`compute top` in a real pseudo-terminal of 80 x 24, at a server that goes away and comes back."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.patience import PATIENCE

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
QUEUE = {"name": "inference", "depth": 7, "active_workers": 1, "active_tasks": 1, "reserved_tasks": 2}
WORKER = {"name": "Flux-3f2a@host1", "active_tasks": 1, "concurrency": 1, "utilization_pct": 100.0}
TASK = {
    "id": "01a230ea-9687-7935-ab76-c6ce6d875864",
    "task_type": "GENERATION",
    "status": "EXECUTING",
    "progress": 40.0,
}


class Monitored(BaseHTTPRequestHandler):
    """A server with one queue, one worker and one task; `answers` are changed while it runs."""

    answers: dict[str, Any]

    def do_GET(self) -> None:
        path = self.path.removeprefix("/api/v1")
        body = next((answer for beginning, answer in self.answers.items() if path.startswith(beginning)), None)
        data = json.dumps(body).encode()
        self.send_response(200 if body is not None else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving(port: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    answers = {
        "/monitoring/queues": {"queues": [dict(QUEUE)]},
        "/monitoring/workers": {"workers": [WORKER]},
        "/monitoring/stats": {"total_tasks": 1234, "tasks_last_hour": 5, "by_status": {"COMPLETED": 3}},
        "/tasks/?status=EXECUTING": [TASK],
        "/tasks/?status=FAILED": [],
    }
    handler = type("Handler", (Monitored,), {"answers": answers})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port, answers
        finally:
            server.shutdown()
            thread.join()


class Terminal:
    """A terminal of 80 x 24 with a command in it."""

    def __init__(self, *words: str) -> None:
        self._own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "CI")}
        self.process = subprocess.Popen(  # noqa: S603
            # With the terminal as its own, so that Ctrl-C in it is a signal.
            ["setsid", "-c", sys.executable, "-m", "compute.cli", *words],  # noqa: S607
            stdin=other,
            stdout=other,
            stderr=other,
            env=clean | {"TERM": "xterm-256color"},
        )
        os.close(other)
        self.output = ""

    def screen(self) -> list[str]:
        """The lines of the last frame that is whole: each begins where the cursor goes home."""
        frames = self.output.split("\x1b[H")
        return [line.rstrip() for line in ESCAPES.sub("", frames[-2] if len(frames) > 2 else "").splitlines()]

    def until(self, words: str) -> list[str]:
        """Read until the last frame has these words; the frame."""
        give_up = time.monotonic() + PATIENCE
        while words not in "\n".join(self.screen()):
            assert time.monotonic() < give_up, f"no {words!r} in {self.screen()}"
            assert self.process.poll() is None, f"it ended: {self.output[-2000:]!r}"
            self.read()
        return self.screen()

    def read(self) -> None:
        """Read what is there, or wait a moment for it."""
        ready, _, _ = select.select([self._own], [], [], 0.3)
        if ready:
            # The other end is closed once the command has ended.
            with suppress(OSError):
                self.output += os.read(self._own, 1 << 16).decode(errors="replace")

    def press(self, key: str) -> None:
        os.write(self._own, key.encode())

    def ended(self) -> int:
        """Its exit code, when all that it wrote is read."""
        give_up = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < give_up, "it did not end"
            self.read()
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    opened = Terminal(*words)
    try:
        yield opened
    finally:
        opened.close()


def top(port: int) -> tuple[str, ...]:
    return ("top", "--interval", "0.2", "--url", f"http://127.0.0.1:{port}", "--key", "key-of-the-tests")


def test_it_is_live_and_survives_a_server_that_goes_away_and_comes_back() -> None:
    with serving() as (port, answers):
        opened = Terminal(*top(port))
        try:
            frame = opened.until("inference")
            assert len(frame) <= 24
            assert max(map(len, frame)) <= 80
            for words in ("1,234 tasks", "waiting 7", "Flux-3f2a@host1", "…6d875864  GENERATION", "40 %"):
                assert any(words in line for line in frame), frame
            answers["/monitoring/queues"]["queues"][0]["depth"] = 4711
            opened.until("waiting 4,711")
        except BaseException:
            opened.close()
            raise
    try:
        gone = opened.until("away for")
        assert any("inference" in line for line in gone), "what was seen last stays"
        with serving(port):
            back = opened.until("waiting 7")
            assert not any("away for" in line for line in back)
            opened.press("q")
            assert opened.ended() == 0
    finally:
        opened.close()
    assert opened.output.count("\x1b[?1049h") == opened.output.count("\x1b[?1049l") == 1, "the screen is as it was"
    assert opened.output.rindex("\x1b[?25h") > opened.output.rindex("\x1b[?25l"), "and so is the cursor"


@pytest.mark.parametrize("how", ["key", "signal"])
def test_ctrl_c_leaves_the_terminal_as_it_was(how: str) -> None:
    with serving() as (port, _), terminal(*top(port)) as opened:
        opened.until("inference")
        if how == "key":
            opened.press("\x03")
        else:
            opened.process.send_signal(signal.SIGINT)
        assert opened.ended() in (0, 130)
    assert opened.output.count("\x1b[?1049l") == 1


def test_a_server_that_was_never_there_is_waited_for_on_the_screen() -> None:
    with terminal(*top(9)) as opened:
        opened.until("away for")
        opened.press("q")
        assert opened.ended() == 0


def test_once_prints_one_frame_or_one_value() -> None:
    with serving() as (port, _):
        command = [sys.executable, "-m", "compute.cli", *top(port), "--once"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        assert "inference" in told.stdout
        assert "\x1b" not in told.stdout
        value = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)  # noqa: S603
        assert value["queues"] == [QUEUE]
        assert [one["id"] for one in value["running"]] == [TASK["id"]]
    gone = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (gone.returncode, gone.stdout) == (3, "")
