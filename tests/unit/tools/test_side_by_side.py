"""Two commands at once: both run to their end, and either one's failure is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE

TOOL = Path(__file__).parents[3] / "tools" / "side_by_side.py"
MEET = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:3])
mine.touch()
while not other.exists():
    time.sleep(0.01)
print(mine.name)
sys.exit(int(sys.argv[3]))
"""


LINGER = """
import pathlib, sys, threading
mine = pathlib.Path(sys.argv[1])
try:
    mine.touch()
    threading.Event().wait()
except KeyboardInterrupt:
    print(mine.name)
"""


def tool(first: list[str], second: list[str]) -> list[str]:
    return [sys.executable, str(TOOL), sys.executable, "-c", *first, "--", sys.executable, "-c", *second]


@pytest.mark.parametrize(("codes", "expected"), [(("0", "0"), 0), (("3", "0"), 1), (("0", "3"), 1)])
def test_both_run_at_once_and_either_failure_is_one(tmp_path: Path, codes: tuple[str, str], expected: int) -> None:
    """Each waits until the other one runs."""
    files = [str(tmp_path / name) for name in ("first", "second")]
    command = tool([MEET, *files, codes[0]], [MEET, *files[::-1], codes[1]])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)  # noqa: S603
    assert (done.returncode, done.stdout, done.stderr) == (expected, "first\nsecond\n", "")


def _as_at_a_terminal() -> None:
    """A run in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_reaches_both_and_what_they_say_of_it_is_shown(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    command = tool([LINGER, str(first)], [LINGER, str(second)])
    group = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_as_at_a_terminal
    )
    try:
        give_up = time.monotonic() + PATIENCE
        while not (first.exists() and second.exists()):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        os.killpg(group.pid, signal.SIGINT)
        said, _ = group.communicate(timeout=PATIENCE)
    finally:
        if group.poll() is None:
            os.killpg(group.pid, signal.SIGKILL)
    assert (group.returncode, said) == (0, "first\nsecond\n")
