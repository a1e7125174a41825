"""This machine: the installation, limits of processes, shared memory, GPUs."""

import resource
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from compute.cli.doctor.findings import Finding, Setup, Skipped, broken, warning
from compute.cli.doctor.registry import check

__all__ = ["installed_requirements"]

_PACKAGE = "compute"
_EXTRAS = ("", "server")
"""What a server needs of the package's extras."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Ray puts its objects
_FEWEST_FILES = 4096
_LEAST_SHARED = 512 * 2**20


@check("python", "this Python is supported")
def python(_: Setup) -> Iterator[Finding]:
    """The interpreter's version is one that the package names."""
    try:
        wanted = metadata(_PACKAGE).json.get("requires_python")
    except PackageNotFoundError:
        raise Skipped("the package is not installed, so it says nothing of Python's version") from None
    found = sys.version.split()[0]
    if wanted and not SpecifierSet(str(wanted)).contains(found.removesuffix("+")):
        yield broken(
            "python.version",
            f"Python {found} runs this, and {wanted} is needed",
            "Make a virtual environment with a supported one: make PYTHON=/path/to/python3.11 up",
        )


@check("packages", "the packages that a server needs are installed, in versions that fit")
def packages(_: Setup) -> Iterator[Finding]:
    """Every requirement of the package is installed, in a version that it allows and, in a checkout, that is pinned."""
    try:
        required = installed_requirements()
    except PackageNotFoundError:
        raise Skipped("the package is not installed, so it says nothing of others") from None
    pinned = _pins()
    for wanted in required:
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield broken("packages.missing", f"{wanted.name} is not installed", _install(wanted))
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield broken("packages.version", f"{wanted.name} is {found}, and {wanted} is needed", _install(wanted))
        elif (pin := pinned.get(_normal(wanted.name))) and Version(pin).public != Version(found).public:
            yield warning(
                "packages.pin",
                f"{wanted.name} is {found}, and constraints.txt, with which everything was tried, has {pin}",
                f"pip install '{wanted.name}=={pin}'",
            )


@check("open-files", "a process may open enough files")
def open_files(_: Setup) -> Iterator[Finding]:
    """Ray and the ingress hold a file descriptor for each connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FEWEST_FILES:
        can = hard == resource.RLIM_INFINITY or hard >= _FEWEST_FILES
        yield broken(
            "open-files.few",
            f"a process may open {soft} files, and {_FEWEST_FILES} are needed",
            "In the shell that starts the server: ulimit -n 65536"
            if can
            else "Raise the limit: `LimitNOFILE=65536` in a systemd unit, or a line in /etc/security/limits.conf",
        )


@check("shared-memory", "there is enough shared memory for Ray")
def shared_memory(_: Setup) -> Iterator[Finding]:
    """Ray keeps its objects there; in containers it is often 64 MiB."""
    if not _SHARED_MEMORY.is_dir():
        raise Skipped(f"this system has no {_SHARED_MEMORY}")
    total = shutil.disk_usage(_SHARED_MEMORY).total
    if total < _LEAST_SHARED:
        yield broken(
            "shared-memory.small",
            f"{_SHARED_MEMORY} has {total // 2**20} MiB, and {_LEAST_SHARED // 2**20} are needed",
            "Start the container with --shm-size=2g; on Kubernetes mount an emptyDir with `medium: Memory` there",
        )


def installed_requirements() -> list[Requirement]:
    """The requirements of an installed server.

    Raises:
        PackageNotFoundError: this package is not installed.
    """
    found = [Requirement(line) for line in requires(_PACKAGE) or ()]
    return [one for one in found if one.marker is None or any(one.marker.evaluate({"extra": name}) for name in _EXTRAS)]


def _pins() -> dict[str, str]:
    """The versions in constraints.txt, where this is a checkout of the project."""
    file = Path(__file__).parents[3] / "constraints.txt"
    if not file.is_file():
        return {}
    lines = [line.split("#")[0].split(";")[0].strip() for line in file.read_text().splitlines()]
    return {_normal(name): pin for name, _, pin in (line.partition("==") for line in lines) if pin}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _install(wanted: Requirement) -> str:
    return f"pip install '{wanted.name}{wanted.specifier}'; or `make .venv` again, which installs what is pinned"
