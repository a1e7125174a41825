"""`python -m tools.recording FILE`: record commands with their progress, as text, beside a server that runs.

The server is that of COMPUTE_HOME. Each command runs in a pseudo-terminal of 100 x 30; what it draws over itself is
written one state after the other, with the time at which it was there. docs/recordings/cli.txt is made so.
"""

import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["COMMANDS", "main", "recorded"]

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 100, 30
APART_SECONDS = 1.0
"""States that follow each other sooner are left out, but for the last one."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MOVING = re.compile(r"[\u2800-\u28ff]|\d+:\d\d:\d\d")
"""What changes though nothing has happened: the spinner and the clock."""
_OVER = re.compile(r"\r\x1b\[2K|\x1b\[H")
"""What begins a new state of a line, or of the screen."""
COMMANDS: Sequence[tuple[str, float | None]] = (
    ("compute doctor", None),
    ('compute generate "a red dress on a white background" --seed 13 --width 512 --height 512 --out dress.png', None),
    ("compute refine dress.png --factor 2 --out large", None),
    ("compute task list --limit 3", None),
    ("compute models draw-samples kimonos", None),
    ("compute train start kimonos/*.png --trigger-word kimono --name kimono-v1 --steps 60", None),
    ("compute bulk dresses.jsonl", None),
    ("compute top", 6.0),
    ("compute queues", None),
    ("compute workers", None),
    ("compute task show 00000000-0000-4000-8000-000000000000", None),
)
"""And the seconds after which `q` is pressed."""
_BULK = {"task_type": "GENERATION", "width": 512, "height": 512, "num_outputs": 4}
_COLOURS = ("red", "green", "blue", "white", "black", "yellow", "grey", "pink")


def recorded(line: str, folder: Path, leave_after: float | None = None) -> str:
    """What a terminal shows of a command that is run by bash in a folder: its line, its states, its exit code."""
    own, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    program = f'compute() {{ {shlex.quote(sys.executable)} -m compute.cli "$@"; }}\n{line}'
    process = subprocess.Popen(  # noqa: S603 - commands of this module
        ["bash", "-c", program],  # noqa: S607
        cwd=folder,
        stdin=other,
        stdout=other,
        stderr=other,
        env=os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
    )
    os.close(other)
    began = time.monotonic()
    parts = list(_read(own, process, began, leave_after))
    os.close(own)
    shown = "\n".join([f"$ {line}", *_states(parts)])
    return shown if process.wait() == 0 else f"{shown}\n[exit code {process.returncode}]"


def _read(
    own: int, process: "subprocess.Popen[bytes]", began: float, leave_after: float | None
) -> Iterator[tuple[float, str]]:
    """What comes from the terminal, with the seconds after which it came."""
    while True:
        if leave_after is not None and time.monotonic() - began > leave_after:
            os.write(own, b"q")
            leave_after = None
        ready, _, _ = select.select([own], [], [], 0.1)
        if not ready and process.poll() is not None:
            return
        if ready:
            try:
                yield time.monotonic() - began, os.read(own, 1 << 16).decode(errors="replace")
            except OSError:
                # The command has ended, and with it the other side.
                return


def _states(parts: Sequence[tuple[float, str]]) -> Iterator[str]:
    """The states of what was drawn, each once: lines that stay as they are, what is drawn over with its time."""
    told, at = "", -APART_SECONDS
    pieces = list(_whole(parts))
    for index, (moment, piece) in enumerate(pieces):
        text = _plain(piece)
        is_last = index == len(pieces) - 1
        news = _MOVING.sub("", text)
        if not text.strip() or (not is_last and (news == told or moment - at < APART_SECONDS)):
            continue
        told, at = news, moment
        yield text if len(pieces) == 1 or is_last else _timed(moment, text)


def _whole(parts: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """The output, cut where something is drawn over, each piece with the time of its end."""
    piece, moment = "", 0.0
    for moment, text in parts:
        first, *rest = _OVER.split(text)
        piece += first
        for following in rest:
            yield moment, piece
            piece = following
    yield moment, piece


def _timed(moment: float, text: str) -> str:
    head = f"[{moment:5.1f} s]"
    lines = text.splitlines()
    return f"{head} {lines[0]}" if len(lines) == 1 else "\n".join([head, *lines])


def _plain(text: str) -> str:
    lines = [line.rstrip() for line in _ESCAPES.sub("", text).replace("\r", "").splitlines()]
    return "\n".join(lines).strip("\n")


def main(file: Path) -> None:
    """Record all commands into a file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "serve_config.yaml", folder)
        lines = [json.dumps(_BULK | {"prompt": f"a {colour} dress"}) for colour in _COLOURS]
        (folder / "dresses.jsonl").write_text("\n".join([*lines, ""]))
        made = [recorded(line, folder, leave_after) for line, leave_after in COMMANDS]
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n\n".join(made) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
