"""A system user for the embedded server, which refuses to run as root."""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["NAME", "SystemUser", "system_user"]

NAME = "pgserver"


@dataclass(frozen=True, slots=True)
class SystemUser:
    """An account that owns the server's data and nothing else."""

    uid: int
    gid: int

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def own_tree(self, folder: Path) -> None:
        if folder.exists() and folder.stat().st_uid != self.uid:
            for path in (folder, *folder.rglob("*")):
                self.own(path)

    def let_through(self, home: Path, binaries: Path) -> None:
        """Open the way to `home` and to the binaries: folders may be passed through, not listed."""
        if not home.stat().st_mode & stat.S_IXOTH:
            os.chown(home, -1, self.gid)
            _allow(home, stat.S_IXGRP)
        for folder in {*home.parents, *binaries.parents, binaries}:
            _allow(folder, stat.S_IXOTH)
        if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
            # Installed under a strict umask: the server's own files have to be opened up as well.
            for path in binaries.parent.rglob("*"):
                _allow(path, stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0))

    def popen_arguments(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "cwd": "/"}


def system_user() -> SystemUser | None:
    """The account to run the server as, made on first use; None when we are not root and need none.

    Raises:
        OSError: the account could not be made.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        entry = _create()
    return SystemUser(entry.pw_uid, entry.pw_gid)


def _create() -> pwd.struct_passwd:
    useradd = shutil.which("useradd") or "/usr/sbin/useradd"
    command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if result.returncode:
        raise OSError(f"useradd could not make the user {NAME}: {result.stderr.strip()}")
    return pwd.getpwnam(NAME)


def _allow(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(stat.S_IMODE(mode) | bits)
