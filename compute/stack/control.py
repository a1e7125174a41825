"""`compute down` and `compute status`: control of a running stack from another shell."""

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
    """The state of a stack; `missing` names the parts that keep a running stack from being ready."""

    stack: RunningStack | None
    missing: str | None


def status(home: Path) -> Status:
    """Return whether the stack of this home runs, and whether it would run a task at once."""
    stack = running_stack(home)
    if stack is None or "url" not in stack:
        return Status(stack, "it is still starting" if stack else None)
    with httpx.Client(timeout=10.0, trust_env=False) as client:
        return Status(stack, readiness(client, stack["url"]))


def down(home: Path) -> bool:
    """Stop the stack of this home and wait until it has ended; return whether one was running.

    Raises:
        StackError: it belongs to another user.
    """
    stack = running_stack(home)
    if stack is not None:
        _stop(home, stack)
    # After an orderly stop there are none; a killed supervisor may leave some.
    if left := leftovers(home, runtime_path(home)):
        say(f"ending the processes of a stack that was killed ({len(left)})", error=True)
        end(left)
    return stack is not None


def _stop(home: Path, stack: RunningStack) -> None:
    pid = stack.get("pid")
    if pid is None:
        raise StackError("a supervisor has the lock but has not written its process id yet; try again")
    try:
        supervisor = psutil.Process(pid)
        supervisor.terminate()
        if not _ends(supervisor):
            say("the stack does not stop by itself; killing it", error=True)
            supervisor.kill()
            _ends(supervisor)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise StackError(f"process {pid} belongs to another user") from error


def _ends(process: psutil.Process) -> bool:
    """Wait for its end. A zombie, whose parent has not read its exit code yet, has ended as well."""
    deadline = time.monotonic() + STOP_SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
