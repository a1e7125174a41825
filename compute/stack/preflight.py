"""What must hold before anything is started: checked in milliseconds, reported in one line."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

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
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError as error:
        raise StackError(f"COMPUTE_HOME={home} cannot be used: {error.strerror}") from error


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
