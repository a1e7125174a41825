"""Files on this disk: hashed, and written as a whole or not at all."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from compute.client.errors import ArgumentError, IntegrityError

__all__ = ["Content", "PartFile", "SentFile", "content_of"]


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file: its size, and its SHA-256 in hex."""

    size: int
    sha256: str


def content_of(file: Path) -> Content:
    """What is in a file now.

    Raises:
        ArgumentError: it is none that could be read again, such as a pipe.
        OSError: it cannot be read.
    """
    kind = file.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ArgumentError(f"{file} is no regular file: read it, and pass its bytes")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return Content(opened.tell(), digest)


class SentFile:
    """A file as it is sent in a form: as many bytes as it had, and if its content is known, these.

    A file that has changed breaks the request off before its last bytes, so that the server has stored nothing.
    """

    def __init__(self, file: BinaryIO, content: Content | None) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size if content is None else content.size
        self._wanted = None if content is None else content.sha256
        self._hash = hashlib.sha256()
        self._at = 0

    def tell(self) -> int:
        """Where the next bytes come from."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to the beginning or the end, as is done to find the length."""
        self._at = self._size if whence == os.SEEK_END else offset
        self._file.seek(self._at)
        if self._at == 0:
            self._hash = hashlib.sha256()
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            IntegrityError: the file has changed.
        """
        left = self._size - self._at
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        self._hash.update(data)
        ends_early = not data and left > 0 and size != 0
        is_other = self._at == self._size and self._wanted not in (None, self._hash.hexdigest())
        if ends_early or is_other:
            raise IntegrityError("the file has changed while it was sent; nothing was stored")
        return data


class PartFile:
    """A file that is being received. It appears under its name when `finish` has found it to be right; until then it
    is a hidden one in the same folder, which goes when anything fails. Nothing is made before the first byte.

    What it replaces keeps its mode, and a symbolic link is followed.

    Attributes:
        size: Bytes so far.

    Raises:
        ArgumentError: there is a folder or a device, which no file can replace.
    """

    def __init__(self, to: str | Path) -> None:
        self._named = Path(to)
        self._to = self._named.resolve() if self._named.is_symlink() else self._named
        if self._to.is_dir() or str(to).endswith("/"):
            raise ArgumentError(f"{to} is a folder: name a file in it")
        if self._to.exists() and not self._to.is_file():
            raise ArgumentError(f"{to} is no regular file, and cannot be replaced by one")
        self._part = self._to.with_name(f".{self._to.name[:50]}.{os.getpid()}.{id(self):x}.part")
        self._opened: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._opened is not None:
            self._opened.close()
            self._part.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add some bytes."""
        self._file().write(data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what was written: the server begins anew."""
        self._file().seek(0)
        self._file().truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def finish(self, size: int | None, sha256: str | None) -> Path:
        """Give the file its name, and return that.

        Raises:
            IntegrityError: it has another size, or another SHA-256.
        """
        if size is not None and size != self.size:
            raise IntegrityError(f"{self._to.name} has {self.size} bytes; the server announced {size}")
        if sha256 is not None and self._hash.hexdigest() != sha256.lower():
            raise IntegrityError(f"{self._to.name} has the SHA-256 {self._hash.hexdigest()}; it should be {sha256}")
        file = self._file()
        file.flush()
        if self._to.exists():
            self._part.chmod(stat.S_IMODE(self._to.stat().st_mode))
        os.fsync(file.fileno())
        file.close()
        self._part.replace(self._to)
        return self._named

    def _file(self) -> BinaryIO:
        if self._opened is None:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._opened = self._part.open("wb")
        return self._opened
