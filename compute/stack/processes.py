"""Finds and ends processes of a stack that outlived their supervisor."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil

from compute.stack.mark import MARK

__all__ = ["end", "leftovers"]


def leftovers(home: Path, runtime: Path) -> list[psutil.Process]:
    """Return every process of the stack of `home`, except this one and its ancestors.

    A process belongs to the stack by the mark in its environment, or by an open file in the stack's own folder:
    Ray's workers overwrite their environment when they set their title, but each writes a log there.
    """
    mine = psutil.Process()
    spared = {os.getpid(), *(parent.pid for parent in mine.parents())}
    return [process for process in psutil.process_iter() if process.pid not in spared and _ours(process, home, runtime)]


def end(processes: list[psutil.Process], grace_seconds: float = 5.0) -> None:
    """Terminate the processes, and kill those that remain after `grace_seconds`."""
    for process in processes:
        _signal(process, psutil.Process.terminate)
    _, stubborn = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in stubborn:
        _signal(process, psutil.Process.kill)
    psutil.wait_procs(stubborn, timeout=grace_seconds)


def _ours(process: psutil.Process, home: Path, runtime: Path) -> bool:
    try:
        if process.environ().get(MARK) == str(home):
            return True
        return any(Path(file.path).is_relative_to(runtime) for file in process.open_files())
    except (psutil.Error, OSError):
        # It has ended, or it belongs to another user and so cannot be ours.
        return False


def _signal(process: psutil.Process, how: Callable[[psutil.Process], None]) -> None:
    try:
        how(process)
    except psutil.NoSuchProcess:
        return
