"""Checks before anything is started: done in milliseconds, reported in one line."""

import contextlib
import grp
import os
import random
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import psutil

from compute.db.embedded.system_user import NAME as SERVER_ACCOUNT
from compute.stack.errors import StackError
from compute.stack.messages.hints import pasteable

__all__ = ["check_disk", "check_port", "free_port", "permission_warning", "prepare_home"]

MIN_FREE_BYTES = 512 * 2**20
_OF_A_NEW_DISK = {"lost+found"}
_FIRST_PORT, _LAST_PORT = 20_000, 65_535
"""Below are the ports of well-known services, and those that Ray gives to workers where nobody says otherwise."""
_TRIES = 100
_named: set[int] = set()
"""Ports that this process has checked or chosen: whoever they are for may not listen on them yet."""


def prepare_home(home: Path) -> Path:
    """Make COMPUTE_HOME if needed and return its absolute path.

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


def permission_warning(home: Path) -> str | None:
    """Return a warning if other users may enter the home: new files in it are closed to them, the rest stays as it
    is."""
    found = home.stat()
    if found.st_uid != os.geteuid():
        return (
            f"COMPUTE_HOME={home} belongs to another user, who decides who may enter it. "
            "New files in it are closed to others."
        )
    if _others(found):
        return f"COMPUTE_HOME={home} is open to other users, and stays so. New files in it are closed to them."
    return None


def _close(home: Path) -> None:
    """Close the folder to other users, because it holds images, models and secrets. PostgreSQL's own account may enter.

    Only a folder that was empty is changed. An owner who opens it later, or keeps other things in it, has a reason.

    Raises:
        StackError: the folder is shared by all users, such as /tmp, or holds other files and others may write to it.
    """
    found = home.stat()
    if found.st_mode & stat.S_ISVTX:
        raise StackError(f"COMPUTE_HOME={home} is shared with other users; name a folder in it instead")
    others = _others(found)
    if found.st_uid != os.geteuid() or not others:
        return
    if {entry.name for entry in home.iterdir()} <= _OF_A_NEW_DISK:
        home.chmod(stat.S_IMODE(found.st_mode) & ~others)
    elif others & (stat.S_IWGRP | stat.S_IWOTH):
        raise StackError(
            f"COMPUTE_HOME={home} has other files in it, and other users may write to it; name a folder in it instead, "
            f"or close it with: {pasteable(['chmod', 'go=', str(home)])}"
        )


def _others(found: os.stat_result) -> int:
    """The permissions of users other than the owner and PostgreSQL's account."""
    group = stat.S_IRGRP | stat.S_IWGRP if found.st_gid == _server_group() else stat.S_IRWXG
    return found.st_mode & (stat.S_IRWXO | group)


def _server_group() -> int | None:
    try:
        return grp.getgrnam(SERVER_ACCOUNT).gr_gid
    except KeyError:
        return None


def check_disk(*folders: Path) -> None:
    """Check that there is enough free space.

    Raises:
        StackError: there is too little.
    """
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < MIN_FREE_BYTES:
            raise StackError(
                f"the disk is full: {free // 2**20} MiB left in {folder}, {MIN_FREE_BYTES // 2**20} MiB needed"
            )


def check_port(host: str, port: int, variable: str) -> None:
    """Check that the port is free. `variable` is the setting that chooses another.

    Raises:
        StackError: it is in use.
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
    _named.add(port)


def free_port() -> int:
    """Return a TCP port that is free at the moment and new to this process, and that the kernel gives to nobody who
    does not ask for it."""
    low, high = _given_ports()
    others = [port for port in range(_FIRST_PORT, _LAST_PORT + 1) if not low <= port <= high and port not in _named]
    for port in (*random.sample(others, min(len(others), _TRIES)), 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found: int = probe.getsockname()[1]
            _named.add(found)
            return found
    raise StackError("no TCP port is free")


def _given_ports() -> tuple[int, int]:
    """The ports that the kernel chooses from for clients, and for servers that ask for any."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 32768, 60999


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
