"""The keeper of Ray's processes, with a stand-in for `ray start` that leaves orphans behind as it does."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from compute.stack.cluster.keeper import STARTED
from tests.patience import PATIENCE
from tests.processes import runs

PAUSE = "import signal; signal.pause()"
LEAVE = "import subprocess, sys; subprocess.Popen([sys.executable, 'part.py'], cwd=sys.argv[1]); print('done')"


def keeper(folder: Path, command: list[str], *, parent: int | None = None) -> list[str]:
    options = ["--parent", str(os.getpid() if parent is None else parent), "--log", str(folder / "log")]
    return [sys.executable, "-m", "compute.stack.cluster.keeper", *options, "--", *command]


def leaving_a_part(folder: Path, part: str = PAUSE) -> list[str]:
    """A command that starts `part.py`, says so, and ends at once."""
    (folder / "part.py").write_text(part)
    return [sys.executable, "-c", LEAVE, str(folder)]


@contextmanager
def running(folder: Path, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(keeper(folder, command), stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_it_adopts_what_the_command_leaves_and_names_what_ends(tmp_path: Path) -> None:
    with running(tmp_path, leaving_a_part(tmp_path)) as process:
        assert line(process) == STARTED
        (part,) = psutil.Process(process.pid).children()
        assert (tmp_path / "log").read_text() == "done\n"
        part.kill()
        assert line(process) == "part"
        assert process.wait(PATIENCE) == 1


def test_an_orphan_that_has_ended_is_none_of_its_parts(tmp_path: Path) -> None:
    """It stays a zombie until the keeper waits for it, and has no command line any more."""
    both = (
        "import os, sys; short = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, '-c', '']); "
        "os.waitid(os.P_PID, short, os.WEXITED | os.WNOWAIT); "
    )
    command = leaving_a_part(tmp_path)
    command[2] = both + LEAVE
    with running(tmp_path, command) as process:
        assert line(process) == STARTED
        parts = [one for one in psutil.Process(process.pid).children() if runs(one)]
        assert len(parts) == 1
        parts[0].kill()
        assert line(process) == "part"


def test_told_to_stop_it_ends_all_that_is_below(tmp_path: Path) -> None:
    part = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PAUSE!r}])"
    with running(tmp_path, leaving_a_part(tmp_path, part)) as process:
        assert line(process) == STARTED
        keeper_process = psutil.Process(process.pid)
        while len(below := keeper_process.children(recursive=True)) < 2:
            assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert psutil.wait_procs(below, PATIENCE)[1] == []


def test_it_ends_all_when_its_parent_is_killed(tmp_path: Path) -> None:
    launch = (
        "import os, subprocess, sys; command = sys.argv[1:]; "
        "command[command.index('--parent') + 1] = str(os.getpid()); subprocess.run(command)"
    )
    command = [sys.executable, "-c", launch, *keeper(tmp_path, leaving_a_part(tmp_path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert line(parent) == STARTED
        below = psutil.Process(parent.pid).children(recursive=True)
        assert len(below) == 2
        parent.send_signal(signal.SIGKILL)
        assert psutil.wait_procs(below, PATIENCE)[1] == []


def test_the_end_of_another_orphan_is_none_of_a_part(tmp_path: Path) -> None:
    # The part starts a process that starts one more and ends: that one is adopted, and ends as well.
    adopted = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', ''])"
    part = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {adopted!r}]); open('done', 'w'); {PAUSE}"
    with running(tmp_path, leaving_a_part(tmp_path, part)) as process:
        assert line(process) == STARTED
        keeper_process = psutil.Process(process.pid)
        while not (tmp_path / "done").exists() or len(keeper_process.children()) > 1:
            assert process.poll() is None
        assert [child.cmdline()[-1] for child in keeper_process.children()] == ["part.py"]


def test_a_command_that_fails_is_not_started(tmp_path: Path) -> None:
    with running(tmp_path, [sys.executable, "-c", "raise SystemExit('no room')"]) as process:
        assert line(process) == ""
        assert process.wait(PATIENCE) == 1
    assert (tmp_path / "log").read_text() == "no room\n"


def test_a_parent_that_has_gone_already_is_no_parent(tmp_path: Path) -> None:
    command = keeper(tmp_path, leaving_a_part(tmp_path), parent=os.getppid())
    refused = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "The parent has died.\n")
    assert not (tmp_path / "log").exists()
