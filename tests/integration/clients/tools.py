"""Generators of clients, installed at fixed versions into a cache outside this repository.

Only an installation calls the package registries, once: where it cannot be made, tests are skipped and say why.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["node_tools", "python_tools", "run"]

PYTHON_PACKAGES = ("openapi-python-client==0.29.1", "mypy==2.4.1")
NODE_PACKAGES = {
    "@hey-api/openapi-ts": "0.99.0",
    "axios": "1.21.1",
    "openapi-typescript": "7.13.0",
    "orval": "8.38.0",
    "typescript": "5.9.3",
}


NOWHERE = "http://127.0.0.1:9"
OFFLINE = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1,localhost", "DO_NOT_TRACK": "1"}
"""A generator that looks for news of itself finds none."""


def run(*command: object, cwd: Path) -> str:
    """What a command prints; its failure fails the test with that."""
    offline = {name.lower(): value for name, value in OFFLINE.items()} | OFFLINE
    done = subprocess.run(  # noqa: S603
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def python_tools() -> Path:
    """The folder of a virtual environment's programs."""
    folder = _cached("python", [sys.version, *PYTHON_PACKAGES])
    if not (folder / "done").exists():
        _install(
            folder,
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "pip"), "install", "--quiet", *PYTHON_PACKAGES],
        )
    return folder / "bin"


def node_tools() -> Path:
    """The folder of a package's dependencies, `node_modules` among them."""
    folder = _cached("node", NODE_PACKAGES)
    if not (folder / "done").exists():
        package = {"name": "clients", "private": True, "type": "module", "dependencies": NODE_PACKAGES}
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        _install(folder, install, files={"package.json": json.dumps(package)})
    return folder


def _cached(kind: str, what: object) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    return cache / "compute-client-generators" / f"{kind}-{name}"


def _install(folder: Path, *commands: list[str], files: dict[str, str] | None = None) -> None:
    """Fill a folder of the cache; an installation that was cut short is begun anew."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        for command in commands:
            subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603
        (folder / "done").touch()
    except OSError as error:
        pytest.skip(f"The cache of client generators cannot be written: {error}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"`{' '.join(error.cmd)}` failed: {error.stderr.strip()[-500:]}")
