"""A command in a process of its own that Ctrl-C ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.patience import PATIENCE

__all__ = ["interrupted"]


def interrupted(words: Sequence[str], folder: Path, ready: Callable[[str], bool]) -> tuple[int, str, str]:
    """Run a command, and interrupt it once what it has printed is `ready`: its exit code, output and errors."""
    out, err = folder / "stdout", folder / "stderr"
    environment = {**os.environ, "COMPUTE_HOME": str(folder / "home")}
    with out.open("w") as standard, err.open("w") as errors:
        # A job in the background ignores the signal of Ctrl-C, and so would what it starts.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "compute.cli", *words]
        process = subprocess.Popen(command, stdout=standard, stderr=errors, env=environment)  # noqa: S603
    try:
        give_up = time.monotonic() + PATIENCE
        while not ready(out.read_text()):
            assert process.poll() is None, err.read_text()
            assert time.monotonic() < give_up, "it printed nothing that was waited for"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        return process.wait(PATIENCE), out.read_text(), err.read_text()
    finally:
        process.kill()
        process.wait()
