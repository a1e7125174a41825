"""`compute down` and `compute status`: what another shell can do to a running stack."""

import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from compute.stack.cluster.runtime import runtime_path
from compute.stack.errors import StackError
from compute.stack.lock import RunningStack, running_stack
from compute.stack.messages.steps import say
from compute.stack.processes import end, leftovers
from compute.stack.readiness import readiness

__all__ = ["Status", "down", "status"]

STOP_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Status:
    """`missing` is what keeps a running stack from being ready."""

    stack: RunningStack | None
    missing: str | None


def status(home: Path) -> Status:
    """Whether the stack of this home runs, and whether a task would run on it at once."""
    stack = running_stack(home)
    if stack is None or "url" not in stack:
        return Status(stack, "it is still starting" if stack else None)
    with httpx.Client(timeout=10.0, trust_env=False) as client:
        return Status(stack, readiness(client, stack["url"]))


def down(home: Path) -> bool:
    """Stop the stack of this home and wait for its end; whether one ran.

    Raises:
        StackError: it belongs to another user.
    """
    stack = running_stack(home)
    if stack is not None:
        _stop(home, stack)
    # None, after an orderly stop; what a killed supervisor has left, otherwise.
    end(leftovers(home, runtime_path(home)))
    return stack is not None


def _stop(home: Path, stack: RunningStack) -> None:
    pid = stack.get("pid")
    if pid is None:
        raise StackError("a supervisor has the lock but does not say who it is; try again")
    try:
        supervisor = psutil.Process(pid)
        supervisor.terminate()
        if not _ends(supervisor):
            say("it does not stop by itself; killing it", error=True)
            supervisor.kill()
            _ends(supervisor)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise StackError(f"process {pid} belongs to another user") from error


def _ends(process: psutil.Process) -> bool:
    """Wait for its end. One that nobody has asked for its exit code yet, a zombie, has ended as well."""
    deadline = time.monotonic() + STOP_SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
