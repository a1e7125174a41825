"""A Redis for each measurement, on a Unix socket, like Postgres in these benchmarks."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

__all__ = ["installed", "redis_server"]

_PATIENCE_SECONDS = 20.0
_DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def installed() -> bool:
    return shutil.which("redis-server") is not None


@contextmanager
def redis_server(home: Path, *, durable: bool) -> Iterator[Path]:
    """Start redis-server in `home` and yield the path of its socket. `durable` syncs its log before each answer."""
    home.mkdir(parents=True)
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed")
    socket = home / "redis.sock"
    settings = ["--port", "0", "--unixsocket", str(socket), "--dir", str(home), "--logfile", str(home / "redis.log")]
    process = subprocess.Popen([program, *settings, *(_DURABLE if durable else ())])  # noqa: S603
    try:
        _wait(socket, process)
        yield socket
    finally:
        process.terminate()
        process.wait(_PATIENCE_SECONDS)
        shutil.rmtree(home)


def _wait(socket: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with redis.Redis(unix_socket_path=str(socket)) as client:
                client.ping()
            return
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
