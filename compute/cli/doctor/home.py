"""COMPUTE_HOME: the folder, its room, its secrets, and what a killed stack has left in it."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken, closed, warning
from compute.cli.doctor.registry import check
from compute.secrets.rules import checked_key, checked_link_secret, checked_webhook_secret, valid_at_once
from compute.stack.cluster.runtime import runtime_path
from compute.stack.lock import running_stack
from compute.stack.messages.hints import own_command, pasteable
from compute.stack.preflight import MIN_FREE_BYTES, permission_warning
from compute.stack.processes import leftovers

__all__: list[str] = []

_SECRETS = ("api_key", "admin_api_key", "link_secret", "webhook_secret", "ray_token", "postgres.password")
_RULES: dict[str, Callable[[str], object]] = {
    "api_key": checked_key,
    "admin_api_key": checked_key,
    "link_secret": partial(valid_at_once, check=checked_link_secret),
    "webhook_secret": partial(valid_at_once, check=checked_webhook_secret),
}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@check("home", "COMPUTE_HOME can be used, and is closed to others")
def folder(setup: Setup) -> Iterator[Finding]:
    """The folder can be made or written to, and belongs to us."""
    home = setup.home
    if (reason := closed(home)) is not None:
        yield broken(
            "home.unreachable",
            f"COMPUTE_HOME={home} cannot be looked into: {reason}",
            "Run commands as its owner, let this user enter it and the folders above it, or name another folder",
        )
        return
    if not home.is_dir():
        yield from _missing(home)
        return
    found = home.stat()
    if found.st_mode & stat.S_ISVTX:
        yield broken(
            "home.shared",
            f"COMPUTE_HOME={home} is shared with all users of this machine",
            f"Name a folder of its own: export COMPUTE_HOME={pasteable([str(home / 'compute')])}",
        )
    elif found.st_uid != os.geteuid():
        yield warning(
            "home.owner",
            f"COMPUTE_HOME={home} belongs to another user",
            f"Run commands as its owner (`sudo -u '#{found.st_uid}' …`), or name another folder",
        )
    elif permission_warning(home):
        yield warning(
            "home.open",
            f"COMPUTE_HOME={home} is open to other users, and holds images, models and secrets",
            f"Close it: chmod go= {pasteable([str(home)])}",
        )
    yield from _unwritable(home)


def _missing(home: Path) -> Iterator[Finding]:
    above = next(parent for parent in home.parents if parent.exists())
    if home.exists() or not above.is_dir() or not os.access(above, os.W_OK | os.X_OK) or _is_virtual(above):
        yield broken(
            "home.unmakeable",
            f"COMPUTE_HOME={home} cannot be made",
            f"Name one that you may make, or let root make it: install -d -m 700 -o $USER {pasteable([str(home)])}",
        )


def _is_virtual(folder: Path) -> bool:
    """Whether nobody, not even root, can make a folder there."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY) or folder == Path("/proc")


def _unwritable(home: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=home):
            return
    except OSError as error:
        yield broken(
            "home.unwritable",
            f"COMPUTE_HOME={home} cannot be written to: {error.strerror}",
            f"Mount it for writing, or give it to this user: chown $USER {pasteable([str(home)])}",
        )


@check("disk", "there is room on the disk of COMPUTE_HOME")
def disk(setup: Setup) -> Iterator[Finding]:
    """`compute up` does not start on a full disk, and PostgreSQL stops on one."""
    home = next(parent for parent in (setup.home, *setup.home.parents) if parent.is_dir())
    free = shutil.disk_usage(home).free
    if free < MIN_FREE_BYTES:
        yield broken(
            "disk.full",
            f"{free // 2**20} MiB are left in {home}, and {MIN_FREE_BYTES // 2**20} are needed",
            "Free some: docs/howto/recover-from-a-full-disk.md; `compute db prune --days 30` forgets what is old",
        )


@check("secret-files", "secrets in COMPUTE_HOME are strong, and closed to others")
def secret_files(setup: Setup) -> Iterator[Finding]:
    """What was generated is still as it was made."""
    for name in _SECRETS:
        file = setup.home / name
        if not file.is_file():
            continue
        if file.stat().st_mode & _OTHERS:
            yield broken(
                "secret-files.open",
                f"{file} can be read or changed by other users",
                f"chmod 600 {pasteable([str(file)])}; if others may have read it, see docs/howto/rotate-a-secret.md",
            )
    for name, rule in _RULES.items():
        yield from _weak(setup.home / name, rule)


def _weak(file: Path, rule: Callable[[str], object]) -> Iterator[Finding]:
    code = f"secret-files.{file.name.replace('_', '-')}"
    if file.exists() and not file.is_file():
        yield broken(code, f"{file} is no file", f"Move it away, and `compute up` makes a new secret: {file}")
    elif file.is_file() and os.access(file, os.R_OK):
        try:
            rule(file.read_text(encoding="utf-8").strip())
        except ValueError as error:
            yield broken(
                code,
                f"what is in {file} {'is no text' if isinstance(error, UnicodeError) else error}",
                f"Remove the file, and `compute up` makes a new one: rm {pasteable([str(file)])}",
            )


@check("leftovers", "no killed stack has left processes or a lock")
def killed(setup: Setup) -> Iterator[Finding]:
    """A supervisor that was killed leaves processes that hold its ports; `compute up` and `down` end them."""
    lock = setup.home / "supervisor.lock"
    if setup.stack is not None:
        if setup.stack.get("pid") is None:
            yield warning(
                "leftovers.unknown-holder",
                f"{lock} is held by a process that has not said which it is",
                f"Find it, and end it if it is no supervisor that starts: fuser {pasteable([str(lock)])}",
            )
        return
    if left := leftovers(setup.home, runtime_path(setup.home)):
        ids = ", ".join(str(process.pid) for process in left[:5])
        yield broken(
            "leftovers.processes",
            f"{len(left)} processes of a stack that was killed still run ({ids}{', …' if len(left) > 5 else ''})",
            f"End them: {own_command('down', home=setup.home)}",
        )
    elif lock.is_file() and lock.stat().st_size and running_stack(setup.home) is None:  # none started meanwhile
        yield warning(
            "leftovers.lock",
            f"{lock} is that of a stack that was killed; nothing of it runs",
            f"Nothing is to be done but to start it again: {own_command('up', home=setup.home)}",
        )
    if not lock.exists() and not setup.home.is_dir():
        raise Skipped("there is no COMPUTE_HOME yet")
