"""Doors of a running stack: its files and sockets, its ports, its processes' environments."""

import contextlib
import ipaddress
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx
import psutil
import pytest

from compute.stack.cluster.runtime import runtime_path
from tests.acceptance.conftest import GIVEN_SECRETS, ROOT
from tests.acceptance.other_user import can_try, entered_by_nobody, open_by_mode
from tests.declared import check_response
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from tests.acceptance.conftest import Stack

ABSTRACT = ("@", "\x00")
T = TypeVar("T")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@pytest.fixture(scope="module")
def processes(stack: "Stack") -> list[psutil.Process]:
    """Every process of the stack."""
    assert stack.process is not None
    supervisor = psutil.Process(stack.process.pid)
    found = [supervisor, *supervisor.children(recursive=True)]
    names = " ".join(" ".join(line) for _, line in still(found, psutil.Process.cmdline))
    for part in ("gcs_server", "raylet", "haproxy", "postgres", "Ingress", "Dashboard"):
        assert part in names, part
    return found


def still(processes: list[psutil.Process], ask: Callable[[psutil.Process], T]) -> Iterator[tuple[psutil.Process, T]]:
    """What those processes answer that have not ended meanwhile, as a connection of the database's may."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield process, ask(process)


def names_of(path: Path) -> Iterator[Path]:
    """All that lies there, but for folders that go meanwhile."""
    yield path
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))


def mode_of(path: Path) -> int | None:
    """None for what is gone by now."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def in_use(processes: list[psutil.Process]) -> set[Path]:
    """The files, folders and sockets that the processes hold, but for software and devices."""

    def holds(process: psutil.Process) -> list[str]:
        sockets = [connection.laddr for connection in process.net_connections("unix") if connection.laddr]
        return [process.cwd(), *(file.path for file in process.open_files()), *sockets]

    found = set()
    for _, held in still(processes, holds):
        assert not [name for name in held if name.startswith(ABSTRACT)], "everybody may connect to these"
        found |= {Path(name) for name in held}
    return {path for path in found if not _is_software(path)}


def _is_software(path: Path) -> bool:
    places = (Path(sys.prefix), Path(sys.base_prefix), ROOT, Path("/dev"), Path("/proc"), Path("/sys"))
    return path == Path("/") or (
        any(path.is_relative_to(place) for place in places) and not path.is_relative_to(SHARED_MEMORY)
    )


def test_nobody_else_enters_a_folder_a_file_or_a_socket(stack: "Stack", processes: list[psutil.Process]) -> None:
    held = in_use(processes) - {stack.output}
    runtime = runtime_path(stack.home)
    assert {path.name for path in held} >= {"raylet", "plasma_store", "metrics.sock"}
    paths = {*held, *names_of(stack.home), *names_of(runtime)}
    assert len(paths) > 200
    if can_try():
        assert entered_by_nobody(paths) == []
    else:
        assert [str(path) for path in paths if open_by_mode(path)] == []


def test_the_folders_are_closed_whatever_lies_in_them(stack: "Stack") -> None:
    assert runtime_path(stack.home).stat().st_mode & 0o077 == 0
    # PostgreSQL's own account may pass through, and nobody else.
    assert stack.home.stat().st_mode & 0o067 == 0
    made = [place for place in stack.home.iterdir() if place.is_dir()]
    assert [place.name for place in made if place.stat().st_mode & 0o077] == []


def test_nothing_is_left_where_everybody_looks(stack: "Stack", processes: list[psutil.Process]) -> None:
    ours = (stack.home, runtime_path(stack.home))
    temporary = Path(tempfile.gettempdir())
    stray = [
        path
        for path in in_use(processes) - {stack.output}
        if path.is_relative_to(temporary) and not any(path.is_relative_to(place) for place in ours)
    ]
    assert [str(path) for path in stray if (mode_of(path) or 0) & 0o077] == []


def test_every_port_is_this_machines_own(processes: list[psutil.Process]) -> None:
    doors = []
    for process, connections in still(processes, lambda process: process.net_connections("inet")):
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN or (connection.laddr and not connection.raddr):
                address = ipaddress.ip_address(connection.laddr.ip)
                plain = getattr(address, "ipv4_mapped", None) or address
                doors.append((process.pid, str(plain), connection.laddr.port))
    assert len(doors) > 20
    assert [door for door in doors if not ipaddress.ip_address(door[1]).is_loopback] == []


def test_no_secret_is_in_an_environment_or_a_command_line(stack: "Stack", processes: list[psutil.Process]) -> None:
    kept = ("api_key", "link_secret", "webhook_secret", "ray_token", "postgres.password")
    secrets = {name: (stack.home / name).read_text().strip() for name in kept} | GIVEN_SECRETS
    found = []
    for process in processes:
        try:
            told = Path(f"/proc/{process.pid}/environ").read_bytes() + Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [(process.pid, name) for name, secret in secrets.items() if secret.encode() in told]
    assert found == []


def test_the_key_that_left_the_environment_works(stack: "Stack") -> None:
    headers = {"Authorization": f"Bearer {GIVEN_SECRETS['ADMIN_API_KEY']}"}
    admin = httpx.Client(headers=headers, timeout=PATIENCE, event_hooks={"response": [check_response]})
    with admin, stack.client() as plain:
        assert admin.get(f"{stack.url}/api/v1/tasks/").status_code == 200
        assert plain.post("/api/v1/admin/lora/upload").status_code == 403
        assert admin.post(f"{stack.url}/api/v1/admin/lora/upload").status_code not in {401, 403}
