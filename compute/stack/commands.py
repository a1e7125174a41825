"""Runs short steps with heavy imports in a process of their own, so that the supervisor's memory stays small."""

import subprocess
import sys

from compute.stack.errors import StackError
from compute.stack.messages.failures import cause

__all__ = ["run_own_command"]


def run_own_command(*arguments: str) -> None:
    """Run `compute …` in a process of its own, with this process's environment.

    Raises:
        StackError: it failed; the message is the last line of its output.
    """
    command = [sys.executable, "-m", "compute.cli", *arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if result.returncode:
        said = cause(result.stderr).removeprefix("compute: ")
        raise StackError(said or f"`compute {' '.join(arguments)}` failed with {result.returncode}")
