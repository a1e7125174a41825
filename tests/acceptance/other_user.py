"""The view of another user of the machine: tried as `nobody` where we are root."""

import json
import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["can_try", "entered_by_nobody", "open_by_mode"]


def can_try() -> bool:
    """Whether we may become somebody else."""
    return os.geteuid() == 0


def entered_by_nobody(paths: Iterable[Path]) -> list[str]:
    """Those of the paths that `nobody` can list, read, write or connect to."""
    # This file as a program: a copy of this process would have its locks, and none of the threads that hold them.
    asked = json.dumps([os.fsdecode(path) for path in paths])
    told = subprocess.run([sys.executable, __file__], input=asked, capture_output=True, text=True, check=True)  # noqa: S603
    found: list[str] = json.loads(told.stdout)
    return found


def open_by_mode(path: Path) -> bool:
    """Whether others or a group may do anything with it, by its mode and those of the folders above it."""
    others = stat.S_IRWXO | stat.S_IRWXG
    try:
        return bool(path.lstat().st_mode & others) and all(
            folder.stat().st_mode & (stat.S_IXOTH | stat.S_IXGRP) for folder in path.parents
        )
    except FileNotFoundError:
        return False


def _enters(path: Path) -> bool:
    try:
        kind = path.stat().st_mode
        if stat.S_ISSOCK(kind):
            return _connects(path)
        return any(os.access(path, how) for how in (os.R_OK, os.W_OK, os.X_OK))
    except OSError:
        return False


def _connects(path: Path) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as client:
            try:
                client.connect(str(path))
            except OSError:
                continue
            return True
    return False


def _become_nobody() -> None:
    account = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    _become_nobody()
    json.dump([path for path in asked if _enters(Path(path))], sys.stdout)
