"""The folder of a stack's temporary files: Ray's sessions and logs, HAProxy's files and sockets."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from compute.stack.errors import StackError

__all__ = ["discard_if_empty", "prune_sessions", "ray_folder", "runtime_folder", "runtime_path"]

KEPT_SESSIONS = 3


def runtime_path(home: Path) -> Path:
    """Return a short path for this COMPUTE_HOME: the path of a socket is limited to 107 bytes."""
    digest = hashlib.sha256(f"{os.geteuid()}:{home}".encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"compute-{digest}"


def runtime_folder(home: Path) -> Path:
    """Return the folder at that path, made if needed and closed to other users.

    Raises:
        StackError: another user has put something there.
    """
    folder = runtime_path(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise StackError(f"{folder} belongs to another user; remove it")
    folder.chmod(0o700)
    return folder


def ray_folder(runtime: Path) -> Path:
    """Return Ray's folder in it. Ray makes its folder and sockets accessible to all users, so it lies in a closed
    one."""
    return runtime / "r"


def discard_if_empty(folder: Path) -> None:
    """Remove the folder if it is empty, after a start that failed early."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def prune_sessions(runtime: Path) -> None:
    """Keep the logs of the last few runs only, also of runs before Ray had a folder of its own here."""
    found = [path for folder in (runtime, ray_folder(runtime)) for path in folder.glob("session_*")]
    sessions = [path for path in found if path.is_dir() and not path.is_symlink()]
    for old in sorted(sessions, key=lambda path: path.stat().st_mtime)[: -KEPT_SESSIONS or None]:
        shutil.rmtree(old, ignore_errors=True)
