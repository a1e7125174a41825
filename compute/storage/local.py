"""Objects as files under one folder: for a single machine, or a shared file system."""

import io
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO

from compute.errors import Conflict, InvalidInput, NotFound, StorageFailed
from compute.storage.base import CHUNK_BYTES, StoredObject, chunk_sizes
from compute.storage.content_types import HEAD_BYTES, content_type_of
from compute.storage.files import atomic_file, disk_failure, sync_folder
from compute.storage.paths import RESERVED_PREFIX, clean_path, clean_prefix
from compute.storage.threads import StoreThreads

__all__ = ["LocalStore"]

# Inside the class, `list` is the method.
_Objects = list[StoredObject]


class LocalStore:
    """An `ObjectStore` in a folder. The type of an object is read from its bytes or its name.

    Unlike in S3, `a` and `a/b` cannot both exist. Symbolic links are no objects and lead nowhere.
    """

    def __init__(self, root: Path) -> None:
        """Store objects under `root`, which is created on first use."""
        self._root = root.resolve()
        self._threads = StoreThreads()

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        return await self._threads.run(self._put, clean_path(path), data)

    async def create(self, path: str, data: bytes | Path, content_type: str) -> StoredObject | None:
        return await self._threads.run(self._create, clean_path(path), data)

    async def move(self, path: str, destination: str) -> bool:
        return await self._threads.run(self._move, clean_path(path), clean_path(destination))

    async def get(self, path: str) -> bytes:
        return await self._threads.run(self._read, clean_path(path), 0, -1)

    async def read(self, path: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            raise ValueError("a range starts at 0 or later and has no negative length")
        return await self._threads.run(self._read, clean_path(path), start, length)

    async def stat(self, path: str) -> StoredObject | None:
        return await self._threads.run(self._stat, clean_path(path))

    async def list(
        self, prefix: str, limit: int, *, excluding: Callable[[str], bool] | None = None, after: str = ""
    ) -> list[StoredObject]:
        return await self._threads.run(self._list, clean_prefix(prefix), limit, excluding, after)

    async def delete(self, path: str) -> bool:
        return await self._threads.run(self._delete, clean_path(path))

    async def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise InvalidInput("An empty prefix would delete everything.", field="prefix")
        return await self._threads.run(self._delete_prefix, clean_prefix(prefix))

    async def download(self, path: str, destination: Path) -> None:
        await self._threads.run(self._download, clean_path(path), destination)

    async def url(self, path: str, expires_seconds: int) -> str | None:
        clean_path(path)
        return None

    async def path_of(self, url: str) -> str | None:
        return None

    async def stream(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range starts at 0 or later and has no negative length")
        key = clean_path(path)
        file = await self._threads.run(self._open, key)
        try:
            file.seek(start)
            for size in chunk_sizes(length):
                chunk = await self._threads.run(_read_chunk, file, size, key)
                if not chunk:
                    break
                yield chunk
        finally:
            file.close()

    async def check(self) -> None:
        await self._threads.run(self._check)

    async def close(self) -> None:
        """Does nothing: no resource is kept between calls."""

    def _put(self, path: str, data: bytes | Path, *, replace: bool = True) -> StoredObject:
        target = self._target(path)
        with (
            _writing(path),
            data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as source,
            # Durable, because a row in the database will refer to this object and survive a power cut.
            atomic_file(target, durable=True, replace=replace) as file,
        ):
            shutil.copyfileobj(source, file, CHUNK_BYTES)
        return self._written(path)

    def _written(self, path: str) -> StoredObject:
        stored = self._stat(path)
        if stored is None:
            raise StorageFailed(f"{path} was removed while it was written")
        return stored

    def _create(self, path: str, data: bytes | Path) -> StoredObject | None:
        # Checked first because the content may be big; atomic_file checks again when it has written all of it.
        if self._stat(path) is not None:
            return None
        try:
            return self._put(path, data, replace=False)
        except Conflict:
            if self._stat(path) is None:
                raise
            return None

    def _move(self, path: str, destination: str) -> bool:
        source, target = self._locate(path), self._target(destination)
        with _writing(destination):
            if source is None or not source.is_file():
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source.replace(target)
            except FileNotFoundError:
                if source.exists():
                    # A concurrent call deleted the last object of this folder, and the empty folder with it.
                    return self._move(path, destination)
                return False
            sync_folder(target.parent)
            self._prune(source.parent)
            return True

    def _target(self, path: str) -> Path:
        """The file of a clean path that is to be written."""
        target = self._locate(path)
        if target is None:
            raise StorageFailed(f"A symbolic link in the storage folder stands in the way of {path}.")
        return target

    def _open(self, path: str) -> IO[bytes]:
        target = self._locate(path)
        with _translated("reading", path):
            if target is None:
                raise FileNotFoundError
            return target.open("rb")

    def _read(self, path: str, start: int, length: int) -> bytes:
        with self._open(path) as file, _translated("reading", path):
            file.seek(start)
            return file.read(length)

    def _stat(self, path: str) -> StoredObject | None:
        try:
            with self._open(path) as file, _translated("reading", path):
                return _describe(path, os.fstat(file.fileno()), file.read(HEAD_BYTES))
        except NotFound:
            return None

    def _list(self, prefix: str, limit: int, excluding: Callable[[str], bool] | None, after: str) -> _Objects:
        with _translated("listing", prefix):
            wanted = (path for path in self._paths(prefix, after) if not (excluding and excluding(path)))
            # An object may have been deleted since its folder was read.
            described = (self._stat(path) for path in wanted)
            return list(islice((stored for stored in described if stored), max(limit, 0)))

    def _delete(self, path: str) -> bool:
        target = self._locate(path)
        with _translated("deleting", path):
            if target is None or not target.is_file():
                return False
            try:
                target.unlink()
            except FileNotFoundError:
                return False
            self._prune(target.parent)
            return True

    def _delete_prefix(self, prefix: str) -> int:
        with _translated("deleting", prefix):
            return sum(self._delete(path) for path in list(self._paths(prefix)))

    def _paths(self, prefix: str, after: str = "") -> Iterator[str]:
        """Paths of the objects under a clean prefix that sort after `after`. The folders above the prefix are not
        listed: one of them contains a folder for every task ever run."""
        folder = prefix.rpartition("/")[0]
        start = self._locate(folder) if folder else self._root
        return iter(()) if start is None else _walk(start, f"{folder}/" if folder else "", prefix, after)

    def _download(self, path: str, destination: Path) -> None:
        with (
            self._open(path) as source,
            _translated("downloading", path),
            atomic_file(destination, durable=False) as file,
        ):
            shutil.copyfileobj(source, file, CHUNK_BYTES)

    def _check(self) -> None:
        # A read-only mount or a full disk shows only when something is written.
        probe = self._root / f"{RESERVED_PREFIX}probe-{os.getpid()}"
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"ready")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise disk_failure("writing", "a probe", error) from error

    def _locate(self, path: str) -> Path | None:
        """The file of a clean path; None if a symbolic link is on the way."""
        target = self._root / path
        return target if Path(os.path.realpath(target)) == target else None

    def _prune(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                # Not empty (any more): this is where the tree of other objects begins.
                return
            folder = folder.parent


def _walk(folder: Path, key: str, prefix: str, after: str = "") -> Iterator[str]:
    """Yield the paths under `folder` that start with `prefix` and sort after `after`, in order; folders that cannot
    contain one are not opened."""
    try:
        with os.scandir(folder) as scan:
            # A folder sorts as `name/`, or `a/b` would come before `a.png` in one store and after it in the other.
            entries = sorted(
                (f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name, entry) for entry in scan
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, entry in entries:
        path = key + name
        if path <= after and not (name.endswith("/") and after.startswith(path)):
            continue
        if name.endswith("/"):
            if path.startswith(prefix) or prefix.startswith(path):
                yield from _walk(folder / name, path, prefix, after)
        elif path.startswith(prefix) and entry.is_file(follow_symlinks=False) and not name.startswith(RESERVED_PREFIX):
            yield path


def _describe(path: str, status: os.stat_result, head: bytes) -> StoredObject:
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError
    return StoredObject(
        path=path,
        size=status.st_size,
        content_type=content_type_of(head, path),
        # Every write creates a new file, so the inode distinguishes two writes within one tick of the clock.
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _read_chunk(file: IO[bytes], size: int, path: str) -> bytes:
    with _translated("reading", path):
        return file.read(size)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """Turn errors of the file system into `ComputeError`s while an object is written."""
    try:
        yield
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise Conflict(f"The path {path} runs through a file, or is a folder; choose another path.") from error
    except OSError as error:
        raise disk_failure("writing", path, error) from error


@contextmanager
def _translated(action: str, path: str) -> Iterator[None]:
    """Turn errors of the file system into `ComputeError`s."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"There is no object {path}.") from error
    except OSError as error:
        raise disk_failure(action, path, error) from error
