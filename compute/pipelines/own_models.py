"""The project's own models: written to local folders on first use, and again when a newer version builds them
differently. Folders with other or modified contents stay unchanged.

Each written folder has a manifest: the version of the model's sources, and the hash of every file. A folder that
matches its manifest may be replaced.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["MANIFEST", "OwnModel", "ensure_current", "is_current", "is_settled", "tiny_model"]

_log = logging.getLogger(__name__)

MANIFEST = ".made_by_compute.json"
_TINY_SOURCES = tuple(sorted(Path(__file__).with_name("tiny").glob("*.py")))
_SHIPPED = Path(__file__).with_name("shipped_before.json")
"""By model, the digests of folders written by versions without manifests."""


@dataclass(frozen=True, slots=True)
class OwnModel:
    """The recipe of one of these models.

    Attributes:
        build: Writes it into an empty folder.
        made_of: Files and folders of the package on which its content depends.
    """

    build: Callable[[Path], None]
    made_of: tuple[Path, ...]

    @property
    def version(self) -> str:
        """A digest of its sources."""
        return _digest_of(self.made_of)


def tiny_model(build: Callable[[Path], None]) -> OwnModel:
    """A model with random weights, which depend on the code that builds it."""
    return OwnModel(build, _TINY_SOURCES)


def is_current(folder: Path, model: OwnModel) -> bool:
    """Whether the folder contains this model as built by this version."""
    return _made_from(folder) == model.version


def is_settled(folder: Path, model: OwnModel) -> bool:
    """Whether `ensure_current` leaves the folder unchanged: it is current, or must not be replaced."""
    if is_current(folder, model):
        return True
    return (folder / "model_index.json").is_file() and not (_is_ours(folder) and os.access(folder.parent, os.W_OK))


def ensure_current(folder: Path, model: OwnModel) -> Path:
    """The folder of this model, as built by this version, or as modified by a user.

    Safe with any number of processes, and with one that ends in the middle: readers see a complete model, the old one
    or the new one, except for the moment between two renames.

    Raises:
        OSError: it cannot be written.
    """
    if is_current(folder, model):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_one_in(folder.parent):
        _sweep(folder)
        if (folder / "model_index.json").is_file():
            _replace_if_ours(folder, model)
        else:
            _write(folder, model)
    return folder


def _replace_if_ours(folder: Path, model: OwnModel) -> None:
    if is_current(folder, model):
        return
    if not _is_ours(folder):
        _log.info("%s is not as Compute made it, and stays; remove it to get this version's model", folder)
    elif not os.access(folder.parent, os.W_OK):
        _log.warning("%s is from another version, and stays: its folder cannot be written", folder)
    else:
        _write(folder, model)
        _log.info("%s is now the model of this version", folder)


def _write(folder: Path, model: OwnModel) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model.build(unfinished)
        manifest = {"version": model.version, "files": _hashes(unfinished)}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
        unfinished.chmod(0o755)
        if (folder / "model_index.json").is_file():
            # Processes that have the old files open keep them.
            folder.rename(unfinished.with_name(f"{unfinished.name}.old"))
        unfinished.rename(folder)
    finally:
        _sweep(folder)


def _made_from(folder: Path) -> object:
    """The version that the manifest names; None without a model."""
    return _manifest(folder).get("version") if (folder / "model_index.json").is_file() else None


def _is_ours(folder: Path) -> bool:
    """Whether no file was changed, added or removed since the folder was written."""
    found = _hashes(folder)
    noted = _manifest(folder).get("files")
    return found == noted if noted is not None else _digest(found) in _shipped_before().get(folder.name, ())


def _manifest(folder: Path) -> dict[str, object]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST)
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _digest(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


@cache
def _digest_of(paths: Sequence[Path]) -> str:
    hashes: dict[str, str] = {}
    for path in paths:
        inside = _hashes(path) if path.is_dir() else {"": hashlib.sha256(path.read_bytes()).hexdigest()}
        hashes |= {f"{path.name}/{name}": value for name, value in inside.items()}
    return _digest(hashes)


@cache
def _shipped_before() -> dict[str, list[str]]:
    shipped: dict[str, list[str]] = json.loads(_SHIPPED.read_text())
    return shipped


@contextmanager
def _only_one_in(folder: Path) -> Iterator[None]:
    """Within the block, no other thread or process is in it for this folder; a dead process releases its lock."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _sweep(folder: Path) -> None:
    """Remove the remains of an attempt, this one or that of a process that ended in the middle."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
