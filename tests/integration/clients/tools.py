"""Generators of clients, installed at fixed versions into a cache outside this repository."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["node_tools", "python_tools", "run"]

PYTHON_PACKAGES = ("openapi-python-client==0.29.1", "mypy==2.4.1")
NODE_PACKAGES = {
    "@hey-api/openapi-ts": "0.99.0",
    "axios": "1.21.1",
    "openapi-typescript": "7.13.0",
    "orval": "8.38.0",
    "typescript": "5.9.3",
}


def run(*command: object, cwd: Path) -> str:
    """What a command prints; its failure fails the test with that."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def python_tools() -> Path:
    """The folder of a virtual environment's programs."""
    folder = _cached("python", [sys.version, *PYTHON_PACKAGES])
    if not (folder / "done").exists():
        _begin(folder)
        run(sys.executable, "-m", "venv", folder, cwd=folder)
        run(folder / "bin" / "pip", "install", "--quiet", *PYTHON_PACKAGES, cwd=folder)
        (folder / "done").touch()
    return folder / "bin"


def node_tools() -> Path:
    """The folder of a package's dependencies, `node_modules` among them."""
    folder = _cached("node", NODE_PACKAGES)
    if not (folder / "done").exists():
        _begin(folder)
        package = {"name": "clients", "private": True, "type": "module", "dependencies": NODE_PACKAGES}
        (folder / "package.json").write_text(json.dumps(package))
        run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
        (folder / "done").touch()
    return folder


def _cached(kind: str, what: object) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    return cache / "compute-client-generators" / f"{kind}-{name}"


def _begin(folder: Path) -> None:
    """An installation that was cut short is begun anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
