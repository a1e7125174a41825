"""`compute down` ends what a killed supervisor has left, and says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compute.stack.control import down
from compute.stack.mark import MARK
from tests.patience import PATIENCE


def test_leftovers_of_a_killed_stack_are_ended_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    with subprocess.Popen(command, env=os.environ | {MARK: str(tmp_path)}, stdout=subprocess.PIPE) as left:  # noqa: S603
        assert left.stdout is not None
        assert left.stdout.readline() == b"up\n"
        assert not down(tmp_path)
        left.wait(PATIENCE)
    assert "ending the processes of a stack that was killed (1)" in capsys.readouterr().err
    assert not down(tmp_path)
    assert not capsys.readouterr().err
