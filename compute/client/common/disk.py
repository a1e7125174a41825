"""Files on this disk: hashed, and written as a whole or not at all."""

import hashlib
import os
from pathlib import Path
from types import TracebackType

from compute.client.errors import IntegrityError

__all__ = ["PartFile", "digest_of"]

_CHUNK = 1024 * 1024


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class PartFile:
    """A file that is being received. It appears under its name when `finish` has found it to be right; until then it
    is a hidden one in the same folder, which goes when anything fails.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, to: Path) -> None:
        self._to = to
        self._part = to.with_name(f".{to.name[:50]}.{os.getpid()}.{id(self):x}.part")
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._opened = self._part.open("wb")
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()
        self._part.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add some bytes."""
        self._opened.write(data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what was written: the server begins anew."""
        self._opened.seek(0)
        self._opened.truncate()
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
        self._opened.flush()
        os.fsync(self._opened.fileno())
        self._opened.close()
        self._part.replace(self._to)
        return self._to
