"""Only our own processes are ended: by their mark, or by a file in our folder that they hold open."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from compute.stack.mark import MARK
from compute.stack.processes import end, leftovers
from tests.patience import PATIENCE

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
HOLD = "import sys, time; log = open(sys.argv[1], 'w'); print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def spawn(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, *arguments], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    home, runtime = tmp_path / "home", tmp_path / "runtime"
    home.mkdir()
    runtime.mkdir()
    return home, runtime


def test_ours_are_found_and_ended_and_strangers_live_on(folders: tuple[Path, Path]) -> None:
    home, runtime = folders
    marked = spawn(SLEEP, **{MARK: str(home)})
    holding = spawn(HOLD, str(runtime / "worker.log"))
    stranger = spawn(SLEEP, **{MARK: str(home.parent / "another")})
    try:
        found = leftovers(home, runtime)
        assert {process.pid for process in found} == {marked.pid, holding.pid}
        end(found)
        assert not psutil.pid_exists(marked.pid)
        assert not psutil.pid_exists(holding.pid)
        assert psutil.Process(stranger.pid).is_running()
    finally:
        for process in (marked, holding, stranger):
            process.kill()
            process.communicate()


def test_one_that_ignores_the_request_is_killed(folders: tuple[Path, Path]) -> None:
    home, runtime = folders
    with spawn(STUBBORN, **{MARK: str(home)}) as stubborn:
        process = psutil.Process(stubborn.pid)
        end(leftovers(home, runtime), grace_seconds=0.2)
        # It is told so, and takes its time.
        assert psutil.wait_procs([process], PATIENCE)[1] == []


def test_we_spare_ourselves(folders: tuple[Path, Path]) -> None:
    home, runtime = folders
    with (runtime / "own.log").open("w"):
        assert os.getpid() not in {process.pid for process in leftovers(home, runtime)}


def test_ending_nobody_is_no_error() -> None:
    end([])
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        process = psutil.Process(gone.pid)
        gone.wait()
    end([process])
