"""One supervisor per COMPUTE_HOME, and a lock that a dead one cannot keep."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compute.stack.errors import StackError
from compute.stack.lock import HomeLock, running_stack

HOLDER = """
import sys, time
from pathlib import Path
from compute.stack.lock import HomeLock
lock = HomeLock(Path(sys.argv[1]))
lock.acquire()
lock.publish({"pid": __import__("os").getpid(), "url": "http://127.0.0.1:9"})
print("held", flush=True)
time.sleep(60)
"""


def test_nothing_runs_in_a_fresh_home(tmp_path: Path) -> None:
    assert running_stack(tmp_path / "missing") is None
    assert running_stack(tmp_path) is None


def test_the_holder_says_who_it_is_until_it_lets_go(tmp_path: Path) -> None:
    lock = HomeLock(tmp_path)
    lock.acquire()
    assert running_stack(tmp_path) == {"pid": os.getpid()}
    lock.publish({"pid": os.getpid(), "url": "http://127.0.0.1:8000"})
    assert running_stack(tmp_path) == {"pid": os.getpid(), "url": "http://127.0.0.1:8000"}
    lock.release()
    assert running_stack(tmp_path) is None


def test_a_second_supervisor_is_refused_and_a_killed_one_forgotten(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:  # noqa: S603
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StackError, match=rf"already running at http://127\.0\.0\.1:9 \(process {holder.pid},"):
            HomeLock(tmp_path).acquire()
        holder.send_signal(signal.SIGKILL)
    assert running_stack(tmp_path) is None
    successor = HomeLock(tmp_path)
    successor.acquire()
    assert running_stack(tmp_path) == {"pid": os.getpid()}
    successor.release()


def test_a_lock_that_is_not_held_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not held"):
        HomeLock(tmp_path).publish({"pid": 1})
