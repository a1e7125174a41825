"""The folder of what does not last: Ray's sessions and logs, HAProxy's files and sockets."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from compute.stack.errors import StackError

__all__ = ["discard_if_empty", "prune_sessions", "ray_folder", "runtime_folder", "runtime_path"]

KEPT_SESSIONS = 3


def runtime_path(home: Path) -> Path:
    """A short path of our own for this COMPUTE_HOME: a socket's path may not be longer than 107 bytes."""
    digest = hashlib.sha256(f"{os.geteuid()}:{home}".encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"compute-{digest}"


def runtime_folder(home: Path) -> Path:
    """The folder at that path, made if it is not there and closed to everybody else.

    Raises:
        StackError: somebody else has put something there.
    """
    folder = runtime_path(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise StackError(f"{folder} belongs to somebody else; remove it")
    folder.chmod(0o700)
    return folder


def ray_folder(runtime: Path) -> Path:
    """Ray's part of it. Ray opens its folder and its sockets to every user, so it gets one below a closed one."""
    return runtime / "r"


def discard_if_empty(folder: Path) -> None:
    """Leave nothing behind of a start that came to nothing."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def prune_sessions(runtime: Path) -> None:
    """Keep the logs of the last few runs, also of those before Ray had a folder of its own in here."""
    found = [path for folder in (runtime, ray_folder(runtime)) for path in folder.glob("session_*")]
    sessions = [path for path in found if path.is_dir() and not path.is_symlink()]
    for old in sorted(sessions, key=lambda path: path.stat().st_mtime)[: -KEPT_SESSIONS or None]:
        shutil.rmtree(old, ignore_errors=True)
