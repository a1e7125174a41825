"""Installing is one line of progress; what goes wrong is told with its reason and its log."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[3] / "tools" / "install.py"


def install(log: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), "the dependencies", str(log), "--no-index", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def test_a_success_is_one_line(tmp_path: Path) -> None:
    done = install(tmp_path / "install.log", "pip")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert "done in" in done.stdout
    assert "Requirement already satisfied" in (tmp_path / "install.log").read_text()


def test_a_failure_gives_pips_reason_and_the_place_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "a folder" / "install.log"
    log.parent.mkdir()
    failed = install(log, "no-such-package-anywhere==1")
    assert failed.returncode != 0
    assert failed.stdout.count("\n") == 1
    assert "ERROR: No matching distribution found for no-such-package-anywhere==1" in failed.stderr
    assert str(log) in failed.stderr
    assert "no-such-package-anywhere" in log.read_text()
