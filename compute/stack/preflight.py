"""What must hold before anything is started: checked in milliseconds, reported in one line."""

import grp
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import psutil

from compute.db.system_user import NAME as SERVER_ACCOUNT
from compute.stack.errors import StackError

__all__ = ["check_disk", "check_port", "free_port", "prepare_home"]

MIN_FREE_BYTES = 512 * 2**20


def prepare_home(home: Path) -> Path:
    """Make COMPUTE_HOME if it is not there; its absolute path.

    Raises:
        StackError: it cannot be made or written to.
    """
    home = home.expanduser().absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(home)
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError as error:
        raise StackError(f"COMPUTE_HOME={home} cannot be used: {error.strerror}") from error


def _close(home: Path) -> None:
    """Shut other users out: pictures, models and secrets lie in it. PostgreSQL's own account may pass through.

    Raises:
        StackError: the folder is there for everybody, such as /tmp.
    """
    found = home.stat()
    if os.geteuid() not in {0, found.st_uid}:
        # Whoever owns it decides who gets in; what is made in it is closed in any case.
        return
    if found.st_mode & stat.S_ISVTX:
        raise StackError(f"COMPUTE_HOME={home} is shared with other users; name a folder in it instead")
    others = stat.S_IRWXO | (stat.S_IRGRP | stat.S_IWGRP if found.st_gid == _server_group() else stat.S_IRWXG)
    if found.st_mode & others:
        home.chmod(stat.S_IMODE(found.st_mode) & ~others)


def _server_group() -> int | None:
    try:
        return grp.getgrnam(SERVER_ACCOUNT).gr_gid
    except KeyError:
        return None


def check_disk(*folders: Path) -> None:
    """Make sure that there is room to work in.

    Raises:
        StackError: too little.
    """
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < MIN_FREE_BYTES:
            raise StackError(
                f"the disk is full: {free // 2**20} MiB left in {folder}, {MIN_FREE_BYTES // 2**20} MiB needed"
            )


def check_port(host: str, port: int, variable: str) -> None:
    """Make sure that nobody listens on this port. `variable` is the setting that chooses another.

    Raises:
        StackError: somebody does.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StackError(
                f"port {port} on {host} cannot be used: {_reason(error, port)}; free it, or set {variable}"
            ) from error


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


def _reason(error: OSError, port: int) -> str:
    reason = (error.strerror or os.strerror(error.errno or 0)).lower()
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return reason
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            return f"{reason} by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return reason
