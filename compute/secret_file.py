"""A secret that nobody chose is made once and kept in a file that its owner alone can read."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["kept_secret"]


def kept_secret(file: Path, make: Callable[[], str]) -> str:
    """The content of `file`, made by `make` on first use.

    However many processes start at once, all of them get the same secret. It blocks on the disk: call it while
    starting.

    Raises:
        OSError: the file can be neither read nor made.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # A link appears whole or not at all, and whoever comes second fails and reads the first one's secret.
        with _complete_file(file, make()) as made, contextlib.suppress(FileExistsError):
            os.link(made, file)
    return file.read_text(encoding="utf-8").strip()


@contextmanager
def _complete_file(beside: Path, content: str) -> Iterator[Path]:
    """A temporary file in the same folder, written to the disk and readable by its owner only."""
    descriptor, name = tempfile.mkstemp(prefix=f".{beside.name}-", dir=beside.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        yield Path(name)
    finally:
        Path(name).unlink()
