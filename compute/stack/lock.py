"""A lock that allows one stack per COMPUTE_HOME. The kernel releases it when the process dies, however it dies."""

import fcntl
import json
import os
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from compute.stack.errors import StackError
from compute.stack.messages.hints import own_command

__all__ = ["HomeLock", "RunningStack", "running_stack"]

RunningStack = dict[str, Any]
"""Facts about a running supervisor: `pid` always, `url` and the rest once it is up."""


class HomeLock:
    """The lock of a supervisor for its lifetime; the file has the supervisor's facts."""

    def __init__(self, home: Path) -> None:
        self._path = _path(home)
        self._file: TextIOWrapper | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StackError: another supervisor has it.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read(file)
            file.close()
            raise StackError(_already_running(holder, self._path.parent)) from error
        self._file = file
        self.publish({"pid": os.getpid()})

    def publish(self, facts: RunningStack) -> None:
        """Write the facts for `status` and `down`."""
        if self._file is None:
            raise RuntimeError("the lock is not held")
        self._file.seek(0)
        self._file.truncate()
        json.dump(facts, self._file)
        self._file.flush()

    def release(self) -> None:
        if self._file:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def running_stack(home: Path) -> RunningStack | None:
    """Return the facts about the supervisor of this home; None if none is running."""
    try:
        file = _path(home).open("r")
    except FileNotFoundError:
        return None
    with file:
        try:
            # Shared, so that two readers do not take each other for a supervisor.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file)
    return None


def _path(home: Path) -> Path:
    return home / "supervisor.lock"


def _read(file: TextIOWrapper) -> RunningStack:
    file.seek(0)
    try:
        facts: RunningStack = json.load(file)
    except ValueError:
        return {}
    return facts


def _already_running(holder: RunningStack, home: Path) -> str:
    where = f" at {holder['url']}" if "url" in holder else ""
    stop = own_command("down", home=home)
    return f"already running{where} (process {holder.get('pid', 'unknown')}, COMPUTE_HOME={home}); stop it: {stop}"
