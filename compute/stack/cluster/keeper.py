"""Keeps the processes of a Ray cluster together: `python -m compute.stack.cluster.keeper --parent PID --log FILE -- …`.

The command behind `--` is `ray start`, which ends once the cluster runs and leaves its processes as
orphans. The keeper adopts them. It prints `started` then, and the name of the first of them that ends. When it is told
to stop, or its parent dies, it ends them all, and whatever they have started.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import psutil

from compute.stack.processes import end

__all__ = ["STARTED", "main"]

STARTED = "started"

# From linux/prctl.h.
_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36

_UNWANTED = "ray.util.client.server"
"""A server for drivers on other machines. `ray start` has no option that leaves it out."""


def main() -> None:
    """Run the command, then watch the processes that it has left behind."""
    parser = argparse.ArgumentParser(description="Keeps the processes of a Ray cluster together.")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1)
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != given.parent:
        sys.exit("The parent has died.")
    parts: dict[psutil.Process, str] = {}
    try:
        _start(given.command, given.log)
        parts.update(_parts())
        print(STARTED, flush=True)  # noqa: T201
        print(_first_to_end(parts), flush=True)  # noqa: T201
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_all(list(parts))
    sys.exit(1)


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _start(command: list[str], log: Path) -> None:
    with log.open("wb") as output:
        started = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603
    if started.returncode:
        sys.exit(1)


def _parts() -> dict[psutil.Process, str]:
    """The processes that the cluster depends on, with their names."""
    parts = {}
    for process in psutil.Process().children():
        # An orphan that has ended by now was none of the lasting ones.
        with contextlib.suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            if _UNWANTED in command:
                process.kill()
                continue
            scripts = [Path(argument).stem for argument in command if argument.endswith(".py")]
            parts[process] = scripts[-1] if scripts else process.name()
    return parts


def _first_to_end(parts: dict[psutil.Process, str]) -> str:
    names = {process.pid: name for process, name in parts.items()}
    while True:
        # It may be another process: any orphan below this process becomes its child.
        ended, _ = os.wait()
        if ended in names:
            return names[ended]


def _end_all(parts: list[psutil.Process]) -> None:
    for part in parts:
        if part.is_running():
            part.kill()
    me = psutil.Process()
    while children := me.children(recursive=True):
        end(children)


if __name__ == "__main__":
    main()
