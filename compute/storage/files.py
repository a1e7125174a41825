"""Atomic writes of local files."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from compute.errors import StorageAway, StorageFailed
from compute.storage.paths import RESERVED_PREFIX

__all__ = ["atomic_file", "disk_failure", "sync_folder"]

_ATTEMPTS = 50
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# Errors of the path itself. All others are the disk's or the network file system's, and can be repaired: remounted
# read-only, a folder that is not mounted, changed permissions.
_REFUSED = frozenset(
    {errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}
)


@contextmanager
def atomic_file(destination: Path, *, durable: bool, replace: bool = True) -> Iterator[IO[bytes]]:
    """Write to a temporary file beside `destination`, which replaces it when the block ends without an error.

    With `durable` the content and its name are on disk, not only in the page cache, when this returns.

    Example:
        with atomic_file(Path("weights.safetensors"), durable=True) as file:
            file.write(data)

    Raises:
        OSError: the file cannot be written; nothing is left behind. Without `replace` it is a FileExistsError
            if there is something at `destination`.
    """
    temporary, handle = _open_beside(destination)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if replace:
            temporary.replace(destination)
        else:
            # Unlike a rename, a link never replaces a file; one of several concurrent calls wins.
            os.link(temporary, destination)
            temporary.unlink()
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(destination.parent)


def disk_failure(action: str, path: str, error: OSError) -> StorageFailed:
    """Turn an `OSError` into a message for operators. It names no machine path, because clients see it, too."""
    if error.errno in _FULL:
        return StorageAway(f"The disk is full ({action} {path}).")
    kind = StorageFailed if error.errno is None or error.errno in _REFUSED else StorageAway
    return kind(f"The file system failed {action} {path}: {error.strerror or type(error).__name__}.")


def _open_beside(destination: Path) -> tuple[Path, int]:
    folder = destination.parent
    temporary = folder / f"{RESERVED_PREFIX}{uuid.uuid4().hex}"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    for _ in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # 0o666 less the umask, like any file: tempfile's 0o600 would lock out other users' web servers.
            return temporary, os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            # A concurrent call deleted the last object of this folder, and the empty folder with it.
            continue
        except FileExistsError:
            # The same, between mkdir's two checks: that the path exists, and that it is a folder.
            if _is_no_folder(folder):
                raise
    raise FileNotFoundError(f"the folder of {destination.name} keeps disappearing")


def _is_no_folder(folder: Path) -> bool:
    """Whether the path, or one of its parents, exists and is no folder."""
    return any(path.exists() and not path.is_dir() for path in (folder, *folder.parents))


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
