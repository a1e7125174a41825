"""python tools/install.py WHAT LOG PIP-ARGUMENTS…: run a pip installation with one line of progress.

All output of pip goes to LOG. It runs before anything is installed, so it uses the standard library only.
"""

import subprocess
import sys
import time
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
QUOTED_LINES = 12
INTERRUPTED = 130


def main(what: str, log: Path, arguments: list[str]) -> int:
    """Run pip and return its exit code."""
    began = time.monotonic()
    show(f"Installing {what}: a few minutes, once (see {log}) …")
    with log.open("wb") as output:
        pip = subprocess.Popen([*PIP, *arguments], stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            code = wait(pip, what, log, began)
        except KeyboardInterrupt:
            pip.wait()
            show(" interrupted\n")
            return INTERRUPTED
    if code:
        show(" failed\n")
        sys.stderr.write(f"{reason(log)}\nAll output of pip is in {log}.\n")
    else:
        show(f" done in {time.monotonic() - began:.0f} s\n")
    return code


def wait(pip: "subprocess.Popen[bytes]", what: str, log: Path, began: float) -> int:
    """Wait for pip and return its exit code; a terminal shows the progress meanwhile."""
    while True:
        try:
            return pip.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            if sys.stdout.isatty():
                found = log.read_text(errors="replace").count("Collecting ")
                seconds = time.monotonic() - began
                show(f"\r\x1b[KInstalling {what}: {found} packages, {seconds:.0f} s (see {log}) …")


def reason(log: Path) -> str:
    """Return the error that pip reported, or else its last lines."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR:")]
    return "\n".join((errors or lines)[-QUOTED_LINES:])


def show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
